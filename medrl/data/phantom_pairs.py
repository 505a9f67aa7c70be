"""Phantom images that are nearly the same, with different answers.

Each record has a partner: the same patient with one lesion gone, on the other
side, or smaller, and not a pixel changed elsewhere, noise included. Question
and options are the same for both, as in MediConfusion (arXiv 2409.15477), so
who answers by the question alone is wrong for one of them. Phantom, no clinical
data.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import itertools
import math

import numpy as np

from medrl import types
from medrl.data import phantom_answers
from medrl.data import phantom_report
from medrl.data import phantom_tasks
from medrl.data import phantom_world

EDITS = ('gone', 'moved', 'smaller')
STREAM = 14                      # of its random numbers
_TWINS = {'liver': 'spleen', 'spleen': 'liver', 'right kidney': 'left kidney',
          'left kidney': 'right kidney'}
_DIFFICULTY = phantom_world.Difficulty()


@dataclasses.dataclass(frozen=True)
class Member:
  """One of a pair: the world as it is (`which` 0) or as it was edited (1).

  `limit` is a size in mm between those of the lesion before and after.
  """
  seed: int
  index: int
  worlds: tuple[phantom_world.World, phantom_world.World]
  edit: str
  limit: int
  which: int

  @property
  def world(self) -> phantom_world.World:
    return self.worlds[self.which]


def member(seed: int, index: int, edit: str, which: int) -> Member | None:
  """One of a pair of a patient; None where there is no such edit of him."""
  world = phantom_world.world(seed, index)
  other = edited(world, edit)
  if other is None:
    return None
  longest = max(lesion.long for lesion in world.lesions)
  limit = round(longest / math.sqrt(phantom_world.FACTOR))
  return Member(seed, index, (world, other), edit, limit, which)


def edited(world: phantom_world.World, edit: str) -> phantom_world.World | None:
  """The world with one lesion changed; None where there is none, or no room.

  Args:
    world: of a patient.
    edit: 'gone', 'moved' to the like organ of the other side, at a place there
      of its own, or 'smaller' by FACTOR around the same centre.
  """
  if not world.lesions:
    return None
  rng = np.random.default_rng(
      (world.seed, world.index, STREAM, 3, 1 + EDITS.index(edit)))
  at = int(rng.integers(len(world.lesions)))
  lesion, rest = world.lesions[at], list(world.lesions)
  del rest[at]
  if edit == 'smaller':
    scale = 1 / phantom_world.FACTOR
    rest.append(dataclasses.replace(lesion, long=lesion.long * scale,
                                    short=lesion.short * scale))
  elif edit == 'moved':
    twin = _TWINS[lesion.organ]
    organ = next(o for o in world.organs if o.name == twin)
    size = round(phantom_world.pixels(world, lesion))
    if (twin in [other.organ for other in rest]
        or size > phantom_world.capacity(organ, _DIFFICULTY)):
      return None
    moved = phantom_world.place(rng, organ, size, world.spacing)
    rest.append(dataclasses.replace(
        lesion, organ=twin, x=moved.x, y=moved.y, earlier=1.))
  return dataclasses.replace(world, lesions=phantom_world.ordered(rest),
                             change='unchanged')


def render(path: str, root: str) -> np.ndarray:
  """Draws `phantom/<seed>/<index>/<edit>/<0 as it is, 1 as edited>`.

  Returns:
    uint8 [112, 112, 3]; of 0, the image of `phantom.render`.

  Raises:
    ValueError: a path of another form, or no such edit of the patient.
  """
  del root
  seed, index, tail = phantom_tasks.patient(path, f'({"|".join(EDITS)})/[01]')
  edit, which = tail.split('/')
  found = member(seed, index, edit, int(which))
  if found is None:
    raise ValueError(f'{path!r}: no lesion of this patient can be {edit}')
  return phantom_world.draw(found.world, 0)


def misread(state: Member, task: str) -> Member:
  """The image as a hasty reader sees it: see `phantom_world.misread`."""
  name = 'count' if _EDITS[task] == 'gone' else 'side'
  return dataclasses.replace(state, worlds=tuple(
      phantom_world.misread(world, name) for world in state.worlds))


def _media(state: Member, name: str) -> tuple[types.Media, ...]:
  del name
  return types.Media(
      f'phantom/{state.seed}/{state.index}/{state.edit}/{state.which}',
      'medrl.data.phantom_pairs.render'),


def _meta(state: Member) -> dict[str, object]:
  return {'critical': phantom_report.critical(state.world), 'edit': state.edit}


def _lone(of):
  """A stratum of patients with one lesion; None for others."""
  return lambda state: of(state) if len(state.worlds[0].lesions) == 1 else None


def _asked(name: str):
  """The answer to a question of `phantom_answers`."""
  return lambda state: phantom_answers.answer(name, state.world)


def _organ(state: Member) -> str:
  return state.world.lesions[0].organ


def _listed(state: Member) -> list[phantom_tasks.Step]:
  return [phantom_tasks.listed(phantom_world.organs(state.world))]


def _sided(state: Member) -> list[phantom_tasks.Step]:
  side = phantom_answers.answer('side', state.world)
  return [*_listed(state), (f'Side {side}', (side,))]


def _counted(state: Member) -> list[phantom_tasks.Step]:
  text = f'Count {len(state.world.lesions)}'
  return [*_listed(state), (text, (text,))]


def _over(state: Member) -> str:
  return 'yes' if state.world.lesions[0].long > state.limit else 'no'


def _sized(state: Member) -> list[phantom_tasks.Step]:
  lesion, spacing = state.world.lesions[0], state.world.spacing
  size = f'{lesion.long:.0f} mm'
  verdict = 'over' if _over(state) == 'yes' else 'under'
  return [(f'{lesion.long / spacing:.0f} px x {spacing:g} mm = {size}',
           (size,)), (f'This is {verdict} {state.limit} mm', (verdict,))]


def _third(state: Member) -> int:
  """The third of the range of sizes, as for 'diameter'."""
  return phantom_answers.stratum('diameter', state.worlds[0], _DIFFICULTY)


_TASKS = {
    'pair/present': phantom_tasks.Task(
        lambda state: 'Is there a lesion?', 'yesno', phantom_world.ORGANS,
        _lone(_organ), _asked('present'), _listed),
    'pair/side': phantom_tasks.Task(
        lambda state: 'Patient side of the lesion?', 'choice',
        ('left', 'right'), _lone(_asked('side')), _asked('side'), _sided,
        options=('left', 'right')),
    'pair/organ': phantom_tasks.Task(
        lambda state: 'Which organ has the lesion?', 'choice',
        phantom_world.ORGANS, _lone(_organ), _organ, _listed,
        options=phantom_world.ORGANS),
    'pair/size': phantom_tasks.Task(
        lambda state: f'Spacing {state.world.spacing:g} mm. Is the lesion over '
                      f'{state.limit} mm?', 'yesno', (0, 1, 2), _lone(_third),
        _over, _sized),
    'pair/count': phantom_tasks.Task(
        lambda state: 'How many lesions?', 'int', (1, 2, 3),
        lambda state: len(state.worlds[0].lesions), _asked('count'), _counted),
}
_EDITS = {'pair/present': 'gone', 'pair/side': 'moved', 'pair/organ': 'moved',
          'pair/size': 'smaller', 'pair/count': 'gone'}
FAMILY = phantom_tasks.Family(
    STREAM, _TASKS, misread, _media, meta=_meta,
    tail=lambda state: f'/{state.edit}/{state.which}')
TASKS = tuple(_TASKS)


def records(root: str, split: str, *, count: int, seed: int = 0,
            tasks: Sequence[str] = TASKS, demonstration_error: float = 0.,
            trace: bool = True, permute: bool = True) -> Iterator[types.Record]:
  """Records in pairs, one after the other; as `phantom_tasks.records`.

  `meta['pair']` holds the id of the partner and its answer, which is what
  `rewards.consistency.paired` reads. The first of a pair is either member. Of
  an odd `count` the last is left without its partner.
  """
  del root
  phantom_tasks.check(split, tasks, TASKS, demonstration_error)
  style = phantom_tasks.Style(demonstration_error, trace, permute)
  pairs = _pairs(seed, split, tasks, style)
  return itertools.islice(itertools.chain.from_iterable(pairs), count)


def _pairs(seed, split, tasks, style) -> Iterator[list[types.Record]]:
  index = phantom_tasks.FIRST[split]
  for number in itertools.count():
    turn, which = divmod(number, len(tasks))
    name = tasks[which]
    task, edit = FAMILY.tasks[name], _EDITS[name]
    first = phantom_tasks.find(
        name, functools.partial(member, edit=edit, which=0), task.stratum, seed,
        index, task.strata[turn % len(task.strata)])
    index = first.index + 1
    both = [phantom_tasks.record(
        FAMILY, name, dataclasses.replace(first, which=i), style)
            for i in range(2)]
    both = [_tied(one, other) for one, other in (both, both[::-1])]
    rng = np.random.default_rng((seed, first.index, STREAM, 4))
    yield both[::-1] if rng.random() < .5 else both


def _tied(record: types.Record, other: types.Record) -> types.Record:
  pair = {'id': other.id, 'answer': other.answer}
  return dataclasses.replace(record, meta={**record.meta, 'pair': pair})
