"""Whether a writer declined to answer: an outcome apart from right and wrong.

What an answer is worth is not said here; `answer.score` and `answer.ternary`
ask `found`. A hedge ('I don't know, but probably B') is no abstention, and
options such as 'cannot be determined' are choices: see `parse.choice`.
"""

import re

from medrl import types
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans
from medrl.rewards.parse import structured

HOW = 'abstained'
# Stands around answers and says nothing; a backtick may belong to a fence.
_EDGES = ' \t\r\n*_$.。'
# An answer in a box in JSON in a fence behind a cue: nobody writes more.
_LAYERS = 6
_CUE = re.compile(
    r'(?i)(?:(?:therefore|thus|hence|so|finally)[,:]?\s{1,3})?'
    r'(?:(?:the|my)\s)?(?:(?:final|correct|right|best)\s)?answers?[*_]{0,3}'
    r'(?:\s?[:：=]|\s(?:is|are|would\sbe|should\sbe)\b\s?[:：]?)'
    r'|(?:(?:因此|所以)[,，]?)?(?:最终|正确)?答案应?该?(?:[是为][:：]?|[:：])')
_FENCE = '```'
_LANGUAGE = re.compile(
    r'(?i)(?:json|text|txt|plaintext|markdown|md|python)?[ \t]{0,3}\r?\n')
_PAIRS = (('`', '`'), ('\\[', '\\]'), ('\\(', '\\)'))
# Nobody needs more characters to say that he does not know.
_LONGEST = 400
_QUOTES = str.maketrans('’‘`*_', "'''  ")
_KNOW = (
    r'(?:determine|answer|tell|say|know|calculate|compute|assess|conclude|'
    r'judge|infer|establish|identify|be (?:sure|certain))d?')
_KNOWN = (
    r'(?:determined|answered|told|said|known|calculated|computed|assessed|'
    r'concluded|judged|inferred|established|identified)')
_CANNOT = r"(?:cannot|can not|can't|could not|couldn't)"
_ENOUGH = (r'(?:enough|sufficient|adequate) (?:\w+ )?'
           r'(?:information|data|evidence|context|details?)')
_LACK = (rf'(?:there (?:is|are) )?(?:not {_ENOUGH}|insufficient (?:\w+ )?'
         r'(?:information|data|evidence|context|details?))')
_AM = r"(?:(?:i am|i'm|we are|it is|it's) )?"
_UNKNOWN = (r'(?:(?:it|this) is )?(?:unknown|undetermined|unanswerable|n/a|'
            r'n\.a|not (?:answerable|available|applicable|determinable))')
_PHRASES = '|'.join((
    rf"(?:(?:i|we) )?(?:\w+ly )?(?:do not|don't) (?:know|have {_ENOUGH})",
    rf'(?:i|we) {_CANNOT} (?:\w+ly )?{_KNOW}',
    rf'(?:[\w/-]+ ){{0,6}}{_CANNOT} be (?:\w+ly )?{_KNOWN}',
    rf'{_AM}(?:unable|not able|impossible|not possible) to (?:\w+ly )?{_KNOW}',
    rf'{_AM}(?:not (?:sure|certain)|unsure)', _LACK, _UNKNOWN,
    r'(?:i have )?no idea'))
_ENGLISH = re.compile(
    rf"(?:(?:i am |i'm )?(?:sorry|afraid)[,.]? (?:but )?)?"
    rf'(?:{_PHRASES})(?![\w/-])(?P<tail>.*)')
_CHINESE = re.compile(
    r'(?:抱歉|对不起)?[,，]?(?:我|这|该问题|答案)?'
    r'(?:不知道|不清楚|不确定|(?:无法|不能)(?:确定|判断|回答|得知|计算|得出)|'
    r'信息不足|资料不足)(?P<tail>.*)')
# What follows must go on explaining, and must not offer an answer after all.
_EXPLAINS = re.compile(
    r'[,;:.!。，]* ?(?:$|(?:from|based|with|without|because|since|as|given|due|'
    r'for|in|on|of|at|to|whether|what|which|how|the|this|that|about|if|'
    r'there is no)\b|(?:答案|诊断|因为|由于|的|这|该|结果))')
_OFFERS = re.compile(
    r'\b(?:but|however|although|though|yet|probably|likely|perhaps|maybe|'
    r'possibly|guess|assume|answer is|still|suspect|choose|yes)\b|'
    r'但|不过|可能|应该|也许|答案是|选')


def found(content: str) -> spans.Parsed | None:
  """Returns `types.UNANSWERABLE` if `content` declines to answer, else None.

  Takes the whole content of an answer block, be it `announced`: 'I don't know',
  'cannot be determined from the note', 'N/A', 'not enough information',
  '不知道', ..; `how` is `HOW`. '3 or N/A' is none.
  """
  if len(content) > _LONGEST:
    return None
  bare = announced(content)
  said = spans.normalise(bare.translate(_QUOTES))
  match = _ENGLISH.fullmatch(said) or _CHINESE.fullmatch(said)
  # 'Na' is sodium.
  if not match and bare != 'NA':
    return None
  tail = match['tail'] if match else ''
  if not _EXPLAINS.match(tail) or _OFFERS.search(tail):
    return None
  return spans.Parsed(types.UNANSWERABLE, spans.stripped(content), HOW)


def announced(content: str) -> str:
  """Returns the answer without what announces it or stands around it.

  That is a cue in front ('The answer is: ..', '答案是'), emphasis, a full stop,
  `\\boxed{..}`, the signs of a formula, a fence of code, or a JSON object whose
  one key is 'answer' (its text, or its value as JSON), also in one another.
  Nothing is taken off that does not hold the whole: what stands beside a box
  remains, box and all. Works for free text and lists; does not judge.
  """
  for _ in range(_LAYERS):
    bare = _inside(content.strip(_EDGES).strip())
    if bare == content:
      break
    content = bare
  return content


def _inside(text: str) -> str:
  """Returns what the outermost of the signs around `text` hold."""
  cue = _CUE.match(text)
  if cue:
    return text[cue.end():]
  if text.startswith(_FENCE):
    body = text[3:-3] if text.endswith(_FENCE) else _FENCE
    language = _LANGUAGE.match(body)
    return text if _FENCE in body else body[language.end() if language else 0:]
  if text.startswith('\\boxed'):
    box = blocks.boxed(text, 'first')
    whole = box and not text[box.span[1]:].strip('} \n')
    return box.value if whole else text
  if text.startswith('{'):
    return _field(text)
  for opening, closing in _PAIRS:
    if text.startswith(opening) and text.endswith(closing, len(opening)):
      return text[len(opening):-len(closing)]
  return text


def _field(text: str) -> str:
  """Returns the answer of a JSON object that has nothing else, or `text`."""
  try:
    found = structured.strict(text)
  except ValueError:
    return text
  if [key.lower() for key in found] != ['answer']:
    return text
  value, = found.values()
  # The key holds no colon and the object ends the text.
  return value if isinstance(value, str) else text.partition(':')[2][:-1]


@lift.per_completion
def score(record: types.Record, text: str, *, right: float = 1.0,
          wrong: float = -1.0) -> float | None:
  """Rewards to abstain where the record is unanswerable, and there alone.

  An abstention earns `right` where the answer is `types.UNANSWERABLE` and
  `wrong` elsewhere; whatever else stands in the answer block earns 0, right or
  not. With `wrong` 0 to abstain always would never cost anything. As a reward,
  called with (record, completions, context).

  Raises:
    ValueError: the record's answer is hidden.
  """
  if record.answer is None:
    raise ValueError(f'record {record.id!r} has no answer (answer=None); '
                     'abstain.score needs to know whether there is one')
  block = blocks.answer(text)
  if block is None:
    return None
  if found(block.value) is None:
    return 0.0
  return right if record.answer == types.UNANSWERABLE else wrong
