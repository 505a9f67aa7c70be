"""Real breast ultrasound, BUSI: normal, benign or malignant.

  python -m medrl.main --config=experiments/ultrasound.py \
    --workdir=runs/ultrasound --config.data.root=../shared/data
"""

from experiments import base
from experiments import common


def get_config(arg=''):
  switch = common.parse_arg(arg, runlocal=False)
  c = base.get_config()
  jsonl(c, ('busi_class',))
  # The same file under two names, with opposite labels; the check for overlap
  # of training and evaluation finds it.
  c.data.options.exclude = ('busi-benign_433', 'busi-malignant_145')
  c.processor.max_pixels = 112 * 112
  c.data.buckets = ((72, 64),)
  c.rl.steps = 200
  c.rl.optim.learning_rate = 3e-4
  c.rl.optim.schedule = 'cosine'
  c.checkpoint.metric = 'eval/heldout_greedy/balanced_accuracy'
  if switch['runlocal']:
    base.runlocal(c)
  return c


def jsonl(c, tasks):
  """Tasks of the derived question set, with a format-only cold start."""
  c.data.dataset = 'medrl.data.jsonl.records'
  c.data.options = dict(file='derived_vqa/vqa.jsonl', tasks=tasks, limit=0,
                        validation=0.15, test=0.15, seed=0)
  c.processor.vocab = 512
  c.sft.demonstrate = 'medrl.data.demonstrations.format_only'
  c.sft.steps = 60
  c.sft.length = 32
  c.rollout.length = 32
  c.eval.options = {}
