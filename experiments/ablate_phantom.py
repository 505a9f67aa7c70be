"""Is the gain of RL on phantoms real? Five arms from one SFT checkpoint.

  python -m experiments.ablate_phantom --out=runs/ablation

Slow (42 minutes on two cores); a script, not a config. Every arm starts from
the same supervised checkpoint, trained until its validation score has not risen
for a fifth of its steps, and gets the wall-clock time that RL needs:

  true      RL with true rewards
  sft       supervised training goes on
  rewards   RL, each prompt's rewards taken from the next prompt
  images    RL, each record's images taken from another record
  mask      RL, the action mask one token late

Prints, for each arm and task, the score on unseen phantoms and the difference
from `true` with its 95 % interval over records.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np

from medrl import metrics
from medrl.data import medmnist
from medrl.data import phantom
from medrl.evals import scores
from medrl.rl import advantages
from medrl.rollout import sampler

CONFIG = 'experiments/phantom.py'
ARMS = {
    'true': [],
    'sft': ['--config.trainer=medrl.trainers.sft.train'],
    'rewards': [
        '--config.rl.advantage=experiments.ablate_phantom.next_prompt'],
    'images': ['--config.data.dataset=experiments.ablate_phantom.other_images'],
    'mask': ['--config.rollout.fn=experiments.ablate_phantom.late_mask'],
}


def next_prompt(rewards, info):
  """GRPO's advantage of the rewards that the next prompt's group got."""
  return advantages.group_norm(jnp.roll(rewards, 1, axis=0), info)


def other_images(root, split, **options):
  """Phantom records; the training ones show another record's images."""
  found = list(phantom.records(root, split, **options))
  if split != 'train':
    return found
  by_task = {}
  for record in found:
    by_task.setdefault(record.task, []).append(record)
  out = {}
  for rows in by_task.values():
    order = np.random.default_rng(0).permutation(len(rows))
    for row, other in zip(rows, order):
      out[row.id] = dataclasses.replace(row, media=rows[other].media)
  return [out[r.id] for r in found]


def other_diagnoses(root, split, **options):
  """Chest films; the training ones are rewarded for another film's answer.

  The control of `experiments/chest.py`: unlike `next_prompt` it leaves the
  reward for the form of an answer alone.
  """
  found = list(medmnist.records(root, split, **options))
  if split != 'train':
    return found
  order = np.random.default_rng(0).permutation(len(found))
  return [dataclasses.replace(row, answer=found[other].answer)
          for row, other in zip(found, order)]


def late_mask(*arguments):
  """Rollouts whose action mask begins and ends one token late."""
  rollout = sampler.rollout(*arguments)
  mask = jnp.pad(rollout.action_mask, ((0, 0), (0, 0), (1, 0)))[..., :-1]
  # The logged log-probs must stay comparable with the scorer's.
  return rollout._replace(action_mask=mask,
                          token_mask=rollout.token_mask | mask)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', default='runs/ablation', type=pathlib.Path)
  parser.add_argument('--seeds', default=3, type=int,
                      help='of the first two arms; the others get one')
  parser.add_argument('--records', default=1800, type=int)
  args, extra = parser.parse_known_args()
  start = args.out / 'start'
  run(start, extra, '--config.trainer=medrl.trainers.sft.train',
      '--config.sft.patience=0.2', '--config.sft.steps=100000')
  answers, steps = {'start': [test(start, args, extra)]}, 0
  for arm, flags in ARMS.items():
    answers[arm] = []
    for seed in range(args.seeds if arm in ('true', 'sft') else 1):
      folder = args.out / f'{arm}_{seed}'
      if arm == 'sft':
        flags = [*ARMS[arm], f'--config.sft.steps={steps}']
      run(folder, extra, *flags, f'--config.seed={seed}',
          '--config.sft.optim.warmup=10', f'--config.checkpoint.start={start}',
          *([] if arm == 'sft' else ['--config.sft.steps=0']))
      answers[arm].append(test(folder, args, extra))
    if arm == 'true':
      spent = seconds(args.out / 'true_0')
      steps = int(spent / seconds(start, mean=True))
      print(f'RL took {spent:.0f} s, as long as {steps} supervised steps')
  report(answers, args.out / 'report.json')


def run(folder, extra, *flags):
  """Trains in a process of its own; goes on if it was begun before."""
  subprocess.run([sys.executable, '-m', 'medrl.main', f'--config={CONFIG}',
                  f'--workdir={folder}', *extra, *flags],
                 check=True)


def test(folder, args, extra):
  """Rows of the newest checkpoint on unseen phantoms, greedy and sampled."""
  run(folder, extra, '--eval_only', '--config.eval.split=test',
      f'--config.eval.options.count={args.records}')
  return [json.loads(line) for line in
          (folder / 'answers.jsonl').read_text().splitlines()]


def seconds(folder, mean=False):
  """Time in steps of a run, without compiling and evaluating."""
  spent = [row['time/step'] for row in metrics.read(folder / 'metrics.jsonl')
           if 'time/step' in row]
  return np.mean(spent) if mean else np.sum(spent)


def pooled(runs, suite, kind):
  """One row a record: the mean over seeds, of plain answers or of boxes."""
  values = {}
  for rows in runs:
    for row in rows:
      boxes = row['answer_type'] in scores.BOXES
      if row['suite'] == suite and boxes == (kind == 'boxes'):
        values.setdefault(row['record'], []).append(row)
  # Rewritten as 'text', as `difference` leaves boxes out.
  return [dict(rows[0], answer_type='text', value=float(np.mean(
      [0. if r['value'] is None else r['value'] for r in rows])))
          for rows in values.values()]


def report(answers, path):
  """Prints and keeps every arm's score by task, and `true` minus it."""
  out = []
  for suite in ('heldout_greedy', 'heldout_sampled'):
    for kind in ('plain', 'boxes'):
      true = pooled(answers['true'], suite, kind)
      for task in ['', *sorted({r['task'] for r in true})]:
        def part(rows):
          return [r for r in rows if task in ('', r['task'])]
        for arm, runs in answers.items():
          rows = part(pooled(runs, suite, kind))
          if not rows:
            continue
          each = [np.mean([r['value']
                           for r in part(pooled([one], suite, kind))])
                  for one in runs]
          plain = [r for one in runs for r in one if r['suite'] == suite
                   and task in ('', r['task'])
                   and (r['answer_type'] in scores.BOXES) == (kind == 'boxes')]
          parsed = [r['value'] for r in plain if r['value'] is not None]
          gain = scores.difference(part(true), rows)
          out.append(dict(
              suite=suite, kind=kind, task=task or 'all', arm=arm,
              score=float(np.mean(each)), seeds=[float(e) for e in each],
              parsed=len(parsed) / len(plain),
              among_parsed=float(np.mean(parsed)) if parsed else None,
              true_minus=gain))
          print('{suite:16s} {kind:5s} {task:9s} {arm:8s} score {score:.3f}  '
                'parsed {parsed:.3f}'.format(**out[-1]),
                'true minus this {value:+.3f} [{low:+.3f}, {high:+.3f}] n {n}'
                .format(**gain), flush=True)
  path.write_text(json.dumps(out, indent=1))


if __name__ == '__main__':
  main()
