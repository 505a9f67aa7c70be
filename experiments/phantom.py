"""The embedded default: RL on generated CT-like phantoms, no data needed.

  bash launch/local.sh

Expected: accuracy on unseen phantoms 0.40 to 0.42 after the cold start, 0.71 to
0.81 after RL (one seed, three states of the code, which round differently); 8 to 13
minutes on two CPU cores with the installation.

Demonstrations are partly a hasty reader's, wrong in consistent ways (sides
reversed, small lesions overlooked, millimetres forgotten, boxes too wide).
Imitation learns the form of an answer and both readings; the verified reward
tells which is right. The cold start must be long enough that samples at
temperature 1 are well formed: after 200 steps, in which 30 % are not, RL cleans
up the form and loses the picture (0.46 to 0.61 and no further).
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
