"""Shows how a reward comes about, for text that is typed or piped in.

  python -m medrl.rewards.explain --reward medrl.rewards.answer.score \\
      --record '{"question": "?", "answer": "yes", "answer_type": "yesno"}'
  python -m medrl.rewards.explain --config experiments/blood.py --record r.json

It shows the text, so it is for a person's eyes and not for logs. It asks no
policy: a reward that needs signals of one says what it misses.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import importlib.util
import inspect
import json
import pathlib
import sys
from typing import Any

from medrl import lookup
from medrl import types
from medrl.rewards import abstain
from medrl.rewards import answer
from medrl.rewards import compose
from medrl.rewards import judge
from medrl.rewards.parse import blocks

Terms = dict[str, Mapping[str, Any]]

SHOWN = 60   # characters of a span, and half as many on either side


def read_config(path: str) -> dict[str, Any]:
  """Returns the config of a file, 'experiments/x.py' or with ':argument'.

  Raises:
    FileNotFoundError: there is no such file.
  """
  file, _, argument = path.partition(':')
  if not pathlib.Path(file).is_file():
    raise FileNotFoundError(f'no config {file!r}; expected a path such as '
                            'experiments/base.py')
  spec = importlib.util.spec_from_file_location('medrl_config', file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*[argument] if argument else []).to_dict()


def select(reward: str, options: Mapping[str, Any],
           config: Mapping[str, Any]) -> Terms:
  """Returns the terms that a command line names.

  Args:
    reward: a term of the config, the dotted name of a reward (which gets weight
      1), or '' for all the config's terms.
    options: laid over the options of a single term.
    config: of a study; {} for none.

  Raises:
    ValueError: there is no such term.
  """
  known = config.get('rewards', {})
  if not reward and not known:
    raise ValueError('no reward: give --reward, or a --config with rewards')
  if not reward:
    chosen = known
  elif reward in known:
    chosen = {reward: known[reward]}
  elif '.' in reward:
    chosen = {reward.rpartition('.')[2]: {'fn': reward, 'weight': 1.0}}
  else:
    raise ValueError(f'no term {reward!r}; '
                     f'{lookup.nearest(reward, sorted(known))}')
  if not options:
    return dict(chosen)
  (name, spec), *more = chosen.items()
  if more:
    raise ValueError(f'options {sorted(options)} for {len(chosen)} terms; name '
                     'one of them as --reward')
  return {name: {**spec, 'options': {**spec.get('options', {}), **options}}}


def make_context(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the judges and embedders that a config has, built."""
  return {kind: judge.build(config[kind]) for kind in ('judges', 'embedders')
          if config.get(kind)}


def record_of(entry: Mapping[str, Any]) -> types.Record:
  """Returns a record of a JSON object, as in a file of `medrl.data.jsonl`.

  Raises:
    ValueError: a key is unknown, or a value does not fit.
  """
  # Media are `images`, as in a file of JSON lines.
  known = ['images', *(field.name for field in dataclasses.fields(types.Record)
                       if field.name != 'media')]
  for name in entry:
    if name not in known:
      raise ValueError(f'record: unknown key {name!r}; '
                       f'{lookup.nearest(name, known)}')
  fields = {'id': 'typed', 'question': '', 'answer': None,
            'answer_type': 'text', **entry}
  fields['media'] = tuple(map(types.Media, fields.pop('images', ())))
  return types.Record(**fields)


def explain(terms: Terms, record: types.Record,
            completions: Sequence[types.Completion],
            context: Mapping[str, Any]) -> Iterator[str]:
  """Yields lines that tell what each completion earns, and why.

  Raises:
    ValueError: a term is malformed.
  """
  compose.build(terms)   # tells what is wrong with them, in their own words
  seen = {name: None for name in terms}

  def watched(name: str) -> Callable[..., types.Score]:
    return _watch(lookup.resolve(terms[name]['fn']), name, seen)

  reward = compose.build({name: {**spec, 'fn': name}
                          for name, spec in terms.items()}, watched)
  score = reward(record, list(completions), context)
  for i, completion in enumerate(completions):
    yield (f'completion {i + 1} of {len(completions)}: '
           f'{len(completion.text)} characters, finish {completion.finish}')
    yield from _reading(record, completion.text)
    for name, spec in terms.items():
      yield from _term(name, spec, seen[name], completion.text, i)
    yield (f'  total {score.total[i]:.4g}'
           + ('' if score.parsed[i] else ', unparsed')
           + ('' if score.valid[i] else ', invalid: to be left out'))


def _watch(fn: Callable[..., types.Score], name: str, seen: dict[str, Any]):
  """The same reward, which keeps what it last gave, or raised, in `seen`."""
  @functools.wraps(fn)
  def reward(*arguments, **options):
    try:
      seen[name] = fn(*arguments, **options)
    except Exception as error:
      seen[name] = error
      raise
    return seen[name]
  reward.__signature__ = inspect.signature(fn)
  return reward


def _reading(record: types.Record, text: str) -> Iterator[str]:
  found, block = answer.read(record, text), blocks.answer(text)
  if block is None:
    yield '  read as nothing: no closed answer block'
  elif found is None:
    what = ('an abstention' if abstain.found(block.value)
            else f'nothing: no {record.answer_type} answer')
    yield f'  read as {what} in {_place(text, block.span)}'
  else:
    yield (f'  read as {found.value!r} ({record.answer_type}, {found.how}) at '
           f'{_place(text, found.span)}')
  yield f'  right answer {record.answer!r}'


def _term(name: str, spec: Mapping[str, Any], outcome: Any, text: str,
          i: int) -> Iterator[str]:
  """What one term gave completion `i`, its own parts and spans."""
  weight = float(spec['weight'])
  head = f'  {name}: weight {weight:.4g}, {spec["fn"]}'
  if outcome is None:
    yield f'{head}: not run'
    return
  if isinstance(outcome, Exception):
    yield f'{head}: raised {type(outcome).__name__}: {outcome}'
    return
  if i >= len(outcome.total):
    yield f'{head}: gave {len(outcome.total)} values only'
    return
  value = float(outcome.total[i])
  yield (f'{head}: value {value:.4g}, adds {weight * value:.4g}'
         + (', unparsed' if outcome.parsed and not outcome.parsed[i] else '')
         + (', invalid' if outcome.valid and not outcome.valid[i] else ''))
  for part, values in outcome.parts.items():
    if tuple(values) != tuple(outcome.total):
      yield f'    part {part}: {float(values[i]):.4g}'
  for start, end, credit in outcome.spans[i] if outcome.spans else ():
    yield f'    credit {credit:.4g} at {_place(text, (start, end))}'


def _place(text: str, span: tuple[int, int]) -> str:
  """A span in double brackets within its surroundings, on one line."""
  start, end = span
  before, within, after = text[:start], text[start:end], text[end:]
  if len(within) > SHOWN:
    within = f'{within[:SHOWN // 2]} ... {within[-SHOWN // 2:]}'
  if len(before) > SHOWN // 2:
    before = '...' + before[-SHOWN // 2:]
  if len(after) > SHOWN // 2:
    after = after[:SHOWN // 2] + '...'
  line = f'{start}..{end}: {before}[[{within}]]{after}'
  return ''.join(c if c.isprintable() else c.encode(
      'unicode_escape').decode() for c in line)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that say which reward is meant."""
  parser.add_argument('--reward', default='', help='a term of the config, or '
                      'the dotted name of a reward; without it, all terms')
  parser.add_argument('--options', default='{}', type=json.loads,
                      help='JSON, laid over the options of the one reward')
  parser.add_argument('--config', default='',
                      help='experiments/x.py[:argument]')


def main(arguments: Sequence[str]) -> None:
  parser = argparse.ArgumentParser('python -m medrl.rewards.explain',
                                   description=__doc__.partition('\n')[0])
  add_arguments(parser)
  parser.add_argument('--record', default='{}', help='a record as JSON, or a '
                      'file of it; without it, no answer is known')
  parser.add_argument('--separator', default='---', help='a line that parts '
                      'the completions of a group')
  flags = parser.parse_args(arguments)
  try:
    config = read_config(flags.config) if flags.config else {}
    terms = select(flags.reward, flags.options, config)
    given = flags.record
    if not given.lstrip().startswith('{'):
      given = pathlib.Path(given).read_text(encoding='utf-8')
    record = record_of(json.loads(given))
    if sys.stdin.isatty():
      print(f'A completion, or several parted by lines of {flags.separator!r}; '
            'then Ctrl-D:', file=sys.stderr)
    texts = sys.stdin.read().split(f'\n{flags.separator}\n')
    # The last line of what is typed ends where the text does.
    texts[-1] = texts[-1].removesuffix('\n')
    for line in explain(terms, record, [types.Completion(t) for t in texts],
                        make_context(config)):
      # An error may quote what no terminal can show.
      print(line.encode('utf-8', 'backslashreplace').decode())
  except (ValueError, OSError) as error:
    parser.exit(2, f'{parser.prog}: {error}\n')


if __name__ == '__main__':
  main(sys.argv[1:])
