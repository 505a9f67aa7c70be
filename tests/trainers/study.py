"""A run small enough to be killed, stopped and doubled: what these tests train.

Cold start, then RL, with a checkpoint every other step. Not an experiment.
"""

from experiments import base


def get_config(arg=''):
  c = base.get_config('runlocal')
  c.data.options.update(dict(count=16, tasks=('side', 'diameter')))
  c.data.buckets = ((64, 64),)
  c.data.workers = 1
  c.processor.vocab = 512
  c.rewards.hook = dict(fn='tests.trainers.hooks.score', weight=1.0)
  c.rollout.update(dict(prompts=4, group=2, length=8))
  c.rl.steps = 6
  c.rl.minibatches = 2
  c.rl.kl_weight = 0.01
  c.sft.steps = 3
  c.sft.demonstrate = 'tests.trainers.hooks.demonstrations'
  c.eval.update(dict(every=100, sampled=False))
  c.checkpoint.update(dict(every=2, keep_last=3))
  c.log.progress = False
  return c
