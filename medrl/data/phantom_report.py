"""What a report says of a phantom: its sections, its grades, what is critical.

All of it follows from a world of `phantom_world`. The limits are made up and
short to say; no clinical guideline is meant. No record is made here.
"""

from collections.abc import Mapping

from medrl.data import phantom_world

# mm of the long diameter, beyond which a lesion is critical.
LIMITS = {'liver': 40., 'spleen': 40., 'right kidney': 25., 'left kidney': 25.}
RULE = 'Critical: over 40 mm, in a kidney over 25 mm.'
GRADES = ('small', 'medium', 'large')
GRADE_LIMITS = (25., 40.)        # mm, between the grades
MARGIN = 2.5                     # mm from a limit within which none is asked


def millimetres(lesion: phantom_world.Lesion, time: int = 0) -> float:
  """Long diameter now (0) or in the earlier study (1)."""
  return lesion.long * (lesion.earlier if time else 1.)


def is_critical(lesion: phantom_world.Lesion, time: int = 0) -> bool:
  return millimetres(lesion, time) > LIMITS[lesion.organ]


def critical(world: phantom_world.World, time: int = 0) -> bool:
  """Whether a study shows a lesion that is critical."""
  return any(is_critical(lesion, time) for lesion in world.lesions)


def grade(lesion: phantom_world.Lesion) -> str:
  """How large a lesion is now: one of GRADES."""
  return GRADES[sum(millimetres(lesion) > limit for limit in GRADE_LIMITS)]


def is_clear(world: phantom_world.World, time: int = 0) -> bool:
  """Whether no lesion is so near a limit that a pixel decides."""
  limits = {*LIMITS.values(), *GRADE_LIMITS}
  return all(abs(millimetres(lesion, time) - limit) >= MARGIN
             for lesion in world.lesions for limit in limits)


def findings(world: phantom_world.World) -> str:
  """The section, without a full stop."""
  organs = ', '.join(phantom_world.organs(world))
  return f'lesion in {organs}' if organs else 'no lesion'


def impression(world: phantom_world.World, time: int = 0) -> str:
  """The section; the study now is compared with the earlier one."""
  if not world.lesions:
    return 'normal'
  what = 'lesions' if len(world.lesions) > 1 else 'lesion'
  what = f'critical {what}' if critical(world, time) else what
  return what if time else f'{what}, {world.change}'


def sections(world: phantom_world.World, time: int, days: int
             ) -> Mapping[str, str]:
  """Name -> text of the sections of a study's report, in their order.

  Args:
    world: of the patient.
    time: 0 now, 1 in the earlier study.
    days: from the earlier study to the one now.
  """
  return {'comparison': 'none' if time else f'{days} days ago',
          'findings': findings(world),
          'impression': impression(world, time)}


def report(world: phantom_world.World, time: int, days: int) -> str:
  """The sections with their heads, in a line."""
  return ' '.join(f'{name.capitalize()}: {text}.' for name, text
                  in sections(world, time, days).items())
