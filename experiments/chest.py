"""Real chest films, PneumoniaMNIST: pneumonia or normal, from reward alone.

  python -m medrl.main --config=experiments/chest.py --workdir=runs/chest \
    --config.data.root=../shared/data

A cold start teaches the form of an answer with random options; every bit about
films comes from the reward. Expected: balanced accuracy on 524 films never
trained on 0.50 before, 0.82, 0.83 and 0.89 after (three seeds; one takes four
minutes on two CPU cores). Rewarded for other films' answers it stays at 0.50.
"""

from experiments import base
from experiments import common


def get_config(arg=''):
  switch = common.parse_arg(arg, runlocal=False)
  c = base.get_config()
  c.data.dataset = 'medrl.data.medmnist.records'
  c.data.options = dict(
      folder='pneumoniamnist', size=112, limit=0, balance=True,
      question='Pneumonia?', permute=False,
      options=('normal', 'pneumonia'))
  c.data.buckets = ((40, 64),)
  c.processor.vocab = 512
  c.rewards.format.weight = 0.1
  c.sft.demonstrate = 'medrl.data.demonstrations.format_only'
  c.sft.steps = 60
  c.sft.length = 16
  c.rollout.length = 14
  c.rl.steps = 200
  c.rl.optim.learning_rate = 3e-4
  c.rl.optim.schedule = 'cosine'
  c.eval.split = 'validation'
  c.eval.options = dict(balance=False)
  c.checkpoint.metric = 'eval/heldout_greedy/balanced_accuracy'
  if switch['runlocal']:
    base.runlocal(c)
  return c
