"""Evaluation: records -> completions -> rows -> scores with intervals.

Also where sampling programs are compiled, as evaluation and training sample
alike. It trains nothing.
"""

import functools
import hashlib
import json
import logging
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from medrl import build
from medrl import checkpoint
from medrl import feed
from medrl import lookup
from medrl import metrics
from medrl import params as params_lib
from medrl import paths
from medrl import sharding
from medrl import types
from medrl.data import batching
from medrl.data import mixture
from medrl.data import pipeline as pipeline_lib
from medrl.evals import scores
from medrl.rewards import answer
from medrl.rollout import slots

SUITES = {'heldout_greedy': 0.0, 'heldout_sampled': 1.0}


def anonymous(*identifiers: str) -> str:
  """A short digest that pairs records between runs without naming them."""
  text = '\0'.join(identifiers)
  return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def sampling_weights(run: build.Run, abstract_params):
  """The program that casts parameters and lays them out for sampling.

  Returns:
    jitted function of the whole parameter tree, and its abstract result.
  """
  laid = sharding.of_specs(run.mesh, run.specs,
                           build.sampling_rules(run.config))
  program = jax.jit(functools.partial(params_lib.cast, dtype=run.dtype),
                    out_shardings=laid)
  shapes = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, run.dtype, sharding=s),
      abstract_params, laid)
  return program, shapes


def samplers(run: build.Run, abstract_params, prompts: int, options,
             label: str, donate: bool = False):
  """One compiled sampling program per bucket.

  With `donate` a batch is given away; its prompts come back in the rollout.

  Each is `(params, batch, key, step, numbers) -> Rollout`; `numbers` int32 [P]
  are the prompts' own, so that a draw depends on (key, step, number, member).
  """
  rollout = lookup.resolve(run.config.rollout.fn)
  if run.stops:
    rollout = functools.partial(rollout, limits=slots.Limits(stops=run.stops))
  rows = sharding.batch(run.mesh)

  def sample(params, batch, key, step, numbers):
    return rollout(run.family, run.model, params, batch,
                   jax.random.fold_in(key, step), numbers, options)

  program = jax.jit(sample, out_shardings=sharding.of_rollout(run.mesh),
                    donate_argnums=1 if donate else ())
  whole = sharding.replicated(run.mesh)
  key = jax.eval_shape(lambda: jax.random.key(0))
  out = {}
  for bucket in map(tuple, run.config.data.buckets):
    out[bucket] = build.compile_ahead(
        f'{label} {bucket}', program, abstract_params,
        build.abstract_batch(run, prompts, bucket),
        jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole),
        jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
        jax.ShapeDtypeStruct((prompts,), jnp.int32, sharding=rows))
  return out


def evaluators(run: build.Run, abstract_params):
  """Suite -> bucket -> sampling program, one completion a prompt."""
  temperature = run.config.rollout.temperature
  names = list(SUITES) if run.config.eval.sampled else ['heldout_greedy']
  return {name: samplers(
      run, abstract_params, run.config.eval.prompts,
      build.sampling_options(run, 1, SUITES[name] * temperature), name)
          for name in names}


def numbers(run: build.Run, prompts: int, first: int = 0):
  """This process's share of prompt numbers first .. first + prompts."""
  share = prompts // jax.process_count()
  return (first + share * jax.process_index()
          + np.arange(share, dtype=np.int32))


def completions(run: build.Run, tokens, written
                ) -> list[list[types.Completion]]:
  """Token arrays [P, G, T] on the host -> completions, one list a prompt."""
  decode = lookup.resolve(run.config.processor.module).decode
  return [[decode(ids[mask], run.tokenizer, run.stop)
           for ids, mask in zip(*group)] for group in zip(tokens, written)]


def row(record: types.Record, completion: types.Completion) -> dict:
  """What is kept of an answer; see `scores`."""
  out = {
      'record': anonymous(record.source, record.id),
      'task': record.task,
      'answer_type': record.answer_type,
      'answer': record.answer,
      'prediction': answer.prediction(record, completion.text),
      'value': answer.correct(record, completion.text),
      'cluster': anonymous(record.subject or ' '.join(
          m.path for m in record.media) or record.id),
      'completion': completion.text,
  }
  if record.answer_type in scores.OPTIONS:
    out['label'] = record.options[record.answer]
  return out


def answer_all(run: build.Run, programs, params, sources, key, step):
  """Answers every record once, with each suite's program.

  Args:
    run: the run.
    programs: from `evaluators`.
    params: sampling weights.
    sources: `mixture.Source`s of this evaluation, the same on all processes.
    key, step: device arrays; the draws of the sampled suite depend on them.

  Returns:
    suite -> (rows, dict of Means), over all processes.
  """
  prompts = run.config.eval.prompts
  settings = build.settings(run, prompts, target_length=0)
  found = {name: ([], []) for name in programs}
  bad = []
  batches = pipeline_lib.evaluation_batches(sources, build.encoder(run),
                                            settings, bad, build.agree)
  for index, (batch, examples, real) in enumerate(batches):
    bucket = batching.bucket_of(batch)
    up = run.crossing.up((batch, numbers(run, prompts, index * prompts)))
    for name, program in programs.items():
      out = program[bucket](params, up[0], key, step, up[1])
      tokens, written, finished = run.crossing.fetch(
          (out.tokens, out.action_mask, out.finished))
      texts = completions(run, tokens, written)
      for i in range(real):
        found[name][0].append(row(examples[i].record, texts[i][0]))
        found[name][1].append((float(written[i].sum()), float(finished[i, 0])))
  skipped = sum(sharding.gather_json([len(bad)]))
  out = {}
  for name, (rows, extra) in found.items():
    rows, extra = zip(*sharding.gather_json(list(zip(rows, extra))))
    total = np.array(extra)
    out[name] = (list(rows), {
        'skipped': metrics.Mean(skipped, 1),
        'length': metrics.Mean(total[:, 0].sum(), len(total)),
        'finished': metrics.Mean(total[:, 1].sum(), len(total))})
  return out


def measure(run: build.Run, answered):
  """Answers -> flat metrics by defined name, and each suite's full scores."""
  flat, full = {}, {}
  for name, (rows, means) in answered.items():
    full[name] = scores.summarise(rows, samples=run.config.eval.resamples)
    for metric, score in full[name].items():
      flat[f'eval/{name}/{metric}'] = score['value']
    for metric, mean in means.items():
      flat[f'eval/{name}/{metric}'] = metrics.value(mean)
  return flat, full


def answer_with(run: build.Run, params, sources):
  """Answers records with given parameters, compiling what that needs.

  Args:
    run: the run; `config.eval` says how many prompts at a time, and whether
      the sampled suite is asked too.
    params: tree of arrays on `run.mesh`, from `load_policy`.
    sources: of the records to answer, as `feed.of` makes them.

  Returns:
    as `answer_all`.
  """
  weigh, shapes = sampling_weights(run, params)
  programs = evaluators(run, shapes)
  key, zero = jax.jit(
      lambda: (jax.random.key(run.config.seed), jnp.zeros((), jnp.int32)),
      out_shardings=sharding.replicated(run.mesh))()
  return answer_all(run, programs, weigh(params), sources, key, zero)


def scored_records(config, workdir) -> list[types.Record]:
  """The records of `scored_sources`, one source behind the other."""
  return feed.flat(scored_sources(config, workdir))


def scored_sources(config, workdir) -> tuple[mixture.Source, ...]:
  """The records that `evaluate` scores, by data set.

  Those of `config.data.split` where that is not 'train', else of
  `config.eval.split`, with `config.eval.options` in both cases; to score
  training records, set `eval.split`.

  Args:
    config: the config.
    workdir: of the run, whose own config says what root it was trained with.
      Below another one nothing was trained on, so where a data set makes its
      splits itself (options `validation` and `test`, as `medrl.data.jsonl`)
      and 'test' is asked for, all its records are scored.
  """
  split = config.data.split
  if split == 'train':
    split = config.eval.split
  options = config.eval.options.to_dict()
  other = (pathlib.Path(config.data.root).resolve()
           != _trained_root(config, paths.at(workdir)).resolve())
  if other and split == 'test' and {'validation', 'test'} <= set(
      config.data.options):
    logging.info('another data root than the run was trained with: all its '
                 'records are scored')
    options |= {'validation': 0., 'test': 1.}
  return feed.once(feed.sources(config, split, options))


def evaluate(config, workdir) -> dict:
  """Scores a checkpoint of `workdir` on `scored_sources`.

  Takes the step `config.checkpoint.step`, or the newest, and reads no training
  record. Writes `eval.json` (greedy: metric -> value, low, high, n, invalid),
  `eval_config.json` and `answers.jsonl` (mode 0600; patients and records as
  digests, answers as text), and returns the first.

  Raises:
    ValueError: no checkpoint, none of that step, no tokenizer, or no record.
  """
  workdir = paths.at(workdir)
  wanted = config.checkpoint.step
  step = _step(workdir / 'checkpoints', None if wanted < 0 else wanted)
  named = config.processor.tokenizer or config.model.checkpoint
  # Built anew from other records it would silently number tokens otherwise.
  if not named and not (workdir / 'tokenizer').is_dir():
    raise ValueError(f'{workdir} has no tokenizer folder; name that of the run '
                     f'as --config.processor.tokenizer')
  run = build.run(config, workdir)
  params, _ = load_policy(run, workdir / 'checkpoints', step)
  sources = scored_sources(config, workdir)
  logging.info('scoring step %d on %d records', step,
               sum(len(source.records) for source in sources))
  answered = answer_with(run, params, sources)
  _, full = measure(run, answered)
  result = full['heldout_greedy']
  if jax.process_index() == 0:
    _write_private(workdir / 'answers.jsonl', ''.join(
        json.dumps({'suite': name, **r}) + '\n'
        for name, (rows, _) in answered.items() for r in rows))
    # The notebooks find the answered records again by it.
    (workdir / 'eval_config.json').write_text(config.to_json_best_effort())
    (workdir / 'eval.json').write_text(json.dumps(result, indent=2))
    logging.info('wrote %s', workdir / 'eval.json')
  return result


def _trained_root(config, workdir) -> pathlib.Path:
  """The data root in the run's own config; this one's where there is none."""
  path = workdir / 'config.json'
  if not path.exists():
    return pathlib.Path(config.data.root)
  return pathlib.Path(json.loads(path.read_text())['data']['root'])


def _step(folder, step: int | None) -> int:
  """The step, or the newest; raises ValueError where it is not there."""
  there = checkpoint.steps(folder)
  if not there:
    raise ValueError(f'{folder} holds no checkpoint; train there first, or '
                     f'give the folder of a run as --workdir')
  if step is not None and step not in there:
    raise ValueError(f'{folder} has no step {step}; it has {there}')
  return there[-1] if step is None else step


def load_policy(run: build.Run, folder, step=None):
  """Parameters of a checkpoint on the run's mesh, and their step."""
  step = _step(folder, step)
  host = checkpoint.restore_policy(folder, step)
  laid = sharding.of_specs(run.mesh, run.specs, run.config.sharding)
  wanted = params_lib.abstract(run.specs)
  if jax.tree.map(np.shape, host) != jax.tree.map(np.shape, wanted):
    raise ValueError(f'{folder} step {step} holds another model than the '
                     f'config names; compare its config.json')
  return jax.tree.map(
      lambda x, s: jax.make_array_from_callback(x.shape, s, lambda i: x[i]),
      host, laid), step


def _write_private(path, text: str) -> None:
  paths.write(path, text, private=True)
