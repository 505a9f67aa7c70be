"""Rewards for reports: by section, by findings, by words, and by consistency.

Compares with a reference report, or with labels, through the rules of
`findings`; what the image shows is not known here. A report that only repeats
what most reports say ('no effusion, no pneumothorax') agrees with most
references in part: report a constant report's score beside these.
"""

from collections.abc import Mapping
import dataclasses
import functools
import re
from typing import Any

from medrl import types
from medrl.rewards import findings
from medrl.rewards import graded
from medrl.rewards import labels as label_rules
from medrl.rewards import lexical
from medrl.rewards import lexicon as lexicon_lib
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

SECTIONS = ('findings', 'impression')
_WHERE = ('answer', 'text')
_HEADS = re.compile(rf'(?i)\b(?:{"|".join(SECTIONS)})\b')


def sections(text: str, where: str = 'answer') -> dict[str, spans.Parsed]:
  """Returns the sections of a completion's report, spans in `text`.

  'report' is all of it; 'findings' and 'impression' where they are headed.
  Empty where there is no report: a text without a word besides its headings
  is none, lest a full stop agree with every reference that finds nothing. So
  is such a section.

  Args:
    text: a completion.
    where: 'answer' for the last answer block, 'text' for all that follows the
      last `</think>` (or everything, if there is none).

  Raises:
    ValueError: `where` is neither.
  """
  if where not in _WHERE:
    raise ValueError(f'where {where!r}: expected one of {_WHERE}')
  if where == 'answer':
    block = blocks.answer(text)
  else:
    start = text.rfind('</think>')
    start = 0 if start < 0 else start + len('</think>')
    block = spans.Parsed(text[start:], (start, len(text)), 'text')
  if block is None or not _worded(_HEADS.sub('', block.value)):
    return {}
  found = blocks.sections(block.value, SECTIONS)
  return {'report': block, **{
      name: spans.shifted(found[name], block.span[0])
      for name in SECTIONS if name in found and _worded(found[name].value)}}


def _worded(text: str) -> bool:
  return any(map(str.isalpha, text))


def reference(record: types.Record) -> dict[str, str]:
  """Returns the sections of the reference, as `sections` names them.

  The answer is a report's text, or a mapping of sections to their texts.

  Raises:
    ValueError: the answer is hidden, or neither.
  """
  answer = record.answer
  if isinstance(answer, Mapping) and set(answer) <= set(SECTIONS):
    found = {k: str(v) for k, v in answer.items() if str(v).strip()}
    return {'report': '\n'.join(found.values()), **found}
  if not isinstance(answer, str):
    raise ValueError(
        f'record {record.id!r}: the answer is a {type(answer).__name__}; a '
        'report reward needs the text of a report, or {findings, impression}')
  found = blocks.sections(answer, SECTIONS)
  return {'report': answer, **{k: v.value for k, v in found.items()
                               if v.value.strip()}}


def label_f1(value: Mapping[str, str], target: Mapping[str, str],
             counted: tuple[str, ...] = lexicon_lib.STATES) -> float:
  """Returns the micro-F1 over (finding, state) pairs, in [0, 1].

  A finding has four states; that of being absent from a text is no pair, so a
  finding in excess and one that is missing cost alike, and a wrong state costs
  as both do. Two texts without findings agree: 1.0.

  Args:
    value: finding -> state, as `findings.states` gives it.
    target: likewise.
    counted: the states that count; ('positive',) for positives alone, where
      denials earn nothing.
  """
  said, wanted = ({(k, s) for k, s in found.items() if s in counted}
                  for found in (value, target))
  return label_rules.agreement(said, wanted, 'f1')


@graded.per_completion
def labels(record: types.Record, completion: types.Completion, *,
           section: str = 'report', where: str = 'answer',
           lexicon: str = 'chexpert',
           counted: tuple[str, ...] = lexicon_lib.STATES) -> graded.Grade:
  """Rewards `label_f1` of a section with the reference's, in [0, 1].

  The reference is that section of the answer, or the answer itself where its
  type is 'states'. Spans are the evidence: 1 where the reference says the same
  of the finding, -1 where it says otherwise or nothing. The part 'critical' is
  1 for all completions if the reference has a critical finding. Without the
  section a completion is unparsed; a reference without it earns all 0.

  Raises:
    ValueError: there is no reference, or an option is unknown.
  """
  wanted = _wanted(record, section, lexicon)
  flag = {'critical': float(bool(critical_findings(record, lexicon)))}
  found = sections(completion.text, where).get(section)
  if found is None:
    return graded.Grade(None, parts=flag)
  if wanted is None:
    return graded.Grade(0.0, parts=flag)
  said = findings.extract(found.value, lexicon)
  value = label_f1({_key(k): v.state for k, v in said.items()}, wanted, counted)
  told = {}
  for name, label in said.items():
    if label.state in counted:
      right = 1.0 if wanted.get(_key(name)) == label.state else -1.0
      for span in label.spans:
        told.setdefault(span, []).append(right)
  # A 'no' may serve several findings: it is worth their mean.
  marks = tuple((a, b, sum(v) / len(v)) for (a, b), v in told.items())
  return graded.Grade(value, graded.moved(marks, found.span[0]), flag)


def _key(name: str) -> str:
  return spans.normalise(name)


def _wanted(record: types.Record, section: str, lexicon: str
            ) -> dict[str, str] | None:
  """The reference's labels for a section; None where it lacks the section."""
  if section not in (*SECTIONS, 'report'):
    raise ValueError(f'section {section!r}: expected one of '
                     f'{(*SECTIONS, "report")}')
  if record.answer_type == 'states' and record.answer is not None:
    return dict(label_rules.pairs(record.answer))
  known = reference(record)
  if section not in known:
    return None
  return {_key(k): s for k, s in _states(known[section], lexicon)}


# A reference is compared with every completion of its prompt.
@functools.lru_cache(maxsize=256)
def _states(text: str, lexicon: str) -> tuple[tuple[str, str], ...]:
  return tuple(findings.states(text, lexicon).items())


@graded.per_completion
def words(record: types.Record, completion: types.Completion, *,
          metric: str = 'rougeL', section: str = 'report',
          where: str = 'answer') -> graded.Grade:
  """Rewards a metric of `lexical.METRICS` on one section, in [0, 1].

  The span is the section. Without it a completion is unparsed; a reference
  without it earns all 0.

  Raises:
    ValueError: there is no reference, or an option is unknown.
    ImportError: the package that computes the metric is not installed.
  """
  target = reference(record).get(section)
  found = sections(completion.text, where).get(section)
  if found is None:
    return graded.Grade(None)
  if target is None:
    return graded.Grade(0.0)
  value = lexical.measure(found.value, target, metric)
  return graded.Grade(value, ((*found.span, value),))


def clashes(said: Mapping[str, str], concluded: Mapping[str, str]
            ) -> tuple[str, ...]:
  """Returns what an impression affirms and the findings deny or leave out."""
  return tuple(name for name, state in concluded.items()
               if state == 'positive' and said.get(name) in (None, 'negative'))


def consistency(said: Mapping[str, str], concluded: Mapping[str, str]) -> float:
  """Returns 1 - |clashes| / max(1, |labels of the impression|), in [0, 1].

  r_con of RadFlow (arXiv 2511.10065); proposed, the paper's own was not found.
  Denials in the impression dilute a clash, and an impression without findings
  has none, so it goes with a reward for what the impression says.
  """
  return 1.0 - len(clashes(said, concluded)) / max(1, len(concluded))


@lift.declare(label_free=True)
@graded.per_completion
def consistent(record: types.Record, completion: types.Completion, *,
               where: str = 'answer', lexicon: str = 'chexpert'
               ) -> graded.Grade:
  """Rewards `consistency` of findings and impression, without a label.

  In [0, 1]. Spans are the impression's positive statements: 1 where the
  findings bear them out, -1 where they clash. Unparsed unless both sections are
  there.
  """
  del record
  found = sections(completion.text, where)
  if not all(name in found for name in SECTIONS):
    return graded.Grade(None)
  said = findings.states(found['findings'].value, lexicon)
  concluded = findings.extract(found['impression'].value, lexicon)
  states = {k: v.state for k, v in concluded.items()}
  wrong = clashes(said, states)
  marks = tuple((a, b, -1.0 if name in wrong else 1.0)
                for name, label in concluded.items()
                if label.state == 'positive' for a, b in label.spans)
  return graded.Grade(consistency(said, states), graded.moved(
      _averaged(marks), found['impression'].span[0]))


def _averaged(marks: graded.Spans) -> graded.Spans:
  told = {}
  for a, b, value in marks:
    told.setdefault((a, b), []).append(value)
  return tuple((a, b, sum(v) / len(v)) for (a, b), v in told.items())


def critical_findings(record: types.Record, lexicon: str = 'chexpert'
                      ) -> tuple[str, ...]:
  """Returns which critical findings of the lexicon the reference affirms."""
  book = lexicon_lib.load(lexicon)
  if record.answer_type == 'states' and record.answer is not None:
    wanted = dict(label_rules.pairs(record.answer))
    return tuple(c for c in book.critical if wanted.get(_key(c)) == 'positive')
  return _critical_names(reference(record)['report'], lexicon)


@functools.lru_cache(maxsize=256)
def _critical_names(text: str, lexicon: str) -> tuple[str, ...]:
  return tuple(_critical(text, lexicon))


def _critical(text: str, lexicon: str) -> dict[str, findings.Label]:
  """The critical findings a text affirms, also those that are no label."""
  book = lexicon_lib.load(lexicon)
  found = findings.labels(findings.mentions(text, lexicon), lexicon)
  return {c: found[c] for c in book.critical
          if c in found and found[c].state == 'positive'}


@graded.per_completion
def critical(record: types.Record, completion: types.Completion, *,
             where: str = 'answer', lexicon: str = 'chexpert') -> graded.Grade:
  """Rewards the recall of the reference's critical findings, in [0, 1].

  Without any in the reference 1.0 if none is claimed, else 0.0. The part
  'critical' is 1 for all completions if the reference has one, so that a
  trainer may tighten its updates (RadFlow's critical-aware optimisation, arXiv
  2511.10065); 'precision' is the share of the claimed that are in the
  reference, 1 if none is claimed. To claim all of them always earns full
  recall: weigh it together with `labels`. Which findings are critical is the
  lexicon's say, and proposed.
  """
  wanted = set(critical_findings(record, lexicon))
  flag = {'critical': float(bool(wanted)), 'precision': 0.0}
  found = sections(completion.text, where).get('report')
  if found is None:
    return graded.Grade(None, parts=flag)
  said = _critical(found.value, lexicon)
  both = len(wanted & set(said))
  value = both / len(wanted) if wanted else float(not said)
  flag['precision'] = both / len(said) if said else 1.0
  marks = tuple((a, b, 1.0 if name in wanted else -1.0)
                for name, label in said.items() for a, b in label.spans)
  return graded.Grade(value, graded.moved(
      _averaged(marks), found.span[0]), flag)


@dataclasses.dataclass(frozen=True)
class _Flow:
  """RadFlow's terms of one completion; None where a section is missing."""
  fluency: float
  medical: float
  agreed: float
  local: float
  parts: Mapping[str, spans.Parsed]


def _flow(record: types.Record, text: str, where: str, lexicon: str
          ) -> _Flow | None:
  found, target = sections(text, where), reference(record)
  if not all(name in found for name in SECTIONS):
    return None
  said, concluded = (findings.states(found[name].value, lexicon)
                     for name in SECTIONS)
  wanted = [dict(_states(target.get(name, ''), lexicon)) for name in SECTIONS]
  body, gold = found['findings'].value, target.get('findings', '')
  fluency = (lexical.measure(body, gold, 'bleu')
             + lexical.measure(body, gold, 'rougeL')) / 2.0 if gold else 0.0
  return _Flow(fluency, label_f1(said, wanted[0]),
               consistency(said, concluded), label_f1(concluded, wanted[1]),
               found)


@graded.per_completion
def radflow(record: types.Record, completion: types.Completion, *,
            where: str = 'answer', lexicon: str = 'chexpert',
            weights: tuple[float, float, float] = (0.2, 0.5, 0.3),
            share: float = 0.5) -> graded.Grade:
  """Rewards share * global + (1 - share) * local, in [0, 1].

  global = weights . (fluency, medical, consistency): the mean of BLEU-4 and
  ROUGE-L of the findings, `label_f1` of the findings, and `consistency`;
  local = `label_f1` of the impression; each is a part of the score, and
  'critical' too. Spans are the findings section with the global value and the
  impression with the local one, for separate advantages. RadFlow (arXiv
  2511.10065); proposed, the paper's own formulas were not found. Unparsed
  unless both sections are there.

  Args:
    record: with a report as its answer.
    completion: with "Findings: ... Impression: ...".
    where: see `sections`.
    lexicon: see `lexicon.load`.
    weights: of the global terms, each in [0, 1], sum at most 1.
    share: of the global reward in the total, in [0, 1].

  Raises:
    ValueError: there is no reference, or the weights do not fit.
    ImportError: a package for BLEU or ROUGE is not installed.
  """
  if (len(weights) != 3 or min(*weights, share) < 0 or sum(weights) > 1 + 1e-9
      or share > 1):
    raise ValueError(f'weights {weights!r} and share {share!r}: expected three '
                     'numbers from 0 up of sum 1 at most, and one in [0, 1]')
  flag = float(bool(critical_findings(record, lexicon)))
  flow = _flow(record, completion.text, where, lexicon)
  if flow is None:
    return graded.Grade(None, parts={'critical': flag})
  terms = flow.fluency, flow.medical, flow.agreed
  whole = sum(w * t for w, t in zip(weights, terms))
  parts: dict[str, Any] = {
      'fluency': flow.fluency, 'medical': flow.medical,
      'consistency': flow.agreed, 'global': whole, 'local': flow.local,
      'critical': flag}
  marks = ((*flow.parts['findings'].span, whole),
           (*flow.parts['impression'].span, flow.local))
  return graded.Grade(share * whole + (1 - share) * flow.local, marks, parts)
