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

HOW = 'abstained'
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
    rf'(?:(?:the )?answer(?: is|:) )?'
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

  Takes the whole content of an answer block: 'I don't know', 'cannot be
  determined from the note', 'N/A', 'not enough information', '不知道', ..; `how`
  is `HOW`.
  """
  if len(content) > _LONGEST:
    return None
  said = spans.normalise(content.translate(_QUOTES))
  match = _ENGLISH.fullmatch(said) or _CHINESE.fullmatch(said)
  # 'Na' is sodium.
  if not match and content.strip(' .\n') != 'NA':
    return None
  tail = match['tail'] if match else ''
  if not _EXPLAINS.match(tail) or _OFFERS.search(tail):
    return None
  return spans.Parsed(types.UNANSWERABLE, spans.stripped(content), HOW)


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
