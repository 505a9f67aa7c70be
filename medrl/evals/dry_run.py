"""What a run would do, shown before it is paid for.

Prints and writes; trains nothing and touches no accelerator beyond a model's
shapes.
"""

import collections
import json
import pathlib

import jax
import numpy as np
from PIL import Image

from medrl import build
from medrl import lookup
from medrl import params as params_lib
from medrl import types

# Enough for a histogram; encoding a large data set whole would take long.
_LIMIT = 512


def show(config, workdir) -> None:
  """Prints config, buckets, lengths, a prompt, a scored completion, costs.

  The prompt's media are saved as PNG in `workdir/dry_run`, mode 0700.
  """
  run = build.run(config, workdir)
  print(config)
  records = build.training_records(config)
  encode = build.encoder(run)
  examples = []
  for record in records[:_LIMIT]:
    try:
      examples.append(encode(record))
    except (ValueError, OSError) as error:
      print(f'record {record.id}: {error}')
  if not examples:
    raise ValueError('no record could be encoded; see the lines above')
  _buckets(run, examples, len(records))
  _prompt(run, examples[0])
  _score(config, examples[0].record)
  _cost(run)


def _buckets(run: build.Run, examples, total: int) -> None:
  need = lookup.resolve(run.config.processor.module).bucket_need
  needs = [need(e, run.layout) for e in examples]
  buckets = sorted(map(tuple, run.config.data.buckets))
  taken = collections.Counter(
      next((b for b in buckets if n[0] <= b[0] and n[1] <= b[1]), 'too long')
      for n in needs)
  print(f'\n{total} records, the first {len(examples)} encoded')
  for bucket in [*buckets, 'too long']:
    print(f'  bucket {bucket}: {taken[bucket]} records')
  lengths = np.array([n[0] for n in needs])
  counts, edges = np.histogram(lengths, bins=min(10, max(1, np.ptp(lengths))))
  print('prompt tokens:')
  for count, low, high in zip(counts, edges, edges[1:]):
    bar = '#' * int(np.ceil(40 * count / counts.max()))
    print(f'  {low:7.0f} - {high:7.0f} {count:5d} {bar}')


def _prompt(run: build.Run, example: types.Example) -> None:
  folder = pathlib.Path(run.workdir) / 'dry_run'
  folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  print(f'\none prompt ({len(example.ids)} tokens):\n{example.prompt}')
  for index, media in enumerate(example.record.images):
    load = lookup.resolve(media.loader)
    image = load(media.path, run.config.data.root, **media.options)
    path = folder / f'{index}.png'
    Image.fromarray(image).save(path)
    print(f'medium {index}: {image.shape[1]} x {image.shape[0]} px, {path}')


def _score(config, record: types.Record) -> None:
  answer = json.dumps(record.answer) if not isinstance(
      record.answer, str) else record.answer
  text = record.demonstration or (
      f'<think>\n</think><answer>{answer}</answer>')
  score = build.reward(config)(record, [types.Completion(text)], {})
  print(f'\none completion:\n{text}\nreward {score.total[0]:g}, of which '
        f'{ {n: v[0] for n, v in score.parts.items()} }')


def _cost(run: build.Run) -> None:
  r = run.config.rollout
  print('\n' + build.describe(run))
  count = params_lib.count(run.specs)
  for bucket in sorted(map(tuple, run.config.data.buckets)):
    work = r.prompts * run.family.flops(
        run.model, bucket[0], r.length, bucket[1], r.group)
    # A backward pass costs two forward ones.
    updates = run.config.rl.epochs
    print(f'bucket {bucket}: {work * (1 + 3 * updates) / 1e12:,.3f} TFLOP a '
          f'step ({work / 1e12:,.3f} to sample, three times that a pass over '
          f'the rollout)')
  cache = (2 * run.model.text.layers * run.model.text.kv_heads
           * run.model.text.head_dim * run.dtype.itemsize)
  tokens = r.prompts * (max(b[0] for b in run.config.data.buckets)
                        + r.group * r.length)
  print(f'memory over {jax.device_count()} devices: weights, moments and '
        f'gradient {16 * count / 2**30:,.3f} GiB, sampling weights '
        f'{count * run.dtype.itemsize / 2**30:,.3f} GiB, keys and values '
        f'{cache * tokens / 2**30:,.3f} GiB')
