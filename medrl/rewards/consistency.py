"""Rewards for agreeing with oneself, and for looking at the image.

None of them asks whether an answer is right, but where they say so: a model
that is wrong consistently earns them in full. Malformed text should earn none,
so put them behind a format reward's gate.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import math
from typing import Any

import numpy as np

from medrl import types
from medrl.rewards import abstain
from medrl.rewards import answer
from medrl.rewards import findings
from medrl.rewards import floor
from medrl.rewards import graded
from medrl.rewards import lift
from medrl.rewards import report
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

# Differences of log-probabilities are cut here: a masked view may give -inf.
_MOST = 20.0


def _signal(record: types.Record, completion: types.Completion, name: str
            ) -> Any:
  if name not in completion.signals:
    raise ValueError(f'record {record.id!r}: the signal {name} is missing; '
                     f'there are {sorted(completion.signals)}')
  return completion.signals[name]


def _read(record: types.Record, text: str) -> spans.Parsed | None:
  return answer.read(record, text) if text else None


@lift.declare(label_free=True, needs=('rederived_answer',))
@graded.per_completion
def rederived(record: types.Record, completion: types.Completion
              ) -> graded.Grade:
  """Rewards an answer that follows from the reasoning alone, in [0, 1].

  r_RA of CAPO (arXiv 2506.12849), proposed (the paper's own was not found): the
  agreement of the answer with the one a frozen reference gives to the question
  and the reasoning, without image. Reads the signal `rederived_answer`, a text
  with an answer block. The span is the answer, 1 or less. Unparsed without an
  answer of one's own; 0 if the reference finds none. Writing the answer into
  the reasoning earns it.

  Raises:
    ValueError: the signal is missing.
  """
  again = _signal(record, completion, 'rederived_answer')
  own = _read(record, completion.text)
  if own is None:
    return graded.Grade(None)
  other = _read(record, again)
  value = 0.0 if other is None else answer.agreement(
      record, own.value, other.value)
  return graded.Grade(value, ((*own.span, value),))


@lift.declare(label_free=True, needs=('token_logps', 'logps/masked'))
@graded.per_completion
def image_gap(record: types.Record, completion: types.Completion, *,
              tau: float = 0.1) -> graded.Grade:
  """Rewards reasoning that the image makes likelier, in [0, 1].

  r_PR of CAPO (arXiv 2506.12849), proposed (the paper's own was not found):
  sigmoid(d / tau) with d the mean over the think block's tokens of
  log p(token | image) - log p(token | masked image). Reads the signals
  `token_logps` and `logps/masked`, [tokens] in nats. Spans are these tokens'
  texts with their own differences, cut to [-1, 1]. Unparsed without tokens in a
  think block, or if a log-probability is NaN. Reciting what the image shows
  earns it, used or not; 0.5 means that the image made no difference.

  Raises:
    ValueError: a signal is missing or has another length than the ids, or
      `tau` is not positive.
  """
  if not tau > 0:
    raise ValueError(f'tau {tau!r}: expected a number above 0')
  pair = [np.asarray(_signal(record, completion, name), np.float64)
          for name in ('token_logps', 'logps/masked')]
  size = len(completion.ids)
  if any(p.shape != (size,) for p in pair) or len(completion.spans) != size:
    raise ValueError(f'log-probabilities of shape {[p.shape for p in pair]} '
                     f'and {len(completion.spans)} spans for {size} ids')
  think = blocks.think(completion.text)
  if think is None:
    return graded.Grade(None)
  inside = np.array([a < think.span[1] and b > think.span[0]
                     for a, b in completion.spans], bool)
  seen, masked = (np.maximum(p[inside], -1e3) for p in pair)
  gaps = np.clip(seen - masked, -_MOST, _MOST)
  if not len(gaps) or np.isnan(gaps).any():
    return graded.Grade(None)
  places = [s for s, i in zip(completion.spans, inside) if i]
  marks = tuple((a, b, float(np.clip(g, -1.0, 1.0)))
                for (a, b), g in zip(places, gaps) if b > a)
  return graded.Grade(_sigmoid(float(gaps.mean()) / tau), marks)


def _sigmoid(x: float) -> float:
  x = max(-700.0, min(700.0, x))
  return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else (
      math.exp(x) / (1.0 + math.exp(x)))


def pair_scores(pairs: Sequence[tuple[Any, Any, Any, Any]]) -> dict[str, float]:
  """Returns MediConfusion's figures (arXiv 2409.15477) over image pairs.

  'set' and 'individual' accuracy, 'confusion' (same valid answer to both
  images, of the pairs with two valid answers), 'invalid' (share of answers) and
  'precision' (right pairs of those that are valid and not the same). Chance is
  0.25 and 0.5 for two options. Empty denominators give 0.

  Args:
    pairs: (answer to the first image, to the second, gold, gold); an answer is
      None where it was unparsed.
  """
  valid = [p for p in pairs if p[0] is not None and p[1] is not None]
  same = sum(a == b for a, b, *_ in valid)
  both = sum(a == c and b == d for a, b, c, d in valid)
  single = sum((a is not None and a == c) + (b is not None and b == d)
               for a, b, c, d in pairs)
  lost = sum((a is None) + (b is None) for a, b, *_ in pairs)
  return {'set': _ratio(both, len(pairs)),
          'individual': _ratio(single, 2 * len(pairs)),
          'confusion': _ratio(same, len(valid)),
          'invalid': _ratio(lost, 2 * len(pairs)),
          'precision': _ratio(both, len(valid) - same)}


def _ratio(part: float, whole: float) -> float:
  return part / whole if whole else 0.0


@graded.per_completion
def paired(record: types.Record, completion: types.Completion, *,
           key: str = 'pair') -> graded.Grade:
  """Rewards telling two images apart that are easily confused: 0 or 1.

  MediConfusion's set accuracy (arXiv 2409.15477): 1 iff the answer is right
  and, where meta[key] has the policy's 'prediction' for the other image of the
  pair, that is right too, by meta[key]['answer']. The part 'confused' is 1
  where the answer is the one that is right for the other image only. The span
  is the answer: 1, -1 if confused, else 0. An abstention is an answer: right
  where `types.UNANSWERABLE` is, which may also stand in meta[key]. Unparsed
  with neither.

  Raises:
    ValueError: the record has no such pair, or its answer is hidden.
  """
  other = record.meta.get(key)
  if not isinstance(other, Mapping) or 'answer' not in other:
    raise ValueError(f'record {record.id!r}: meta[{key!r}] is {other!r}; '
                     "expected {'answer': .., 'prediction': .. if known}")
  right = answer.correct(record, completion.text)
  own = _said(record, completion.text)
  if right is None or own is None:
    return graded.Grade(None, parts={'confused': 0.0})
  confused = right < 1.0 and _agrees(record, own.value, other['answer'])
  known = other.get('prediction', other['answer'])
  value = float(right >= 1.0 and known is not None and _agrees(
      record, known, other['answer']))
  mark = 1.0 if right >= 1.0 else -1.0 if confused else 0.0
  return graded.Grade(value, ((*own.span, mark),),
                      {'confused': float(confused)})


def _said(record: types.Record, text: str) -> spans.Parsed | None:
  """The answer, `types.UNANSWERABLE` for an abstention, or None."""
  own, block = _read(record, text), blocks.answer(text)
  if own is not None or block is None:
    return own
  gone = abstain.found(block.value)
  return gone and spans.shifted(gone, block.span[0])


def _agrees(record: types.Record, value: Any, target: Any) -> bool:
  """Whether two answers are one; nothing agrees with 'N/A' but itself."""
  gone = [isinstance(v, str) and v == types.UNANSWERABLE
          for v in (value, target)]
  if any(gone):
    return all(gone)
  return answer.agreement(record, value, target) >= 1.0


@graded.per_completion
def permuted(record: types.Record, completion: types.Completion, *,
             key: str = 'permuted_answers', gold: bool = False,
             partial: float = 0.5) -> graded.Grade:
  """Rewards the same choice whatever the order of the options, in [0, 1].

  The share of the other orders in which the chosen text is the same (the
  agreement of TCM-5CEval, arXiv 2511.13169, of one answer with the others).
  With `gold` as in ACRE (arXiv 2510.10104): 1 if all agree and the answer is
  right, `partial` (proposed) if one of the two holds, else 0. The span is the
  answer with that value. Unparsed without an answer; an order whose answer is
  unparsed disagrees. A constant text agrees with itself: give it no weight of
  its own.

  Args:
    record: of type choice; with meta[key] where the completion has no signal of
      that name: {'options': {key: text}, 'text': a completion}, several.
    completion: its answer is to the record's own order.
    key: of the answers to other orders.
    gold: whether being right counts too.
    partial: in [0, 1].

  Raises:
    ValueError: the record is no choice, there is no other order, or the answer
      is hidden though `gold` asks for it.
  """
  orders = completion.signals.get(key, record.meta.get(key, ()))
  if record.answer_type != 'choice' or not orders:
    raise ValueError(f'record {record.id!r} of type {record.answer_type!r} has '
                     f'{len(orders)} other orders in {key!r}; expected a '
                     'choice, and one at least')
  own = _read(record, completion.text)
  if own is None:
    return graded.Grade(None)
  chosen = spans.normalise(record.options[own.value])
  value = sum(_content(order) == chosen for order in orders) / len(orders)
  if gold:
    right = answer.correct(record, completion.text) == 1.0
    value = (0.0, partial, 1.0)[(value == 1.0) + right]
  return graded.Grade(value, ((*own.span, value),))


def _content(order: Mapping[str, Any]) -> str | None:
  """The text of the option chosen under another order; None if unparsed."""
  asked = types.Record(id='order', question='', answer=None,
                       answer_type='choice', options=order['options'])
  found = _read(asked, order['text'])
  return None if found is None else spans.normalise(
      order['options'][found.value])


@lift.declare(label_free=True)
def group(record: types.Record, completions: list[types.Completion],
          context: Mapping[str, Any], *, of: str = 'findings',
          lexicon: str = 'chexpert') -> types.Score:
  """Rewards agreement with the G - 1 other completions, in [0, 1].

  The mean over the others of the label F1 of the think blocks' findings (what
  was seen), or of the agreement of the answers; proposed after Fundus-R1's
  self-consistency (arXiv 2604.08322). Unparsed, agreeing with nobody, are
  completions without a think block or without findings in it, or without an
  answer; so that silence is no agreement. A group that says one thing earns it
  all, right or wrong.

  Args:
    record: its label is not read.
    completions: of one prompt; one alone earns 0.
    context: not read.
    of: 'findings' or 'answer'.
    lexicon: see `lexicon.load`.

  Raises:
    ValueError: `of` is neither.
  """
  del context
  if of not in ('findings', 'answer'):
    raise ValueError(f"of {of!r}: expected 'findings' or 'answer'")
  if of == 'answer':
    held = [answer.prediction(record, c.text) for c in completions]
    agree = functools.partial(answer.agreement, record)
  else:
    held = [_seen(c.text, lexicon) for c in completions]
    agree = report.label_f1
  return graded.score('group', [
      graded.Grade(None if own is None else _with_others(held, i, agree))
      for i, own in enumerate(held)])


def _seen(text: str, lexicon: str) -> dict[str, str] | None:
  think = blocks.think(text)
  return (findings.states(think.value, lexicon) or None) if think else None


def _with_others(held: Sequence[Any], i: int,
                 agree: Callable[[Any, Any], float]) -> float:
  shares = [0.0 if other is None else agree(held[i], other)
            for j, other in enumerate(held) if j != i]
  # Sorted, so that the order of the group does not change the last digit.
  return math.fsum(sorted(shares)) / len(shares) if shares else 0.0


@lift.declare(needs=('option_logps',))
def confidence_gain(record: types.Record, completions: list[types.Completion],
                    context: Mapping[str, Any], *, gain: float = 0.1,
                    rank_gain: float = 0.05, most: float = 1.0,
                    unparsed: float | None = None) -> types.Score:
  """Rewards reasoning that makes the right option likelier, in [-most, most].

  With the log-probabilities of the options before and after the reasoning: if
  the answer is right, gain * (after - before) of the gold option; if wrong,
  rank_gain * (rank before - rank after) of it, rank 0 the likeliest. From
  Med-RwR (arXiv 2510.18303), without the two errors of its code: keys are
  compared whatever their case, and 'before' is always asked. Reads the signal
  `option_logps`, {'before': {key: nats}, 'after': {key: nats}}. The span is the
  think block, or else the answer, with this value. Unparsed where the signal is
  None or the answer is unparsed: it earns `unparsed`, None for -most, lest it
  pay to garble what would lose (proposed). A model that hides what it knows
  before it reasons gains more: the gain is no measure of truth.

  Raises:
    ValueError: the signal is missing or lacks the gold option, the record is no
      choice, or its answer is hidden.
  """
  del context
  score = graded.score('confidence_gain', [
      _gained(record, c, gain, rank_gain, most) for c in completions])
  return floor.unparsed(score, 'confidence_gain',
                        -most if unparsed is None else unparsed)


confidence_gain.per_completion = True


def _gained(record: types.Record, completion: types.Completion, gain: float,
            rank_gain: float, most: float) -> graded.Grade:
  if record.answer_type != 'choice' or record.answer is None:
    raise ValueError(f'record {record.id!r}: answer {record.answer!r} of type '
                     f'{record.answer_type!r}; expected a known choice')
  logps = _signal(record, completion, 'option_logps')
  own = _read(record, completion.text)
  if logps is None or own is None:
    return graded.Grade(None)
  before, after = (_options(record, logps[k]) for k in ('before', 'after'))
  key = record.answer.upper()
  if own.value == record.answer:
    value = gain * (after[key] - before[key])
  else:
    value = rank_gain * (_rank(before, key) - _rank(after, key))
  value = max(-most, min(most, value))
  think = blocks.think(completion.text)
  place = think.span if think and think.span[1] > think.span[0] else own.span
  return graded.Grade(value, ((*place, value),))


def _options(record: types.Record, logps: Mapping[str, float]
             ) -> dict[str, float]:
  found = {k.upper(): float(v) for k, v in logps.items()}
  if record.answer.upper() not in found or any(
      math.isnan(v) for v in found.values()):
    raise ValueError(f'record {record.id!r}: option log-probabilities of '
                     f'{sorted(found)}; expected numbers, and one for '
                     f'{record.answer!r}')
  return {k: max(v, -1e3) for k, v in found.items()}


def _rank(logps: Mapping[str, float], key: str) -> int:
  return sum(v > logps[key] for v in logps.values())
