"""Host values that cross a folder border, and the dimension legend.

Legend: `P` prompts, `G` completions a prompt, `S` prompt length, `T`
completion length, `N` media patches, `U` soft tokens (`N / merge**2`), `D`
width, `L` layers, `H` query heads, `K` key heads, `V` vocabulary.

Values that live on device are NamedTuples of arrays, so that they are pytrees
without importing jax; values that live on the host are frozen dataclasses.
This file loads no jax.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

ANSWER_TYPES = (
    'choice', 'choices', 'ordinal', 'yesno', 'yesnomaybe', 'int', 'float',
    'interval', 'quantity', 'dimensions', 'date', 'duration', 'labels',
    'states', 'box', 'boxes', 'text')

# The answer to a question that what is shown leaves open: to abstain is right.
UNANSWERABLE = 'N/A'
# Of a finding; 'not mentioned' is a blank and says nothing about its absence.
STATES = ('positive', 'negative', 'uncertain', 'not mentioned')


@dataclasses.dataclass(frozen=True)
class Media:
  """A medium of a record, read when it is needed and never before.

  `loader` is the dotted name of `f(path, root, **options)`, which gives an
  image, uint8 [h, w, 3]; a tuple of them (slices of a volume, views); a `Clip`;
  or a `Signal`. Only data-set code writes `loader`; a path that comes from a
  user's file is read by the default one, below the data root, which chooses
  the reader by what the file is.
  """
  path: str
  loader: str = 'medrl.media.medium.load'
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Clip:
  """Frames in time order, of a video or a cine loop.

  `frames` is uint8 [n, h, w, 3]; `times` float64 [n], seconds from the start
  of the recording, increasing.
  """
  frames: Any
  times: Any


@dataclasses.dataclass(frozen=True)
class Signal:
  """Samples of several leads: `values` float32 [leads, samples] in `unit`.

  `rate` is in samples a second; `leads` names the rows. A sample that was not
  recorded is nan.
  """
  values: Any
  rate: float
  leads: tuple[str, ...]
  unit: str = 'mV'


@dataclasses.dataclass(frozen=True)
class Record:
  """One question about one patient, with what is needed to check an answer.

  `answer` by `answer_type`:

    choice      a key of `options`
    choices     keys of `options`, kept as a tuple in their order
    ordinal     a key of `options`, whose order is that of the grades
    yesno       'yes' or 'no'
    yesnomaybe  'yes', 'no' or 'maybe'
    int, float  a number; right within `tolerance`, int exactly
    interval    a number; right from low to high, `meta['limits']`
    quantity    a number in `unit`; right within `tolerance`
    dimensions  numbers in `unit`, in any order, each within `tolerance`
    date        'YYYY-MM-DD'
    duration    (weeks, days)
    labels      names, in any order
    states      finding -> one of `STATES`
    box         [x1, y1, x2, y2] in pixels of the first image
    boxes       a list of those
    text        a string

  It is None where it is hidden (label-free rewards, records to be predicted),
  and `UNANSWERABLE` where what is shown does not determine it (all types that
  are neither options nor text). `unit` is part of the question, and so is
  known where the answer is hidden; `meta` is not. `demonstration` is a
  completion to imitate in supervised training, '' for none. `tolerance` holds
  `rel` and/or `abs`. `meta` holds what rewards need beside; it is logged with
  rollouts, so nothing that names a patient belongs there.

  `subject` is the patient, `study` an examination of the patient, `site` the
  institution and `date` ('YYYY-MM-DD') the day of the study: '' where unknown.
  Splits and checks for overlap read them; they are never logged.

  Raises:
    ValueError: the answer type is unknown, the answer is not among the
      options, a unit is missing, or limits are missing or reversed.
  """
  id: str
  question: str
  answer: Any
  answer_type: str
  media: tuple[Media, ...] = ()
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)
  tolerance: Mapping[str, float] = dataclasses.field(default_factory=dict)
  subject: str = ''
  source: str = ''
  task: str = ''
  demonstration: str = ''
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  unit: str = ''
  study: str = ''
  site: str = ''
  date: str = ''

  def __post_init__(self):
    kind = self.answer_type
    if kind not in ANSWER_TYPES:
      raise ValueError(
          f'record {self.id!r}: answer_type {kind!r} is unknown; '
          f'expected one of {", ".join(ANSWER_TYPES)}')
    if kind in ('quantity', 'dimensions') and not self.unit:
      raise ValueError(f'record {self.id!r}: answer_type {kind!r} has no unit; '
                       'give the one of the answer, such as mm')
    if self.answer is None:
      return
    if kind in ('choice', 'choices', 'ordinal'):
      self._check_options()
    elif kind == 'interval' and self.answer != UNANSWERABLE:
      self._check_limits()

  def _check_options(self):
    several = self.answer_type == 'choices'
    if several and isinstance(self.answer, str):
      raise ValueError(f'record {self.id!r}: answer {self.answer!r} is a '
                       'string; expected a list of keys of the options')
    keys = self.answer if several else (self.answer,)
    if any(key not in self.options for key in keys):
      raise ValueError(
          f'record {self.id!r}: answer {self.answer!r} is not among the '
          f'options {sorted(self.options)}')
    if several:
      # One form for sets and lists, and one that JSON can hold.
      object.__setattr__(
          self, 'answer', tuple(k for k in self.options if k in keys))

  def _check_limits(self):
    limits = self.meta.get('limits', ())
    if len(limits) != 2 or not limits[0] <= limits[1]:
      raise ValueError(
          f'record {self.id!r}: meta has limits {limits!r}; answer_type '
          "'interval' needs meta['limits'] = (low, high) with low <= high")


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a model family turns images into patches and text into ids.

  Pixels: `patch` is a patch's side, `merge` patches a side make one soft
  token, `temporal` frames make one patch, `window` is the side of an attention
  window. An image is resized so that its area lies in
  [`min_pixels`, `max_pixels`] and its sides are multiples of `patch * merge`.
  `specials` maps a role to a token: image_pad, video_pad, vision_start,
  vision_end, im_start, im_end (ends a completion), pad. A second of a clip is
  `tokens_per_second` positions.
  """
  patch: int
  merge: int
  temporal: int
  window: int
  min_pixels: int
  max_pixels: int
  specials: Mapping[str, str]
  tokens_per_second: float = 2.


class Patches(NamedTuple):
  """A media stream: the images of a prompt (or of P prompts) as patches.

  A clip's patches of `Layout.temporal` frames are an image each.

  Shapes are those of one prompt; in a `Batch` each has a leading P. Patches of
  one merged unit are neighbours (`merge**2` in a row), units of one attention
  window too, and windows are packed whole into rows of
  `(window / patch)**2` patches, so `N` is a multiple of that.
  """
  values: Any    # uint8 [N, temporal * patch * patch * 3], by frame, row,
                 # column and channel, not normalised; in an Example [N, frames,
                 # patch * patch * 3], where one frame is a still's for all
  coords: Any    # int32 [N, 2]: the patch's row and column in its image
  window: Any    # int32 [N]: attention window, from 1; 0 is padding
  image: Any     # int32 [N]: image, from 1; 0 is padding
  slot: Any      # int32 [U]: place of the soft token in S; S itself is padding


@dataclasses.dataclass(frozen=True)
class Example:
  """A record ready for the device, unpadded; or the reason why it is not.

  `ids` int32 [S], `positions` int32 [S, 3] (temporal, row, column), `media`
  stream name -> Patches, `target` int32 [T] (the demonstration, ended), and
  `prompt` the rendered text with one image token per soft token left out.
  `skipped` holds (id, reason) of each bad record that this one stands in for.
  """
  record: Record
  ids: Any = None
  positions: Any = None
  media: Mapping[str, Patches] = dataclasses.field(default_factory=dict)
  target: Any = None
  prompt: str = ''
  valid: bool = True
  reason: str = ''
  skipped: tuple[tuple[str, str], ...] = ()


class Batch(NamedTuple):
  """P prompts of one bucket. Pads are at the right and masked."""
  ids: Any         # int32 [P, S]
  positions: Any   # int32 [P, S, 3]
  mask: Any        # bool [P, S]
  media: Any       # stream name -> Patches, each leaf with a leading P
  budget: Any = None   # int32 [P]: tokens a completion may have; None where
                       # the length of the rollout bounds all


class Packed(NamedTuple):
  """Whole examples, prompt and demonstration, several in a row.

  `prompt` holds both; tokens see those of their own segment alone, and only
  what is in `target` is learned.
  """
  prompt: Any      # Batch of R rows
  segments: Any    # int32 [R, S]: example in the row, from 1; 0 is padding
  target: Any      # bool [R, S]: token of a demonstration


class Rollout(NamedTuple):
  """What the policy wrote, and what it thought of it while writing."""
  prompt: Any        # Batch
  tokens: Any        # int32 [P, G, T]
  action_mask: Any   # bool [P, G, T]: True where the policy wrote the token
  token_mask: Any    # bool [P, G, T]: True where there is a token at all
  positions: Any     # int32 [P, G, T, 3]
  logps: Any         # float32 [P, G, T] at temperature 1, as the scorer's
  drawn_logps: Any   # float32 [P, G, T] of what was drawn from: at the sampling
                     # temperature, truncated, penalised
  entropy: Any       # float32 [P, G, T] nats, at temperature 1
  finished: Any      # bool [P, G]: ended by a stop, not by the budget
  passes: Any        # int32 [P, G]: iterations that the sampler spent on it
  capacity: Any      # float32 [P]: iterations times slots that there were,
                     # shared out evenly; the passes' share of it is slot use
  captured: Any      # float32 [P, G, T, n]: log-probs of the ids asked for


class TrainBatch(NamedTuple):
  """A rollout and all the update needs to know about it."""
  rollout: Any        # Rollout
  advantages: Any     # float32 [P, G, T]
  weights: Any        # float32 [P, G, T]: loss weight, 0 on masked tokens
  old_logps: Any      # float32 [P, G, T]
  ref_logps: Any      # float32 [P, G, T]; zeros when no KL is asked for
  teacher_logps: Any  # float32 [P, G, T]; zeros when none is distilled
  clip_scale: Any     # float32 [P, G]: multiplies the clip range
  kl_scale: Any       # float32 [P, G]: multiplies the weight of the KL
  source: Any = None  # int32 [R, M]: rows that completions are packed into for
                      # scoring; None where each has its own


@dataclasses.dataclass(frozen=True)
class Completion:
  """One completion as a reward sees it.

  `spans[i]` is the character range `(start, end)` in `text` of token `ids[i]`
  (of the sampled ids, never of a second tokenisation). `signals` holds what the
  rewards' `needs` asked for, by name.
  """
  text: str
  ids: tuple[int, ...] = ()
  spans: tuple[tuple[int, int], ...] = ()
  finish: str = 'stop'     # 'stop' or 'length'
  signals: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Score:
  """Rewards of one prompt's G completions: numbers, and where they come from.

  `parts` holds each term before weighting; `parsed[i]` tells whether an answer
  was found at all, apart from whether it was right; `errors` counts terms that
  raised. `spans[i]` holds `(start, end, value)` for stretches of completion i's
  text that earned or lost something by themselves, for credit by token.
  """
  total: tuple[float, ...]
  parts: Mapping[str, tuple[float, ...]] = dataclasses.field(
      default_factory=dict)
  parsed: tuple[bool, ...] = ()
  valid: tuple[bool, ...] = ()
  errors: int = 0
  spans: tuple[tuple[tuple[int, int, float], ...], ...] = ()


Reward = Callable[[Record, list[Completion], Mapping[str, Any]], Score]
