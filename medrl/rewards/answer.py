"""Whether the answer of a completion is right, for every type of answer.

The answer is what stands in the last answer block; text outside it is never
searched, so reasoning cannot earn the reward. Format is judged elsewhere.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from medrl import types
from medrl.rewards import box
from medrl.rewards import lift
from medrl.rewards import number
from medrl.rewards import parse
from medrl.rewards import text as text_rules

_PARSERS: dict[str, Callable[[str], parse.Parsed | None]] = {
    'yesno': parse.yesno, 'int': parse.number, 'float': parse.number,
    'box': parse.box, 'boxes': parse.boxes, 'text': parse.text}


def read(record: types.Record, text: str) -> parse.Parsed | None:
  """Returns the answer in a completion's text, its span in that text, or None.

  The label of the record is not looked at.
  """
  block = parse.answer_block(text)
  if block is None:
    return None
  if record.answer_type == 'choice':
    found = parse.choice(block.value, record.options)
  else:
    found = _PARSERS[record.answer_type](block.value)
  if found is None:
    return None
  start = block.span[0]
  return dataclasses.replace(
      found, span=(found.span[0] + start, found.span[1] + start))


def prediction(record: types.Record, text: str) -> Any:
  """Returns the canonical answer in `text`, or None where there is none.

  An option's key, 'yes' or 'no', an int or float, a tuple (x1, y1, x2, y2), a
  tuple of those, or a string, by the record's answer type.
  """
  found = read(record, text)
  return None if found is None else found.value


def agreement(record: types.Record, value: Any, target: Any, *,
              box_metric: str = 'iou', text_metric: str = 'exact') -> float:
  """Returns how well `value` agrees with `target`, in [0, 1].

  Equality for choice, yesno and int; the record's tolerance for float; IoU for
  box and the mean IoU of an optimal matching for boxes; text by normalised
  equality. 'giou' is (1 + GIoU) / 2, so that no parsed box earns less than an
  answer that could not be parsed; 'f1' is the token F1.

  Raises:
    ValueError: a metric is unknown.
  """
  if box_metric not in ('iou', 'giou') or text_metric not in ('exact', 'f1'):
    raise ValueError(
        f'box_metric {box_metric!r}, text_metric {text_metric!r}: expected '
        "'iou' or 'giou', and 'exact' or 'f1'")
  kind = record.answer_type
  if kind == 'float':
    return number.within(value, target, record.tolerance)
  if kind == 'text':
    rule = text_rules.exact if text_metric == 'exact' else text_rules.f1
    return rule(value, target)
  pair = box.iou if box_metric == 'iou' else _unit_giou
  if kind == 'box':
    return pair(value, target)
  if kind == 'boxes':
    return box.matched(value, target, pair)
  return float(value == target)


def _unit_giou(a: box.Box, b: box.Box) -> float:
  return (1.0 + box.giou(a, b)) / 2.0


def correct(record: types.Record, text: str) -> float | None:
  """Returns how right the answer in `text` is; None where it is unparsed.

  1.0 or 0.0 for discrete types, (mean matched) IoU for boxes.

  Raises:
    ValueError: the record's answer is hidden.
  """
  return _judge(record, text)


@lift.per_completion
def score(record: types.Record, text: str, *, box_metric: str = 'iou',
          text_metric: str = 'exact') -> float | None:
  """Rewards the right answer; as a reward, (record, completions, context).

  Values and options are those of `agreement`; an unparsed answer earns 0 and
  is False in `Score.parsed`.

  Raises:
    ValueError: the record's answer is hidden, or a metric is unknown.
  """
  return _judge(record, text, box_metric=box_metric, text_metric=text_metric)


def _judge(record: types.Record, text: str, **metrics: str) -> float | None:
  if record.answer is None:
    raise ValueError(
        f'record {record.id!r} has no answer (answer=None); a reward that '
        'compares with the label needs one, a label-free one does not')
  value = prediction(record, text)
  if value is None:
    return None
  return agreement(record, value, record.answer, **metrics)
