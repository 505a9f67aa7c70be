"""What the readers need of a DICOM header, as values that name nobody.

It knows where classic and enhanced objects say the same thing: how stored
values become measured ones, which windows show them, where in the patient a
frame lies and when it was taken. It reads no file (see `dicom_tags`) and
decodes no pixels (see `dicom`).
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import itertools
from typing import Any

import numpy as np

from medrl.media import dicom_tags
from medrl.media import windows

# More is a damaged header; an hour of fluoroscopy has as many.
MAX_FRAMES = 1 << 16
# Modalities whose images usually carry text that a person typed or the
# scanner drew: ultrasound, endoscopy, photographs, fluoroscopy, screen shots.
MARKED = frozenset(('US', 'IVUS', 'BDUS', 'ES', 'XC', 'GM', 'XA', 'RF', 'SC',
                    'OT', 'DOC'))
# Conversion Type of screens, films and drawings that were digitised.
SCANNED = frozenset(('DF', 'DI', 'DRW', 'SD', 'SI', 'WSD'))
_SECONDARY_CAPTURE = '1.2.840.10008.5.1.4.1.1.7'


@dataclasses.dataclass(frozen=True)
class Frame:
  """Of one frame: how values are to be read, and where and when it lies.

  What is measured is `slope * value + intercept` (HU on CT), and `voi` are the
  windows to show it by. `spacing` is the distance of (rows, columns) in mm; at
  the detector, and so larger than in the patient, where `projected`.
  `position` is the centre of the first pixel, and `orientation` the directions
  along a row (columns growing) and along a column (rows growing), on axes that
  run to the patient's left, back and head (LPS), in mm. `time` is in seconds
  from the first frame. What the header does not say is None.
  """
  slope: float = 1.
  intercept: float = 0.
  voi: tuple[windows.Window, ...] = ()
  spacing: tuple[float, float] | None = None
  projected: bool = False
  position: tuple[float, ...] | None = None
  orientation: tuple[float, ...] | None = None
  thickness: float | None = None
  time: float | None = None


@dataclasses.dataclass(frozen=True)
class Header:
  """What is read of a header.

  `photometric` is that of the file; `padding` the range of stored values that
  measure nothing; `burnt_in` what the header says about text in the pixels,
  None where it says nothing, and `suspicion` why there may be some all the
  same, '' for no reason. `modality`, `body`, `view`, `laterality` and
  `towards` (Patient Orientation: where rows and columns run) are code words,
  '' or () where missing. `numbers` are those that may put images in order:
  see `NUMBERS`. `series` and `instance` are hashes.
  """
  modality: str
  rows: int
  columns: int
  frames: tuple[Frame, ...]
  photometric: str
  samples: int
  bits: int
  high_bit: int
  padding: tuple[float, float] | None
  modality_lut: windows.Lut | None
  voi_lut: windows.Lut | None
  burnt_in: bool | None
  suspicion: str
  syntax: str
  body: str
  view: str
  laterality: str
  towards: tuple[str, ...]
  numbers: dict[str, float]
  series: str
  instance: str


NUMBERS = ('SeriesNumber', 'InstanceNumber', 'TemporalPositionIdentifier',
           'TriggerTime', 'EchoNumbers', 'AcquisitionNumber')


def header(found: Any) -> Header:
  """The header of a dataset that `dicom_tags` read.

  Raises:
    ValueError: it is no image, or a tag holds what it may not.
  """
  modality = _word(found, 'Modality')
  rows, columns = (_integer(found, k, 0) for k in ('Rows', 'Columns'))
  if rows <= 0 or columns <= 0:
    raise ValueError(f'it is no image (its modality is '
                     f'{modality or "not given"}): it has no rows and columns')
  bits = _integer(found, 'BitsStored', _integer(found, 'BitsAllocated', 0))
  said = _word(found, 'BurnedInAnnotation')
  numbers = {k: dicom_tags.first(found, k) for k in NUMBERS}
  return Header(
      modality=modality, rows=rows, columns=columns, frames=_frames(found),
      photometric=_word(found, 'PhotometricInterpretation'),
      samples=_integer(found, 'SamplesPerPixel', 1), bits=bits,
      high_bit=_integer(found, 'HighBit', bits - 1), padding=_padding(found),
      modality_lut=_lut(found, 'ModalityLUTSequence'),
      voi_lut=_lut(found, 'VOILUTSequence'),
      burnt_in={'YES': True, 'NO': False}.get(said),
      suspicion='' if said == 'NO' else _suspicion(found, modality),
      syntax=dicom_tags.named(found),
      body=_word(found, 'BodyPartExamined'),
      view=_word(found, 'ViewPosition'),
      laterality=(_word(found, 'ImageLaterality')
                  or _word(found, 'Laterality')),
      towards=dicom_tags.words(found, 'PatientOrientation'),
      numbers={k: v for k, v in numbers.items() if v is not None},
      series=_hashed(found, 'SeriesInstanceUID'),
      instance=_hashed(found, 'SOPInstanceUID'))


def normal(orientation: Sequence[float]) -> np.ndarray:
  """The direction through a frame, float64 [3], LPS (PS3.3 C.7.6.2.1.1)."""
  a, b, c, d, e, f = orientation   # `numpy.cross` is slow for one vector
  return np.array([b * f - c * e, c * d - a * f, a * e - b * d])


def ordered(frames: Sequence[Frame]) -> list[int]:
  """Indices of frames in the order of their positions along the normal.

  Where several lie at one position (time points), the first of each come
  first, then the second of each. Frames without positions, or of several
  orientations, keep the order of the file.
  """
  kept = list(range(len(frames)))
  if len({f.orientation for f in frames}) != 1 or any(
      f.position is None or f.orientation is None for f in frames):
    return kept
  along = normal(frames[0].orientation)
  depths = [round(float(along @ f.position), 3) for f in frames]
  seen, turns = {}, []
  for depth in depths:
    turns.append(seen.get(depth, 0))
    seen[depth] = turns[-1] + 1
  return sorted(kept, key=lambda i: (turns[i], depths[i]))


def _frames(found: Any) -> tuple[Frame, ...]:
  """One for each frame, of the per-frame groups where there are any."""
  count = _integer(found, 'NumberOfFrames', 1)
  if not 1 <= count <= MAX_FRAMES:
    raise ValueError(f'it says that it has {count} frames; expected 1 to '
                     f'{MAX_FRAMES}')
  times = _times(found, count)
  whole = _described(Frame(spacing=_ultrasound(found)), found)
  dose = dicom_tags.first(found, 'DoseGridScaling')
  if dose:
    whole = dataclasses.replace(whole, slope=dose)
  shared = dicom_tags.items(found, 'SharedFunctionalGroupsSequence')
  for group in shared[:1]:
    whole = _grouped(whole, group)
  own = dicom_tags.items(found, 'PerFrameFunctionalGroupsSequence')
  if len(own) == count:
    frames = [_grouped(whole, group) for group in own]
  else:
    frames = _offset(whole, dicom_tags.numbers(found, 'GridFrameOffsetVector'),
                     count)
  if times is None:
    return tuple(frames)
  return tuple(dataclasses.replace(frame, time=time)
               for frame, time in zip(frames, times))


def _offset(whole: Frame, offsets: Sequence[float], count: int) -> list[Frame]:
  """Planes of a dose grid (PS3.3 C.8.8.3.2): at offsets along the normal."""
  if len(offsets) != count or not whole.position or not whole.orientation:
    return [whole] * count
  if offsets[0]:   # offsets are then coordinates, not distances
    offsets = [x - offsets[0] for x in offsets]
  along = normal(whole.orientation)
  return [dataclasses.replace(whole, position=tuple(
      float(x) for x in np.add(whole.position, offset * along)))
          for offset in offsets]


def _grouped(frame: Frame, group: Any) -> Frame:
  """The frame as a functional group (PS3.3 C.7.6.16) describes it."""
  for keyword in ('PixelMeasuresSequence', 'PlanePositionSequence',
                  'PlaneOrientationSequence', 'FrameVOILUTSequence',
                  'PixelValueTransformationSequence'):
    for item in dicom_tags.items(group, keyword)[:1]:
      frame = _described(frame, item)
  for item in dicom_tags.items(group, 'TemporalPositionSequence')[:1]:
    time = dicom_tags.first(item, 'TemporalPositionTimeOffset')
    frame = dataclasses.replace(frame, time=time)
  return frame


def _described(frame: Frame, found: Any) -> Frame:
  """The frame with what the tags of this level say of it."""
  said = {}
  for name, keyword in (('slope', 'RescaleSlope'),
                        ('intercept', 'RescaleIntercept'),
                        ('thickness', 'SliceThickness')):
    said[name] = dicom_tags.first(found, keyword)
  if said['slope'] == 0:   # written where nothing is to be rescaled
    said['slope'] = None
  said['voi'] = _windows(found) or None
  for name, keyword, length in (('position', 'ImagePositionPatient', 3),
                                ('orientation', 'ImageOrientationPatient', 6)):
    several = dicom_tags.numbers(found, keyword)
    said[name] = several if len(several) == length else None
  if said['orientation'] and np.linalg.norm(
      normal(said['orientation'])) < 0.5:
    said['orientation'] = None   # parallel or no directions at all
  for projected, keyword in ((True, 'ImagerPixelSpacing'),
                             (False, 'PixelSpacing')):
    several = dicom_tags.numbers(found, keyword)
    if len(several) == 2 and min(several) > 0:
      said.update(spacing=several, projected=projected)
  said = {k: v for k, v in said.items() if v is not None}
  return dataclasses.replace(frame, **said) if said else frame


def _ultrasound(found: Any) -> tuple[float, float] | None:
  """Spacing of (rows, columns), mm, that all regions share (C.8.5.5.1)."""
  spacings = set()
  for region in dicom_tags.items(found, 'SequenceOfUltrasoundRegions'):
    units = [_integer(region, f'PhysicalUnits{axis}Direction', 0)
             for axis in 'YX']
    deltas = [dicom_tags.first(region, f'PhysicalDelta{axis}') or 0.
              for axis in 'YX']
    if units == [3, 3] and all(deltas):   # 3 is cm; others are time, velocity
      spacings.add(tuple(10 * abs(delta) for delta in deltas))
  return spacings.pop() if len(spacings) == 1 else None


def _windows(found: Any) -> tuple[windows.Window, ...]:
  function = _word(found, 'VOILUTFunction') or 'LINEAR'
  least = 1 if function == 'LINEAR' else 1e-6
  if function not in windows.FUNCTIONS:
    raise ValueError(f'VOI LUT Function {function!r} is unknown')
  pairs = zip(dicom_tags.numbers(found, 'WindowCenter'),
              dicom_tags.numbers(found, 'WindowWidth'))
  # A width of 0 is written where there is no window.
  return tuple(windows.Window(c, w, function) for c, w in pairs if w >= least)


def _times(found: Any, count: int) -> list[float] | None:
  """Seconds of each frame of a cine; None where it is none (C.7.6.5)."""
  if count == 1:
    return None
  steps = dicom_tags.numbers(found, 'FrameTimeVector')
  if len(steps) == count and all(step > 0 for step in steps[1:]):
    # The first increment leads to the first frame and is no interval.
    return list(itertools.accumulate(
        (x / 1000 for x in steps[1:]), initial=0.))
  step = dicom_tags.first(found, 'FrameTime')
  rate = (dicom_tags.first(found, 'CineRate')
          or dicom_tags.first(found, 'RecommendedDisplayFrameRate'))
  if not step and rate:
    step = 1000 / rate
  if not step or step < 0:
    return None
  return [i * step / 1000 for i in range(count)]


def _padding(found: Any) -> tuple[float, float] | None:
  value = dicom_tags.first(found, 'PixelPaddingValue')
  if value is None:
    return None
  limit = dicom_tags.first(found, 'PixelPaddingRangeLimit')
  other = value if limit is None else limit
  return min(value, other), max(value, other)


def _lut(found: Any, keyword: str) -> windows.Lut | None:
  """The table of a sequence (PS3.3 C.11.1.1.1); None where there is none."""
  for item in dicom_tags.items(found, keyword)[:1]:
    described = dicom_tags.numbers(item, 'LUTDescriptor')
    data = item.get('LUTData')
    if len(described) != 3 or not data:
      raise ValueError(f'{keyword} has no descriptor of three numbers, or no '
                       f'data')
    count, start, bits = (int(x) for x in described)
    count = count or 1 << 16
    if isinstance(data, bytes):
      wide = len(data) >= 2 * count
      little = found.original_encoding[1] is not False
      values = np.frombuffer(data, f'{"<" if little else ">"}u2' if wide
                             else 'u1')
    else:
      values = np.atleast_1d(np.asarray(data, np.int64)).astype(np.uint16)
    if len(values) < count or not 1 <= bits <= 16:
      raise ValueError(f'{keyword} has {len(values)} values of {bits} bits; '
                       f'its descriptor says {count}')
    return windows.Lut(start, values[:count].astype(np.uint16), bits)
  return None


def _suspicion(found: Any, modality: str) -> str:
  """Why pixels may hold text, if the header does not say that they do not."""
  if _word(found, 'BurnedInAnnotation') == 'YES':
    return 'the header says so'
  if modality in MARKED:
    return f'images of modality {modality} usually do'
  if _word(found, 'ConversionType') in SCANNED:
    return 'it was digitised from film, paper or a screen'
  if (str(found.get('SOPClassUID') or '').startswith(_SECONDARY_CAPTURE)
      or 'SCREEN SAVE' in dicom_tags.words(found, 'ImageType')):
    return 'it is a secondary capture, as screen shots are'
  return ''


def _integer(found: Any, keyword: str, default: int) -> int:
  value = dicom_tags.first(found, keyword)
  return default if value is None else int(value)


def _word(found: Any, keyword: str) -> str:
  return next(iter(dicom_tags.words(found, keyword)), '')


def _hashed(found: Any, keyword: str) -> str:
  """Tells equal from unequal; cannot be turned back by whoever lacks UIDs."""
  uid = str(found.get(keyword) or '')
  if not uid:
    return ''
  return hashlib.blake2s(uid.encode(), digest_size=6, salt=b'medrl').hexdigest()
