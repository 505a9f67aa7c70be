"""A right answer, written as models write it: ten styles and more a type.

Three and more of each type are how models of published result files state
their answers (the style alone; no output is copied), from `eval/res` of
MAGIC-AI4Med/ChestX-Reasoner at 9a8a00d unless a comment says otherwise. Knows
no parser: what counts as one and the same answer is decided here by hand.
"""

import datetime
import json
from typing import Any

from medrl import types

# Reasoning that would mislead whoever reads the answer out of it.
_THOUGHT = ('No, not (A): the answer is B or 17.5 at first sight. yes? maybe '
            '[[1, 2, 3, 4]] \\boxed{C} and {"answer": "D"} are all wrong.')
_TAGS = '<think>{}</think>\n<answer>{}</answer>'
# 1,088 of 1,088 answers of ChestX-Reasoner itself there.
_CHESTX = '<think> {} </think><answer> {} </answer>'
# 801 of 1,098 answers of Qwen2-VL-72B there; 243 more lack the last break.
_QWEN = '<think>\n{}\n</think>\n\n<answer>\n{}\n</answer>'


def styles(record: types.Record, answer: Any = None) -> dict[str, str]:
  """Returns style -> a completion whose answer is `answer` (the record's)."""
  answer = record.answer if answer is None else answer
  forms = _FORMS.get(record.answer_type, _value)
  if answer == types.UNANSWERABLE:
    forms = _value
  inner, real = forms(record, answer)
  out = {name: _TAGS.format(_THOUGHT, text) for name, text in inner.items()}
  out['lines'] = _QWEN.format(_THOUGHT, inner['plain'])
  out['ChestX-Reasoner'] = _CHESTX.format(_THOUGHT, inner['plain'])
  out.update({name: _QWEN.format(_THOUGHT, text)
              for name, text in real.items()})
  return out


def plain(record: types.Record, answer: Any = None) -> str:
  """Returns the barest completion of all: nothing but the answer block."""
  answer = record.answer if answer is None else answer
  forms = _FORMS.get(record.answer_type, _value)
  if answer == types.UNANSWERABLE:
    forms = _value
  return f'<answer>{forms(record, answer)[0]["plain"]}</answer>'


def _option(record, key):
  text = alone = record.options[key]
  if sum(_bare(v) == _bare(text) for v in record.options.values()) > 1 or (
      _bare(text) in map(_bare, record.options)):
    alone = f'{key}. {text}'  # or it would name another option, or two
  inner = {
      'plain': key, 'bracket': f'({key})', 'stop': f'{key}.',
      'colon': f'{key}: {text}', 'text': alone, 'upper text': alone.upper(),
      'boxed': f'\\boxed{{{key}}}', 'cue': f'The answer is {key}.',
      'lower': key.lower(), 'bold': f'**{key}**',
      'json': f'{{"answer": "{key}"}}'}
  # Of 1,096 answers of GPT-4o there 283 end in such a line, 61 in such a
  # heading and 20 in such a sentence.
  real = {
      'Qwen2-VL-72B': f'{key}) {text}',
      'GPT-4o line': f'Therefore, the answer is:\n\n{key}) {text}',
      'GPT-4o bold': f'**Answer: {key}) {text}**',
      'GPT-4o sentence': f'The answer is: **{key}) {text}**.'}
  return inner, real


def _bare(text):
  return ' '.join(text.casefold().split()).strip(' .,')


def _keys(record, keys):
  """Several options; the two texts of a list are ChestX-Reasoner's own form."""
  texts = [record.options[key] for key in keys]
  joined = ', '.join(keys)
  inner = {
      'plain': joined, 'dense': ','.join(keys), 'semicolon': '; '.join(keys),
      'bracket': ', '.join(f'({key})' for key in keys), 'stop': f'{joined}.',
      'and': ' and '.join(keys), 'boxed': f'\\boxed{{{joined}}}',
      'cue': f'The answer is {joined}.', 'bold': f'**{joined}**',
      'json': json.dumps(list(keys))}
  return inner, {'Qwen2-VL-72B': joined, 'ChestX list': ', '.join(texts)}


def _labels(record, names):
  del record
  joined, array = ', '.join(names), json.dumps(list(names))
  inner = {
      'plain': joined, 'semicolon': '; '.join(names), 'stop': f'{joined}.',
      'upper': joined.upper(), 'lower': joined.lower(),
      'dense': ','.join(names), 'bullets': '\n'.join(f'- {n}' for n in names),
      'rows': '\n'.join(names), 'turned': ', '.join(names[::-1]),
      'bold': ', '.join(f'**{n}**' for n in names),
      'boxed': f'\\boxed{{{joined}}}', 'cue': f'The answer is {joined}.',
      'json': array, 'fenced': f'```json\n{array}\n```'}
  return inner, {'Qwen2-VL-72B': joined}


def _states(record, states):
  del record
  pairs = [f'{name}: {state}' for name, state in states.items()]
  entries = [f'"{name}": "{state}"' for name, state in states.items()]
  inner = {
      'plain': '\n'.join(pairs), 'semicolon': '; '.join(pairs),
      'json': '{' + ', '.join(entries) + '}',
      'fenced': '```json\n{' + ', '.join(entries) + '}\n```',
      'rows json': '{\n' + ',\n'.join(entries) + '\n}',
      'comma': ', '.join(pairs), 'upper': '\n'.join(pairs).upper(),
      'bullets': '\n'.join(f'- {pair}' for pair in pairs),
      'bold': '\n'.join(f'**{n}**: {s}' for n, s in states.items()),
      'turned': '\n'.join(pairs[::-1])}
  return inner, {'Qwen2-VL-72B': '\n'.join(pairs)}


def _date(record, iso):
  del record
  day = datetime.date.fromisoformat(iso)
  american = f'{day:%m/%d/%Y}'
  inner = {
      'plain': iso, 'american': american,
      'short': f'{day.month}/{day.day}/{day.year}',
      'words': f'{day:%B} {day.day}, {day.year}',
      'abbreviated': f'{day:%b} {day.day}, {day.year}',
      'British': f'{day.day} {day:%B} {day.year}', 'stop': f'{american}.',
      'cue': f'The answer is {american}.', 'bold': f'**{american}**',
      'boxed': f'\\boxed{{{american}}}', 'json': f'{{"answer": "{american}"}}'}
  return inner, {'GPT-4o bold': f'**Answer: {american}**'}


def _quantity(record, answer):
  said = f'{answer} {record.unit}'
  inner = {
      'plain': said, 'dense': f'{answer}{record.unit}', 'stop': f'{said}.',
      'words': f'{answer} kilograms', 'grams': f'{1000 * answer:.0f} g',
      'thousands': f'{1000 * answer:,.0f} g', 'cue': f'The answer is {said}.',
      'boxed': f'\\boxed{{{said}}}', 'bold': f'**{said}**',
      'json': f'{{"answer": "{said}"}}'}
  return inner, {'GPT-4o bold': f'**Answer: {said}**',
                 'GPT-4o line': f'Therefore, the answer is:\n\n{said}'}


def _duration(record, time):
  del record
  weeks, days = time
  said = f'{weeks} weeks, {days} days'
  inner = {
      'plain': said, 'and': f'{weeks} weeks and {days} days',
      'bracket': f'({said})', 'tuple': f"('{weeks} weeks', '{days} days')",
      'dense': f'{weeks}w{days}d', 'stop': f'{said}.', 'bold': f'**{said}**',
      'upper': said.upper(), 'cue': f'The answer is {said}.',
      'boxed': f'\\boxed{{{said}}}'}
  return inner, {'GPT-4o bold': f'**Answer: {said}**'}


def _value(record, answer):
  """Numbers, yes and no, dates: one word that may stand in a sentence."""
  del record
  said = str(answer)
  inner = {
      'plain': said, 'stop': f'{said}.', 'upper': said.upper(),
      'capital': said.capitalize(), 'cue': f'The answer is {said}.',
      'label': f'Answer: {said}', 'boxed': f'\\boxed{{{said}}}',
      'bold': f'**{said}**', 'json': f'{{"answer": "{said}"}}'}
  real = {'GPT-4o bold': f'**Answer: {said}**',
          'GPT-4o line': f'Therefore, the answer is:\n\n{said}',
          'GPT-4o sentence': f'The answer is: **{said}**.'}
  return inner, real


def _text(record, answer):
  """Free text is the whole block: no cue may stand beside it."""
  del record
  inner = {
      'plain': answer, 'stop': f'{answer}.', 'upper': answer.upper(),
      'lower': answer.lower(), 'title': answer.title(),
      'quoted': f'"{answer}"', 'spaced': answer.replace(' ', '  '),
      'tabs': answer.replace(' ', '\t'), 'broken': answer.replace(' ', '\n')}
  # An answer of Qwen2.5-VL-7B there: a line break before it, none after.
  return inner, {'Qwen2-VL-72B': answer, 'Qwen2.5-VL-7B': f'\n{answer}.'}


def _box(record, answer):
  return _boxes(record, [answer])


def _boxes(record, answer):
  nested = [list(map(int, box)) for box in answer]
  plain = str(nested[0] if record.answer_type == 'box' else nested)
  floats = str([[float(v) for v in box] for box in nested])
  entries = [f'\t{{"bbox_2d": {box}, "label": "cell"}}' for box in nested]
  inner = {
      'plain': plain, 'nested': str(nested), 'dense': plain.replace(' ', ''),
      'stop': f'{plain}.', 'floats': floats,
      'rows': plain.replace('], ', '],\n'),
      'sentence': f'The cells are at {plain}.',
      'json': f'{{"boxes": {nested}}}'}
  real = {
      # QwenLM/Qwen3-VL, cookbooks/omni_recognition.ipynb, printed outputs.
      'Qwen3-VL json': '```json\n[\n' + ',\n'.join(entries) + '\n]\n```',
      'Qwen2-VL-72B': plain}
  return inner, real


_FORMS = {
    'choice': _option, 'ordinal': _option, 'choices': _keys, 'text': _text,
    'labels': _labels, 'states': _states, 'date': _date,
    'duration': _duration, 'quantity': _quantity, 'box': _box, 'boxes': _boxes}
