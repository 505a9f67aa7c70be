"""One policy on five kinds of record at once: a film, a CT-like volume, a cine
loop, an ECG on paper and a chart without any image.

  python -m medrl.main --config=experiments/modalities.py --workdir=runs/modalities

Expected: accuracy on 200 unseen records 0.32 after the cold start, 0.365 after RL
(one seed; 20 minutes on two busy CPU cores). What rises is what a policy of this
size can see: lesions on films 0.57 to 0.93, their number in volumes 0.23 to 0.46;
the rest stays at chance. It shows that the kinds train together, no more.

All are phantoms, drawn as they are asked for, so no data is needed. Every batch
mixes the kinds by weight; `data.mixture` is where real sets would stand, each
with a root of its own. A look at them:

  python -m medrl.data.inspect medrl.data.phantom_volume.records --root . \
    --options='{"count": 12}' --out=runs/sheet
"""

import ml_collections

from experiments import base
from experiments import common

# name -> (data set, its tasks)
KINDS = {
    'film': ('medrl.data.phantom.records', ('present', 'side', 'organ')),
    'volume': ('medrl.data.phantom_volume.records',
               ('volume/third', 'volume/organ', 'volume/count')),
    'cine': ('medrl.data.phantom_cine.records',
             ('cine/beats', 'cine/direction')),
    'ecg': ('medrl.data.phantom_signal.records', ('ecg/rhythm', 'ecg/qrs')),
    'chart': ('medrl.data.phantom_chart.records',
              ('chart/last', 'chart/trend', 'chart/missing')),
}


def get_config(arg=''):
  switch = common.parse_arg(arg, runlocal=False)
  c = base.get_config()
  c.data.mixture = ml_collections.ConfigDict({
      name: dict(dataset=dataset, weight=1., options=dict(
          count=2048, seed=0, tasks=tasks, permute=False,
          trace=False, demonstration_error=0.5))
      for name, (dataset, tasks) in KINDS.items()})
  c.data.buckets = ((240, 576),)
  c.data.workers = 1
  c.processor.vocab = 768
  c.sft.steps = 240
  c.sft.optim.schedule = 'cosine'
  c.sft.prompts = 20
  c.sft.length = 20
  c.rollout.update(dict(prompts=20, length=20))
  c.rl.steps = 160
  c.rl.optim.learning_rate = 2e-4
  c.rl.optim.schedule = 'cosine'
  c.eval.options = {name: dict(count=40, demonstration_error=0.)
                    for name in KINDS}
  c.eval.every = 80
  c.eval.prompts = 20
  c.eval.sampled = False
  if switch['runlocal']:
    base.runlocal(c)
  return c
