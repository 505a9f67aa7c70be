"""Real blood smears, BCCD: the box of the white cell, rewarded by its IoU.

  python -m medrl.main --config=experiments/blood.py --workdir=runs/blood \
    --config.data.root=../shared/data
"""

from experiments import base
from experiments import common
from experiments import ultrasound


def get_config(arg=''):
  switch = common.parse_arg(arg, runlocal=False)
  c = base.get_config()
  ultrasound.jsonl(c, ('box_wbc',))
  c.processor.max_pixels = 224 * 168
  c.data.buckets = ((128, 256),)
  c.sft.length = 40
  c.rollout.length = 40
  c.rl.steps = 200
  c.rl.optim.learning_rate = 3e-4
  c.rl.optim.schedule = 'cosine'
  c.checkpoint.metric = 'eval/heldout_greedy/mean_iou'
  if switch['runlocal']:
    base.runlocal(c)
  return c
