"""What a run would do, shown before it is paid for.

It prints, and saves one prompt's media; it trains nothing, makes no parameters
and compiles no program.
"""

import collections
import functools
import json
import pathlib

import numpy as np
from PIL import Image

from medrl import build
from medrl import costs
from medrl import feed
from medrl import types
from medrl.data import batching
from medrl.data import mixture
from medrl.data import workers
from medrl.media import medium

# Enough for a histogram; encoding a large data set whole would take long.
_LIMIT = 512
_BINS = 10
_BAR = 40   # characters of the longest bar


def show(config, workdir) -> None:
  """Prints config, buckets, lengths, a prompt, a scored completion, costs.

  Of many records, every k-th is looked at. Media are saved as PNG in
  `workdir/dry_run`, which only its owner can enter.

  Raises:
    ValueError: no record can be used, or what `build` raises.
  """
  run = build.run(config, workdir)
  print(config)
  sources = feed.once(feed.training(config))
  records = feed.flat(sources)
  examples = _examples(run, sources, len(records))
  usable = [e for e in examples if e.valid]
  print(f'\n{len(records)} records, {len(examples)} of them looked at')
  _bad(config, [e for e in examples if not e.valid])
  _buckets(config, usable)
  _lengths([e for e in examples if e.ids is not None])
  if not usable:
    raise ValueError('no record can be used; the reasons are above')
  # The prompt with the most images shows the most of the template.
  example = max(usable, key=lambda e: len(e.record.media))
  root = next(s.root for s in sources if example.record in s.records)
  _prompt(run, example, root)
  _score(config, example.record)
  _cost(run)


def _examples(run: build.Run, sources, count: int) -> list[types.Example]:
  target = run.config.sft.length if run.config.sft.steps else 0
  settings = build.settings(run, run.config.rollout.prompts,
                            target_length=target)
  draw = workers.Draw(
      sources, mixture.order(sources, 0, shuffle=False, repeat=False),
      workers.Share(1, count=-(-count // _LIMIT)), build.encoder(run),
      functools.partial(batching.check, settings=settings))
  return list(workers.examples(draw).to_iter_dataset())


def _bad(config, examples) -> None:
  """How many records cannot be used, by reason, with an example of each."""
  reasons = collections.defaultdict(list)
  for example in examples:
    reasons[example.reason.partition(':')[0]].append(example.reason)
  for found in reasons.values():
    print(f'  {len(found)} cannot be used ("{config.data.on_bad}" is what '
          f'data.on_bad says of them), such as: {found[0]}')


def _buckets(config, examples) -> None:
  needs = [batching.need(e) for e in examples]
  buckets = list(map(tuple, config.data.buckets))
  taken = collections.Counter(
      next(b for b in buckets if n[0] <= b[0] and n[1] <= b[1]) for n in needs)
  for bucket in buckets:
    print(f'  bucket {bucket}: {taken[bucket]} records')


def _lengths(examples) -> None:
  """Histograms of what a bucket must hold, those that are too long included."""
  for what, values in (
      ('prompt tokens', [len(e.ids) for e in examples]),
      ('patches', [batching.need(e)[1] for e in examples]),
      ('demonstration tokens', [len(e.target) for e in examples])):
    print(f'{what}:')
    low, high = min(values, default=0), max(values, default=0)
    width = (high - low) // _BINS + 1
    edges = np.arange(low, high + width + 1, width)
    counts, _ = np.histogram(values, edges)
    for count, edge in zip(counts, edges):
      bar = '#' * int(np.ceil(_BAR * count / max(1, counts.max())))
      print(f'  {edge:6d} - {edge + width - 1:6d} {count:5d} {bar}')


def _prompt(run: build.Run, example: types.Example, root: str) -> None:
  folder = pathlib.Path(run.workdir) / 'dry_run'
  folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  for old in folder.glob('*.png'):
    old.unlink()
  print(f'\none prompt ({len(example.ids)} tokens, each image token standing '
        f'for all of its image):\n{example.prompt}')
  for index, found in enumerate(example.record.media):
    stills = medium.stills(build.load(found, root))
    for number, image in enumerate(stills):
      path = folder / f'{index}.{number}.png'
      Image.fromarray(image).save(path)
      print(f'medium {index}: {image.shape[1]} x {image.shape[0]} px, {path}')


def _score(config, record: types.Record) -> None:
  answer = record.answer
  if not isinstance(answer, str):
    answer = json.dumps(answer)
  text = record.demonstration or f'<think></think><answer>{answer}</answer>'
  score = build.reward(config)(record, [types.Completion(text)], {})
  parts = {name: values[0] for name, values in score.parts.items()}
  print(f'\none completion:\n{text}\nthe answer is {answer}; reward '
        f'{score.total[0]:g}, of which {parts}')


def _cost(run: build.Run) -> None:
  """FLOPs a step, by the passes that the config's words ask for."""
  config = run.config
  r, rl = config.rollout, config.rl
  # A backward pass costs two forward ones, and another where it recomputes.
  update = rl.epochs * (4 if config.model.remat == 'full' else 3)
  scored = rl.old_logps == 'scored' and (
      rl.epochs * rl.minibatches > 1 or rl.normalise_correction != 'none')
  passes = {'sample': 1, 'old log-probs': int(scored),
            'reference': int(bool(rl.kl_weight)),
            'teachers': len(config.teachers) if rl.distill_weight else 0,
            'update': update}
  print('\n' + costs.describe(run))
  print(f'forward passes over a rollout, a step: {passes}')
  needs = build.reward_needs(config)
  if needs:
    print(f'rewards ask the model for {", ".join(needs)}, not counted here; '
          f'the start of a run says what each adds')
  for bucket in map(tuple, config.data.buckets):
    work = r.prompts * run.family.flops(run.model, bucket[0], r.length,
                                        bucket[1], r.group)
    print(f'  bucket {bucket}: {work * sum(passes.values()) / 1e9:,.2f} GFLOP '
          f'a step, {work / 1e9:,.2f} a pass')
