"""A released Qwen2.5-VL on a slice: your records, as experiments/records.py.

  python launch/compile.py --config=experiments/pod.py --topology=v5e:8x8 \
    --model=qwen2_5_vl_7b
  python -m medrl.main --config=experiments/pod.py --workdir=runs/mine \
    --config.model.checkpoint=/models/Qwen2.5-VL-7B-Instruct \
    --config.data.root=/records --config.data.options.file=train.jsonl

Compile first: what does not fit shows there. Made for 64 chips and the 7B; the
3B has two key heads, so its mesh.tensor is 2 at most.
"""

from experiments import common
from experiments import records


def get_config(arg=''):
  switch = common.parse_arg(arg, runlocal=False)
  c = records.get_config('runlocal' if switch['runlocal'] else '')
  c.rl.recipe = ''
  c.rl.kl_weight = 0.01
  # What splash attention takes: multiples of 128.
  if not switch['runlocal']:
    c.model.update(dict(
        size='qwen2_5_vl_7b', compute_dtype='bfloat16', remat='full',
        attention='splash'))
    c.data.buckets = ((1024, 2048),)
    c.data.workers = 8
    c.rollout.update(dict(
        prompts=128, group=8, length=1024, slots=512, resident=128, chunk=64))
    c.rl.update(dict(microbatches=8, vocab_chunk=8192))
    # Sampling holds all weights on each group of `tensor` chips.
    c.mesh.update(dict(data=1, fsdp=-1, tensor=4))
  return c
