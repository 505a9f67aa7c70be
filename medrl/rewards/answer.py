"""Whether the answer of a completion is right, for every type of answer.

The answer is what stands in the last answer block; text outside it is never
searched, so reasoning cannot earn the reward. Format is judged elsewhere. To
abstain is an outcome of its own: neither an answer nor unparsed.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from medrl import types
from medrl.rewards import abstain
from medrl.rewards import box
from medrl.rewards import dates
from medrl.rewards import labels
from medrl.rewards import lift
from medrl.rewards import number
from medrl.rewards import ordinal
from medrl.rewards import text as text_rules
from medrl.rewards.parse import blocks
from medrl.rewards.parse import boxes
from medrl.rewards.parse import choice
from medrl.rewards.parse import dates as date_parsers
from medrl.rewards.parse import number as numbers
from medrl.rewards.parse import polar
from medrl.rewards.parse import quantity
from medrl.rewards.parse import spans

_OPTIONS = ('choice', 'choices', 'ordinal')
_METRICS = {'box_metric': ('iou', 'giou'),
            'text_metric': tuple(text_rules.METRICS),
            'choices_metric': labels.METRICS, 'labels_metric': labels.METRICS,
            'ordinal_metric': ordinal.METRICS}


class _Kind(NamedTuple):
  """How answers of a type are read and compared."""
  # (record, content of the answer block) -> reading or None
  read: Callable[[types.Record, str], spans.Parsed | None]
  # (record, value, target, metrics) -> agreement in [0, 1]
  agree: Callable[[types.Record, Any, Any, Mapping[str, str]], float]


def read(record: types.Record, text: str) -> spans.Parsed | None:
  """Returns the answer in a completion's text, its span in that text, or None.

  None is also returned for an abstention, so that a vote cannot be won by one.
  The label of the record is not looked at.
  """
  block = blocks.answer(text)
  found = block and _reading(record, block.value)
  if found is None or found.how == abstain.HOW:
    return None
  return spans.shifted(found, block.span[0])


def prediction(record: types.Record, text: str) -> Any:
  """Returns the canonical answer in `text`, or None where there is none.

  As the answer of such a record (see `types.Record`), with tuples for lists:
  keys of options in their order (choices), sorted names (labels), sorted pairs
  of finding and state (states). All can be hashed and written as JSON.
  """
  found = read(record, text)
  return None if found is None else found.value


def agreement(record: types.Record, value: Any, target: Any, *,
              box_metric: str = 'iou', text_metric: str = 'exact',
              choices_metric: str = 'exact', labels_metric: str = 'jaccard',
              ordinal_metric: str = 'exact') -> float:
  """Returns how well `value` agrees with `target`, in [0, 1].

  Equality for choice, yesno, yesnomaybe, int, date and duration; the record's
  tolerance for float, quantity and dimensions; its limits for interval, if
  `target` is its own answer, and else its tolerance; IoU for box and the mean
  IoU of an optimal matching for boxes. 'giou' is (1 + GIoU) / 2, so that no
  parsed box earns less than an answer that could not be parsed. The others are
  of `text.METRICS`, `labels.METRICS` (choices, labels, states) and
  `ordinal.METRICS`.

  Raises:
    ValueError: a metric is unknown.
  """
  metrics = {'box_metric': box_metric, 'text_metric': text_metric,
             'choices_metric': choices_metric, 'labels_metric': labels_metric,
             'ordinal_metric': ordinal_metric}
  for name, metric in metrics.items():
    if metric not in _METRICS[name]:
      raise ValueError(f'{name} {metric!r}: expected one of {_METRICS[name]}')
  return _KINDS[record.answer_type].agree(record, value, target, metrics)


def correct(record: types.Record, text: str) -> float | None:
  """Returns how right the answer in `text` is; None where it is unparsed.

  1.0 or 0.0 for discrete types, (mean matched) IoU for boxes, the Jaccard index
  of labels and states. An abstention is 1.0 where the answer is
  `types.UNANSWERABLE` and 0.0 elsewhere; any answer to such a record is 0.0.

  Raises:
    ValueError: the record's answer is hidden.
  """
  return _judge(record, text, {})[0]


@lift.per_completion
def score(record: types.Record, text: str, *, box_metric: str = 'iou',
          text_metric: str = 'exact', choices_metric: str = 'exact',
          labels_metric: str = 'jaccard', ordinal_metric: str = 'exact',
          abstained: float = 0.0) -> float | None:
  """Rewards the right answer; as a reward, (record, completions, context).

  Metrics are those of `agreement`; an unparsed answer earns 0 and is False in
  `Score.parsed`. An abstention earns `abstained`, and 1 where the answer is
  `types.UNANSWERABLE`.

  Raises:
    ValueError: the record's answer is hidden, or a metric is unknown.
  """
  value, gone = _judge(record, text, {
      'box_metric': box_metric, 'text_metric': text_metric,
      'choices_metric': choices_metric, 'labels_metric': labels_metric,
      'ordinal_metric': ordinal_metric})
  return abstained if gone and not value else value


def ternary(record: types.Record, completions: list[types.Completion],
            context: Mapping[str, Any], *, right: float = 1.0,
            abstained: float = 0.0, wrong: float = -1.0) -> types.Score:
  """Rewards the right answer, and to abstain before the wrong one.

  `right` for a right answer (also an abstention where the record is
  `types.UNANSWERABLE`), `abstained` for another abstention, `wrong` for a wrong
  answer and, lest it pay to garble one, for an unparsed one; an answer that is
  right to a degree lies between. The numbers are proposed. Range: that of the
  three. Part 'abstained' is 1 where the writer abstained.

  Raises:
    ValueError: the record's answer is hidden.
  """
  del context
  judged = [_judge(record, c.text, {}) for c in completions]
  total = tuple(
      abstained if gone and not value
      else wrong + (right - wrong) * (value or 0.0) for value, gone in judged)
  return types.Score(
      total, {'ternary': total,
              'abstained': tuple(float(gone) for _, gone in judged)},
      tuple(value is not None for value, _ in judged), (True,) * len(total))


ternary.per_completion = True


def _judge(record: types.Record, text: str,
           metrics: Mapping[str, str]) -> tuple[float | None, bool]:
  """Returns how right the answer is, and whether the writer abstained.

  The first is None where the answer is unparsed.
  """
  gold = record.answer
  if gold is None:
    raise ValueError(
        f'record {record.id!r} has no answer (answer=None); a reward that '
        'compares with the label needs one, a label-free one does not')
  block = blocks.answer(text)
  if block is None:
    return None, False
  if record.answer_type == 'text' and abstain.found(gold):
    found = spans.text(block.value)   # 'unknown' is the text asked for
  else:
    found = _reading(record, block.value)
  if found is None:
    return None, False
  unanswerable = gold == types.UNANSWERABLE and record.answer_type != 'text'
  if found.how == abstain.HOW or unanswerable:
    gone = found.how == abstain.HOW
    return float(gone and unanswerable), gone
  return agreement(record, found.value, gold, **metrics), False


def _reading(record: types.Record, content: str) -> spans.Parsed | None:
  """Reads an answer or, `how` being `abstain.HOW`, an abstention.

  What names an option is no abstention; anything else is, be it with a number
  ('cannot be calculated without the 2 values').
  """
  read_it = _KINDS[record.answer_type].read
  if record.answer_type in _OPTIONS:
    return read_it(record, content) or abstain.found(content)
  return abstain.found(content) or read_it(record, content)


def _choices(record: types.Record, content: str) -> spans.Parsed | None:
  found = choice.choices(content, record.options)
  return found and spans.Parsed(
      tuple(k for k in record.options if k in found.value), found.span,
      found.how)


def _interval(record: types.Record, value: float, target: float,
              metrics: Mapping[str, str]) -> float:
  del metrics
  # The limits surround the record's own answer, not another writer's.
  if 'limits' in record.meta and target == record.answer:
    return number.inside(value, *record.meta['limits'])
  return number.within(value, target, record.tolerance)


def _boxes(record: types.Record, value: Any, target: Any,
           metrics: Mapping[str, str]) -> float:
  pair = box.pair(metrics['box_metric'])
  if record.answer_type == 'box':
    return pair(value, target)
  return box.matched(value, target, pair)


def _by(parser: Callable[[str], spans.Parsed | None]):
  """A parser that needs no more than the content."""
  return lambda record, content: parser(content)


def _option(record: types.Record, content: str) -> spans.Parsed | None:
  return choice.choice(content, record.options)


def _duration(record: types.Record, value: Any, target: Any,
              metrics: Mapping[str, str]) -> float:
  del record, metrics
  return float(dates.total_days(value) == dates.total_days(target))


def _equal(record: types.Record, value: Any, target: Any,
           metrics: Mapping[str, str]) -> float:
  del record, metrics
  return float(value == target)


def _within(record: types.Record, value: float, target: float,
            metrics: Mapping[str, str]) -> float:
  del metrics
  return number.within(value, target, record.tolerance)


_KINDS: dict[str, _Kind] = {
    'choice': _Kind(_option, _equal),
    'choices': _Kind(_choices, lambda r, v, t, m: labels.agreement(
        v, t, m['choices_metric'])),
    'ordinal': _Kind(_option, lambda r, v, t, m: ordinal.agreement(
        v, t, list(r.options), m['ordinal_metric'])),
    'yesno': _Kind(_by(polar.yesno), _equal),
    'yesnomaybe': _Kind(_by(polar.yesnomaybe), _equal),
    'int': _Kind(_by(numbers.number), _equal),
    'float': _Kind(_by(numbers.number), _within),
    'interval': _Kind(_by(numbers.number), _interval),
    'quantity': _Kind(number.read, _within),
    'dimensions': _Kind(
        lambda r, c: quantity.dimensions(c, r.unit),
        lambda r, v, t, m: number.all_within(v, t, r.tolerance)),
    'date': _Kind(_by(date_parsers.date), _equal),
    'duration': _Kind(_by(date_parsers.duration), _duration),
    'labels': _Kind(_by(labels.read), lambda r, v, t, m: labels.agreement(
        labels.names(v), labels.names(t), m['labels_metric'])),
    'states': _Kind(_by(labels.read_states), lambda r, v, t, m:
                    labels.agreement(labels.pairs(v), labels.pairs(t),
                                     m['labels_metric'])),
    'box': _Kind(_by(boxes.box), _boxes),
    'boxes': _Kind(_by(boxes.boxes), _boxes),
    'text': _Kind(_by(spans.text), lambda r, v, t, m: text_rules.METRICS[
        m['text_metric']](v, t)),
}
