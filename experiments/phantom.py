"""The embedded default: RL on generated CT-like phantoms, no data needed.

  bash launch/local.sh

Demonstrations are partly a hasty reader's, wrong in consistent ways (sides
mirrored, small lesions overlooked, millimetres forgotten). Imitation learns the
form of an answer and both readings; the verified reward tells which is right.
"""

from experiments import base
from experiments import common


def get_config(arg=''):
  switch = common.parse_arg(arg, runlocal=False)
  c = base.get_config()
  c.data.options = dict(
      seed=0, count=4096, demonstration_error=0.75, trace=True,
      permute=False,
      tasks=('present', 'side', 'organ', 'count', 'diameter', 'box'))
  c.data.buckets = ((64, 64),)
  c.processor.vocab = 512
  c.sft.steps = 350
  c.sft.optim.schedule = 'cosine'
  c.sft.length = 36
  c.rollout.length = 36
  c.rl.steps = 110
  c.rl.optim.learning_rate = 2e-4
  c.rl.optim.schedule = 'cosine'
  c.eval.options = dict(count=384, demonstration_error=0.)
  if switch['runlocal']:
    base.runlocal(c)
  return c
