"""Times rewards: text on the host, arrays on the device.

  python launch/bench_rewards.py --data=../shared/data

Text: format, choice, MedCalc number, report label F1 and 20-gram repetition,
each over 512 completions of 1,000 tokens of the Qwen tokenizer, made of PubMed
abstracts. Arrays: five parts over 4,096 completions, jitted. Best and median of
several runs; timings say nothing on a machine that does something else.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
from medrl import types
from medrl.processors import qwen_vl
from medrl.processors import text as text_lib
from medrl.rewards import compose
from medrl.rewards.array import combine

PROMPTS, GROUP, TOKENS = 64, 8, 1000
TEXT = {
    'format': ('medrl.rewards.format.tags', {}),
    'choice': ('medrl.rewards.answer.score', {}),
    'medcalc': ('medrl.rewards.medcalc.score', {}),
    'report': ('medrl.rewards.report.labels', {}),
    'repetition': ('medrl.rewards.repetition.tokens', {'n': 20}),
}
ARRAY = {
    'vote': ('medrl.rewards.vote.majority', {}),
    'budget': ('medrl.rewards.budget.exact', {'budget': 300}),
    'overlong': ('medrl.rewards.budget.overlong',
                 {'limit': 512, 'buffer': 128}),
    'order': ('medrl.rewards.format.in_order', {}),
    'repetition': ('medrl.rewards.repetition.tokens', {'n': 20}),
}
ANSWERS = {'choice': 'B', 'medcalc': '25.1 kg/m2', 'report':
           'There is a small right pleural effusion. No pneumothorax.'}


def terms(chosen):
  return {name: {'fn': fn, 'weight': 1.0, 'options': options}
          for name, (fn, options) in chosen.items()}


def record(name: str) -> types.Record:
  fields = {
      'medcalc': dict(answer_type='interval', answer=25.0, meta={
          'calculator': 6, 'limits': (23.75, 26.25)}),
      'report': dict(answer_type='text', answer=(
          'Small right pleural effusion. No pneumothorax or consolidation.')),
  }
  return types.Record(id='bench', question='?', **(
      fields[name] if name in fields else dict(
          answer_type='choice', answer='B', options={
              'A': 'normal', 'B': 'effusion', 'C': 'fracture', 'D': 'mass'})))


def tokenizer_of(data: pathlib.Path) -> text_lib.Tokenizer:
  """Qwen's, whose files lie in two folders there."""
  with tempfile.TemporaryDirectory() as folder:
    for part in ('qwen2_5_vl', 'qwen_bpe'):
      for file in (data / 'tokenizers' / part).iterdir():
        shutil.copy(file, folder)
    return text_lib.load(folder)


def completions(data: pathlib.Path, tokenizer, answer: str
                ) -> list[types.Completion]:
  """PROMPTS * GROUP of them, TOKENS long, each with other reasoning."""
  lines = (data / 'pubmedqa').glob('*.jsonl')
  words = ' '.join(' '.join(json.loads(line)['contexts'])
                   for line in next(lines).open())
  ids = tokenizer.encode(words[:4_000_000])
  end = tokenizer.encode(f'</think><answer>{answer}</answer>')
  start = tokenizer.encode('<think>')
  room = TOKENS - len(start) - len(end)
  step = (len(ids) - room) // (PROMPTS * GROUP)
  return [qwen_vl.decode(start + ids[i * step:i * step + room] + end,
                         tokenizer, ()) for i in range(PROMPTS * GROUP)]


def timed(call, repeats: int) -> tuple[float, float]:
  """Best and median seconds of `call`."""
  call()
  spent = []
  for _ in range(repeats):
    begun = time.perf_counter()
    call()
    spent.append(time.perf_counter() - begun)
  return min(spent), statistics.median(spent)


def text_path(data: pathlib.Path, repeats: int) -> None:
  whole, tokenizer = [0.0, 0.0], tokenizer_of(data)
  for name, term in terms(TEXT).items():
    case = record(name)
    texts = completions(data, tokenizer, ANSWERS.get(name, 'B'))
    groups = [texts[i:i + GROUP] for i in range(0, len(texts), GROUP)]
    reward = compose.build({name: term})
    scores = [reward(case, group, {}) for group in groups]
    mean = np.mean([s.total for s in scores])
    best, median = timed(lambda: [reward(case, g, {}) for g in groups], repeats)
    whole = [whole[0] + best, whole[1] + median]
    print(f'{name:<12}{best * 1e3:8.1f} ms best{median * 1e3:8.1f} ms median, '
          f'mean reward {mean:.3f}, errors {sum(s.errors for s in scores)}')
  print(f'text, {PROMPTS * GROUP} completions of {TOKENS} tokens: '
        f'{whole[0] * 1e3:.0f} ms best, {whole[1] * 1e3:.0f} ms median')


def array_path(data: pathlib.Path, repeats: int) -> None:
  rng = np.random.default_rng(0)
  prompts, length = 512, 512
  shape = (prompts, GROUP)
  lengths = rng.integers(1, length + 1, shape).astype(np.int32)
  ids = rng.integers(0, 150_000, (*shape, length)).astype(np.int32)
  loops = rng.random(shape) < 0.1   # some go round in circles
  ids[loops] = np.tile(ids[loops][:, :32], length // 32)
  arrays = {'ids': ids, 'lengths': lengths,
            'budgets': np.full(prompts, 300, np.int32),
            'answers': rng.integers(-1, 4, shape).astype(np.int32)}
  chosen = terms(ARRAY)
  score = jax.jit(combine.build(chosen, jnp, fori=jax.lax.fori_loop,
                                vocab=tokenizer_of(data).pieces()))
  arrays = jax.device_put({n: arrays[n] for n in combine.reads(chosen)})
  best, median = timed(lambda: jax.block_until_ready(score(arrays)), repeats)
  print(combine.plan(chosen))
  print(f'arrays, {prompts * GROUP} completions of {length} tokens, five parts '
        f'on {jax.devices()[0].platform}: {best * 1e3:.1f} ms best, '
        f'{median * 1e3:.1f} ms median')


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', default='../shared/data', type=pathlib.Path)
  parser.add_argument('--repeats', default=10, type=int)
  flags = parser.parse_args()
  text_path(flags.data, flags.repeats)
  array_path(flags.data, flags.repeats)


if __name__ == '__main__':
  main()
