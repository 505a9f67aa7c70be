"""Your own records and checkpoint: JSON lines below a data root.

  python -m medrl.main --config=experiments/records.py --workdir=runs/mine \
    --config.model.checkpoint=/models/Qwen2.5-VL-3B-Instruct \
    --config.data.root=/records --config.data.options.file=train.jsonl

Set what your machine needs: config.mesh, config.model.compute_dtype and remat,
config.rollout.prompts, and data.buckets from what --dry_run prints.
"""

from experiments import base
from experiments import common


def get_config(arg=''):
  switch = common.parse_arg(arg, runlocal=False)
  c = base.get_config()
  c.data.dataset = 'medrl.data.jsonl.records'
  c.data.options = dict(
      file='records.jsonl',   # relative to the root
      tasks=(),               # some of the file's tasks; () for all
      limit=0,                # records at most; 0 for all
      validation=0.1, test=0.1, seed=0)   # shares of the patients
  c.data.on_bad = 'skip'      # counted in data/bad/*
  c.data.buckets = ((512, 1024), (1536, 4096))
  c.processor.system = 'You are a helpful assistant.'
  c.processor.max_pixels = 448 * 448
  c.processor.user = (
      '{question}\n{options}\nThink between <think> and </think>, then give '
      'the answer alone between <answer> and </answer>.')
  c.rollout.update(dict(prompts=16, length=512))
  c.rl.optim.learning_rate = 1e-6   # usual for released checkpoints
  c.eval.options = {}
  if switch['runlocal']:
    base.runlocal(c)
    c.data.options.file = 'derived_vqa/vqa.jsonl'
    c.data.options.tasks = ('busi_class',)
    c.processor.max_pixels = 56 * 56
    c.data.buckets = ((192, 64),)
  return c
