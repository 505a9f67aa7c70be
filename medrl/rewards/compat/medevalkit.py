"""The rule path of MedEvalKit, benchmark by benchmark, for comparable figures.

alibaba-damo-academy/MedEvalKit at 9b12e3b (`utils/utils.py`, `utils/MMMU`),
with mathruler 0.1.0, rouge 1.0.1 and nltk's BLEU, which it calls. What the kit
does plainly wrong is an option here, False unless asked for:

  mention     the word 'boxed' without a closed box reads as the answer 'None'
  fuzzy       an unparsed choice becomes the option most like the response
  prefixed    option texts carry their letter, so a bare text never equals one
  substring   'normal' and 'know' hold a 'no' and answer the question
  raw         blanks around it, or a full stop in the label, make it wrong
  cased       SLAKE's 'Yes' and 'No' are graded by equality, not as yes or no
  rotated     'precision' is F1, 'recall' precision, 'f1' recall
  guess       an unparsed MMMU choice is drawn at random (here: from a hash)
  lowered     MMMU splits sentences at capitals after lowering the text
  characters  MMMU validation compares an open answer character by character

With all of them on the verdicts are the kit's own, but where it crashes (empty
open answers score zero here) and where it draws at random. Never a reward to
train with by default: cues are searched in the whole response. No judge is
called; with one, the kit's open accuracy is the judge's verdict (0 = right).
"""

import collections
from collections.abc import Collection, Mapping, Sequence
import difflib
import math
import re
import string
import sys
import zlib

from medrl import types
from medrl.rewards import lift

BUGS = ('mention', 'fuzzy', 'prefixed', 'substring', 'raw', 'cased', 'rotated',
        'guess', 'lowered', 'characters')

# Rule, what is put before an option's text, and whether the answer tags are
# read before all else. HealthBench has no rule path.
BENCHMARKS: Mapping[str, tuple[str, str, bool]] = {
    'VQA_RAD': ('vqa', '', True), 'PATH_VQA': ('vqa', '', True),
    'SLAKE': ('slake', '', True), 'Radrestruct': ('radrestruct', '', True),
    'PMC_VQA': ('mcq', '', False), 'MedFrameQA': ('mcq', '{}.', False),
    'OmniMedVQA': ('mcq', '{}. ', True), 'MedMCQA': ('mcq', '{}. ', True),
    'MedXpertQA-MM': ('mcq', '{}. ', True),
    'MedXpertQA-Text': ('mcq', '{}. ', True),
    'MedQA_USMLE': ('mcq', '{}. ', True), 'PubMedQA': ('mcq', '{}.', True),
    'Medbullets_op4': ('mcq', '{}.', True),
    'Medbullets_op5': ('mcq', '{}.', True), 'SuperGPQA': ('mcq', '{}.', True),
    'MMLU-medical': ('mcq', '', True), 'MMLU-all': ('mcq', '', True),
    'CMB': ('mcq', '{}.', True), 'CMExam': ('mcq', '{}.', True),
    'CMMLU': ('mcq', '{}.', True), 'MedQA_MCMLE': ('mcq', '', True),
    'MMMU-Medical-val': ('mmmu', '', True),
    'MMMU-Medical-test': ('mmmu', '', True),
    'IU_XRAY': ('report', '', False), 'CheXpert_Plus': ('report', '', False),
    'MIMIC_CXR': ('report', '', False)}

_CUES = ('**answer**:', '**answer**', '*answer*:', '**answer:**', 'answer is',
         'answer:', '答案:', 'final answer', 'final answer is')
_CLAUSE = ('could be ', 'so ', 'is ', 'thus ', 'therefore ', 'final ',
           'answer ', 'result ')
_POLAR = re.compile(r'\b(?:yes|no)\b')
# The kit's three patterns; a run of digits is entered only at its start, which
# finds the same numbers in linear time.
_NUMBERS = tuple(re.compile(p) for p in (
    r'-?\b\d{1,3}(?:,\d{3})+\b',
    r'-?(?<!\d)\d++(?:\.\d++)?[eE][+-]?\d+',
    r'-?(?:(?<!\d)\d++\.\d+|\.\d+|(?<!\d)\d++\b)(?![eE][+-]?\d)(?![,\d])'))


def grade(benchmark: str, answer: str, response: str, *,
          choices: Sequence[str] = (), kind: str = '',
          bugs: Collection[str] = ()) -> dict[str, float | None]:
  """Returns 'correct' in {0, 1}, None where unparsed, and further metrics.

  Args:
    benchmark: a key of `BENCHMARKS`.
    answer: a letter or an option's text (choice), else the text; for a report
      'Findings: {findings} Impression: {impression}.'.
    response: all that the model wrote.
    choices: the options' texts, without letters.
    kind: SLAKE 'OPEN' or 'CLOSED'; MMMU 'multiple-choice' or 'open';
      Radrestruct 'single_choice' or 'multiple'. Not read elsewhere.
    bugs: names out of `BUGS` to reproduce.

  Open answers and reports come with bleu1..4, rouge1, rouge2, rougel, the
  former also with em, precision, recall and f1; a report has no 'correct'.

  Raises:
    ValueError: the benchmark or a bug is unknown.
  """
  if benchmark not in BENCHMARKS:
    raise ValueError(f'benchmark {benchmark!r} has no rule path here; expected '
                     f'one of {", ".join(BENCHMARKS)}')
  if unknown := set(bugs) - set(BUGS):
    raise ValueError(f'bugs {sorted(unknown)!r} are unknown; expected names '
                     f'out of {", ".join(BUGS)}')
  on = {bug: True for bug in bugs}
  rule, prefix, tags_first = BENCHMARKS[benchmark]
  if rule == 'report':
    return overlap(answer, response, report=True)
  if rule == 'mmmu':
    return {'correct': _mmmu(answer, response, choices, kind, on,
                             benchmark.endswith('-val'))}
  if rule == 'mcq':
    if 'prefixed' in on:
      choices = [prefix.format(letter) + text
                 for letter, text in zip(string.ascii_uppercase, choices)]
    text = tagged(response) if tags_first else response
    flags = _of(on, 'fuzzy', 'mention')
    return {'correct': mcq(choices, answer, text, **flags)}
  return _vqa(rule, answer, response, choices, kind, on)


@lift.per_completion
def score(record: types.Record, text: str, *, benchmark: str,
          bugs: Collection[str] = ()) -> float | None:
  """Returns 'correct' of `grade` on a record; as a reward, for evaluation.

  Options are those of the record; `kind` is its meta['kind'], '' without one.

  Raises:
    ValueError: as `grade`; or the benchmark is one of reports, or the record's
      answer is hidden.
  """
  if record.answer is None:
    raise ValueError(f'record {record.id!r} has no answer (answer=None); '
                     'a grader needs one')
  verdict = grade(benchmark, record.answer, text, bugs=bugs,
                  choices=tuple(record.options.values()),
                  kind=record.meta.get('kind', ''))
  if 'correct' not in verdict:
    raise ValueError(f'benchmark {benchmark!r} grades reports, which are not '
                     'right or wrong; use `grade`')
  return verdict['correct']


def _of(on: Mapping[str, bool], *names: str) -> dict[str, bool]:
  return {name: True for name in names if name in on}


def _vqa(rule, answer, response, choices, kind, on):
  """Free-form sets: yes or no, closed or open, by the label or its type."""
  text = boxed(response)
  text = tagged(response) if text is None else text
  if rule != 'slake':
    answer, text = answer.lower().strip(), text.lower().strip()
  if rule == 'radrestruct' and kind != 'single_choice':
    flags = _of(on, 'fuzzy', 'mention')
    return {'correct': mcq(choices, answer, text, **flags)}
  label = answer if 'cased' in on else answer.lower()
  if rule == 'radrestruct' or (label in ('yes', 'no') and kind != 'OPEN'):
    return {'correct': polar(answer, text, **_of(on, 'substring', 'mention'))}
  if rule == 'slake' and kind != 'OPEN':
    return {'correct': closed(answer, text, **_of(on, 'raw', 'mention'))}
  flags = _of(on, 'raw', 'rotated', 'mention')
  metrics = open_ended(answer, text, **flags)
  return {'correct': metrics['em'], **metrics}


def _mmmu(answer, response, choices, kind, on, validation):
  text = tagged(response)
  found = boxed(text)
  text = text if found is None else found
  if kind == 'open':
    names = ('lowered', 'characters') if validation else ('lowered',)
    return mmmu_open(answer, text, **_of(on, *names))
  options = dict(zip(string.ascii_uppercase, choices))
  key, _ = mmmu_choice(options, text, **_of(on, 'guess', 'mention'))
  return None if key is None else float(key == answer)


def boxed(text: str) -> str | None:
  """Returns what the last `\\boxed{..}` holds, stripped; None if not closed."""
  start = text.rfind('\\boxed{')
  if start < 0:
    return None
  start, depth = start + len('\\boxed{'), 1
  for brace in re.finditer('[{}]', text[start:]):
    depth += 1 if brace[0] == '{' else -1
    if not depth:
      return text[start:start + brace.start()].strip()
  return None


def tagged(text: str) -> str:
  """Returns all answer blocks, joined by blanks; the text if they are empty."""
  found, at = [], text.find('<answer>')
  while at >= 0 and (end := text.find('</answer>', at)) >= 0:
    found.append(text[at + len('<answer>'):end])
    at = text.find('<answer>', end)
  return ' '.join(found).strip() or text


def extract(response: str, *, mention: bool = False) -> str:
  """Returns the answer in lower case: boxed, else tagged; after the last cue.

  Each cue of a fixed list is looked for in turn in what the one before left.
  """
  text = response.lower()
  inside = boxed(text)
  if 'boxed' in text and (inside is not None or mention):
    text = 'None' if inside is None else inside
  elif '<answer>' in text:
    text = tagged(text)
  for cue in _CUES:
    text = text.rpartition(cue)[2]
  return text


def mcq(choices: Sequence[str], answer: str, response: str, *,
        fuzzy: bool = False, mention: bool = False) -> float | None:
  """Returns whether the option named is the answer; None where none is named.

  A lone letter as first paragraph, or as last paragraph up to its full stop,
  comes before all. Of what `extract` gives, the part before the first full
  stop and after its last colon must be a letter or an option's text; line
  breaks are dropped, blanks after the colon are not.
  """
  letters = string.ascii_lowercase[:len(choices)]
  choices = [choice.lower() for choice in choices]
  paragraphs = response.lower().split('\n\n')
  for lone in (paragraphs[0], paragraphs[-1].partition('.')[0]):
    if len(lone) == 1 and lone in letters:
      response = lone
      break
  text = extract(response, mention=mention).strip().lower().replace('\n', '')
  said = text.partition('.')[0].rpartition(':')[2]
  label = answer.strip().lower()
  if said == label:
    return 1.0
  if len(said) == 1 and said in letters:
    return float(choices[letters.index(said)] == label)
  if said in choices:
    return float(len(label) == 1 and label in letters
                 and said == choices[letters.index(label)])
  if not fuzzy or not choices:
    return None
  likeness = [difflib.SequenceMatcher(None, c, text).ratio() for c in choices]
  best = likeness.index(max(likeness))
  return float(label in (letters[best], choices[best]))


def polar(answer: str, response: str, *, substring: bool = False,
          mention: bool = False) -> float | None:
  """Returns whether the one of 'yes' and 'no' in the response is the answer.

  None where both or neither occur (the kit counts that as wrong).
  """
  text = extract(response, mention=mention)
  if substring:
    text = text.replace('\n', '').replace('.', '')
    found = {word for word in ('yes', 'no') if word in text}
  else:
    found = set(_POLAR.findall(text))
  if len(found) != 1:
    return None
  label = answer.lower()
  return float(label in text if substring else label in found)


def closed(answer: str, response: str, *, raw: bool = False,
           mention: bool = False) -> float:
  """Returns whether the texts are equal without line breaks and full stops."""
  def clean(text):
    return text.replace('\n', '').replace('.', '')
  said, label = clean(extract(response, mention=mention)), answer.lower()
  if raw:
    return float(said == label)
  return float(said.strip() == clean(label).strip())


def open_ended(answer: str, response: str, *, raw: bool = False,
               rotated: bool = False,
               mention: bool = False) -> dict[str, float]:
  """Returns em, bleu1..4, rouge1, rouge2, rougel, precision, recall and f1.

  Words are a set, so repeats neither help nor hurt. All in [0, 1]; zeros for
  an empty response or answer, at which the kit raises.
  """
  said, label = extract(response, mention=mention), answer.lower()
  a, b = set(said.split()), set(label.split())
  precision, recall = (len(a & b) / max(len(side), 1) for side in (a, b))
  f1 = 2 * precision * recall / max(precision + recall, sys.float_info.min)
  if rotated:
    precision, recall, f1 = f1, precision, recall
  same = said == label if raw else said.strip() == label.strip()
  return {'em': float(same), **overlap(label, said), 'precision': precision,
          'recall': recall, 'f1': f1}


def overlap(answer: str, response: str, *,
            report: bool = False) -> dict[str, float]:
  """Returns bleu1..4, rouge1, rouge2 and rougel, each in [0, 1].

  Tokens are split at single blanks, so two in a row make an empty token; for
  reports (`report`) those are dropped. All 0 where either text is empty.
  """
  hypothesis, reference = (
      [' '.join(s.split()).split(' ') for s in text.lower().split('.') if s]
      for text in (response, answer))
  if not hypothesis or not reference:
    return dict.fromkeys(('bleu1', 'bleu2', 'bleu3', 'bleu4', 'rouge1',
                          'rouge2', 'rougel'), 0.0)
  found, wanted = (
      [t for t in text.lower().replace('.', ' .').split(' ')
       if t or not report] for text in (response, answer))
  scores = {f'bleu{n}': _bleu(found, wanted, n) for n in (1, 2, 3, 4)}
  words = [[w for sentence in side for w in sentence]
           for side in (hypothesis, reference)]
  for n in (1, 2):
    a, b = ({*zip(*(side[i:] for i in range(n)))} for side in words)
    scores[f'rouge{n}'] = _rouge(len(a & b), len(a), len(b))
  common = {w for r in reference for h in hypothesis for w in _common(r, h)}
  scores['rougel'] = _rouge(len(common), *(len(set(side)) for side in words))
  return scores


def _bleu(found: list[str], wanted: list[str], order: int) -> float:
  """nltk's sentence BLEU with uniform weights and no smoothing."""
  total = 0.0
  for n in range(1, order + 1):
    have, want = (collections.Counter(zip(*(side[i:] for i in range(n))))
                  for side in (found, wanted))
    shared = (have & want).total()
    if not shared and n == 1:
      return 0.0
    # nltk takes the smallest float for a precision of zero, not zero.
    total += math.log(shared / have.total() if shared else sys.float_info.min)
  brevity = min(0.0, 1 - len(wanted) / len(found))
  return math.exp(brevity) * math.exp(total / order)


def _rouge(shared: int, found: int, wanted: int) -> float:
  precision, recall = shared / max(found, 1), shared / max(wanted, 1)
  return 2 * precision * recall / (precision + recall + 1e-8)


def _common(a: list[str], b: list[str]) -> set[str]:
  """Returns the words of one longest common subsequence of two sentences."""
  rows = [[0] * (len(b) + 1)]
  for word in a:
    above, row = rows[-1], [0]
    for j, other in enumerate(b):
      row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
    rows.append(row)
  found, i, j = set(), len(a), len(b)
  while i and j:
    if a[i - 1] == b[j - 1]:
      found.add(a[i - 1])
      i, j = i - 1, j - 1
    elif rows[i - 1][j] > rows[i][j - 1]:
      i -= 1
    else:
      j -= 1
  return found


def mmmu_choice(options: Mapping[str, str], response: str, *,
                guess: bool = False,
                mention: bool = False) -> tuple[str | None, str]:
  """Returns an option's key and how it was found, (None, '') if it was not.

  '(B)' anywhere is taken ('bracket'), else ' B ' ('letter'), else, in more than
  five words, an option's text ('text'), the last one each time. With `guess` a
  key drawn by a checksum of the response is marked 'guess'.
  """
  text = response
  if '<answer>' in text:
    text = tagged(text)
  elif (inside := boxed(text)) is not None:
    text = inside
  elif mention and '\\boxed' in text:
    text = 'None'
  text = text.strip()
  for mark in ',.!?;:\'':
    text = text.strip(mark)
  text = f' {text} '
  ways = [('bracket', text, {k: f'({k})' for k in options}),
          ('letter', text, {k: f' {k} ' for k in options})]
  if len(text.split()) > 5:
    ways.append(('text', text.lower(),
                 {k: v.lower() for k, v in options.items()}))
  for how, place, forms in ways:
    last = {k: place.rfind(form) for k, form in forms.items()}
    if last and max(last.values()) >= 0:
      return max(last, key=last.get), how
  if not guess or not options:
    return None, ''
  draw = zlib.crc32(response.encode('utf-8', 'surrogatepass'))
  return list(options)[draw % len(options)], 'guess'


def mmmu_open(answer: str, response: str, *, lowered: bool = False,
              characters: bool = False) -> float:
  """Returns whether a clause holds the answer, or a number equal to it.

  Clauses are what follows words such as 'is' and 'so'; numbers are compared
  after rounding to two decimals.
  """
  wanted = _normal(answer)
  if characters:
    found = list(response)
  else:
    clauses = _clauses(response, lowered)
    found = [value for clause in clauses
             for part in (clause, *_literals(clause))
             for value in _normal(part)]
  return float(any(
      any(isinstance(w, str) and w in value for w in wanted)
      if isinstance(value, str) else value in wanted for value in found))


def _clauses(response: str, lowered: bool) -> list[str]:
  text = response.strip().strip('.')
  text = text.lower() if lowered else text
  sentences = re.split(r'\.\s(?=[A-Z])|\n', text)
  found = []
  for i, sentence in enumerate(sentences):
    sentence, shortest = sentence.lower(), ''
    # An equation is taken for an answer in the last sentence alone.
    for cue in _CLAUSE + (('=',) if i == len(sentences) - 1 else ()):
      if cue in sentence:
        tail = sentence.rpartition(cue)[2].strip()
        if not shortest or len(tail) < len(shortest):
          shortest = tail
    if shortest and shortest not in list(',.!?;:\''):
      found.append(shortest)
  return found or [text.lower()]


def _literals(text: str) -> list[str]:
  return [literal for pattern in _NUMBERS for literal in pattern.findall(text)]


def _normal(text: str) -> list[str | float]:
  text = text.strip()
  try:
    return [round(float(text.replace(',', '')), 2)]
  except ValueError:
    text = text.lower()
    # A single letter must stand beside a blank, or it would be found anywhere.
    return [' ' + text, text + ' '] if len(text) == 1 else [text]
