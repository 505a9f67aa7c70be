"""The full default: every field there is, with its unit, range or reason.

  python -m medrl.main --config=experiments/base.py --workdir=runs/base

A study changes what differs; `:runlocal` finishes two steps with a toy model.
Code is named by its import path, so nothing of the library is imported here.
"""

import ml_collections
from ml_collections import config_dict

from experiments import common


def get_config(arg=''):
  switch = common.parse_arg(arg, runlocal=False)
  c = ml_collections.ConfigDict()
  c.trainer = 'medrl.trainers.grpo.train'   # f(config, workdir)
  c.seed = 0

  c.model = ml_collections.ConfigDict(dict(
      family='medrl.models.qwen2_5_vl',
      size='tiny',              # a name of the family's CONFIGS
      checkpoint='',            # or a local folder of released safetensors
      compute_dtype='float32',  # bfloat16 on accelerators
      remat='none',             # what layers keep for the gradient: none (all),
                                # dots, minimal, offload, full (nothing)
      attention='plain',        # 'blocked': for long prompts, scores of only so
      attention_block=512,      # many queries at a time; 'splash': a TPU's
                                # kernel, lengths are then multiples of 128,
                                # best of so many slots
      freeze=(),                # path prefixes that are not trained: 'vision'
      reference_dtype='bfloat16',
      offload=(),               # kept in host memory: 'reference', 'moments'
  ))
  c.processor = ml_collections.ConfigDict(dict(
      module='medrl.processors.qwen_vl',
      tokenizer='',        # folder; '' takes the checkpoint's, or builds one
      vocab=1024,          # ids of a built tokenizer, at most
      min_pixels=3136,     # area bounds an image is resized into
      max_pixels=50176,
      system='',           # '' leaves the system turn out
      user='{question}\n{options}',
  ))
  c.data = ml_collections.ConfigDict(dict(
      dataset='medrl.data.phantom.records',   # f(root, split, **options)
      root='',             # nothing above this folder is ever read
      split='train',       # train, validation or test
      options=dict(seed=0, count=4096),
      # Several data sets in one stream, instead of the one above: name ->
      # dict(dataset, weight, and root and options where they differ).
      mixture=ml_collections.ConfigDict(),
      balance='',          # records are repeated until all values of this are
                           # as frequent: answer, task, site, meta.x
      cache_mb=256,        # decoded media that a worker keeps, at most
      # What a run does that would evaluate on records it trains on: refuse,
      # warn or off. 'subject' are equal patients, 'bytes' equal files, 'text'
      # equal questions on such files or on none; 'look' decodes every medium.
      overlap=dict(action='refuse', checks=('subject', 'bytes', 'text')),
      workers=0,           # processes that decode and tokenise
      on_bad='error',      # or 'skip', which counts it by reason
      buckets=((128, 64), (128, 128)),   # (prompt tokens, patches), a program
                                         # each; the smallest that fits is used
  ))
  c.rewards = ml_collections.ConfigDict(dict(
      answer=dict(fn='medrl.rewards.answer.score', weight=1.0),
      format=dict(fn='medrl.rewards.format.tags', weight=0.1),
  ))
  c.scoring = ml_collections.ConfigDict(dict(
      workers=0,           # processes that score; 0 scores in the loop, where
                           # a reward that hangs holds the run
      limit_s=10.0,        # a sample may take in a worker, which is then killed
      policy='mask',       # of a failed one: leave it out; or 'zero'
      device=True,         # terms of token ids alone run where the rollout is
  ))
  # name -> dict(fn=factory, options=dict), for rewards that ask a model
  c.judges = ml_collections.ConfigDict()
  c.embedders = ml_collections.ConfigDict()
  c.reference_judge = ml_collections.ConfigDict(dict(
      prompt=0,            # tokens of a prompt to the frozen first policy as
                           # judge 'reference', which sees no image; 0 for none
      reply=64,            # tokens of its reply, at most
  ))
  c.signals = ml_collections.ConfigDict(dict(
      # Of what rewards need of the model; without such a reward, of nothing.
      share=0.6,           # soft tokens hidden in logps/masked and logps/noised
      answer_length=16,    # tokens of a rederived answer
      steps=3,             # ends of reasoning steps to go on from, at most
      samples=2,           # continuations of each
  ))
  c.rollout = ml_collections.ConfigDict(dict(
      fn='medrl.rollout.slots.rollout',   # or one with tools in it
      prompts=32,          # prompts a step, over all processes
      group=8,             # completions a prompt
      length=48,           # tokens a completion, at most
      temperature=1.0, top_k=0, top_p=1.0, min_p=0.0,
      repetition_penalty=1.0,   # divides logits of ids that were there
      stop_strings=(),     # end a completion, as im_end does
      budget='',           # field of a record's meta: its own bound on length
      slots=0,             # completions written at a time, over all devices;
                           # one that ends makes room; 0 for all at once
      resident=0,          # prompts whose keys are held at a time; 0 for all
      chunk=0,             # prompts encoded at a time; 0 for all resident
      kv='',               # keys kept as int8 or bfloat16; '' as computed
      draft=0,             # tokens guessed from what stood behind the last
      ngram=3,             # before; changes no token
      # DAPO's dynamic sampling: groups of equal rewards are dropped, and more
      # prompts sampled until `prompts` others are there.
      refill=dict(
          attempts=0,      # batches sampled for a step, at most; 0 drops none
          keep='',         # reward that must differ in a group; '' their sum
          carry=False,     # what is over goes into the next step, a step old
      ),
  ))
  c.rl = ml_collections.ConfigDict(dict(
      steps=200,           # rollouts
      epochs=1,            # passes over a rollout
      minibatches=1,       # updates a pass; divides prompts
      microbatches=1,      # accumulated within an update; changes no result
      # A published combination or a peer's default by name, from
      # medrl/rl/recipes.py, for what is left open ('', or a number without a
      # value) below; '' is this project's own, which the comments give.
      recipe='',
      advantage='',        # medrl.rl.advantages.group_norm
      ratio='',            # medrl.rl.losses.token_ratio
      surrogate='',        # medrl.rl.losses.clip
      reduce='',           # medrl.rl.losses.token_mean
      clip_low=config_dict.placeholder(float),    # 0.2
      clip_high=config_dict.placeholder(float),   # 0.28
      kl='',               # medrl.rl.kl.k3
      # 0.0; where it is 0, no reference is held at all.
      kl_weight=config_dict.placeholder(float),
      kl_in='',            # loss; or score, return, token: see the recipes
      correction='',       # none; medrl.rl.corrections.token_tis
      token_weights='',    # none; medrl.rl.weights.forks
      # Keyword options of the functions above and below, by word.
      options=dict(advantage={}, ratio={}, surrogate={}, reduce={}, kl={},
                   correction={}, rejection={}, token_weights={}, distill={}),
      rejection='',        # what rejects tokens: medrl.rl.corrections.k3_reject
      drop_rejected=False,   # they leave the denominators; else they weigh 0
      normalise_correction='none',   # its weights, to a mean of 1 over tokens
                                     # or completions; costs a scoring pass
      old_logps='scored',  # or 'sampler': no pass, the ratio corrects, and a
                           # correction is double unless the surrogate is gpg
      drawn_logps=False,   # those of the sampler are of what it drew from
                           # (temperature, top_p), not of temperature 1
      entropy_weight=0.0,  # of a bonus for entropy, in nats
      distill='',          # medrl.rl.distill.reverse, from config.teachers
      distill_weight=0.0,
      credit_weight=0.0,   # of rewards by stretch of text in the advantage
      vocab_chunk=2048,    # ids whose logits exist at a time; 8192 on a TPU
      # Rows that several completions share: tokens of a row, at least
      # rollout.length (0: each has its own), and how many rows all of them may
      # have, growing, a program each; where none is enough, each has its own.
      pack=dict(tokens=0, rows=()),
      overlap=False,       # the next step's rollout is sampled during rewards,
                           # by the policy of one update earlier
      # f(record) -> factors of its clip range and of its KL weight; '' for 1.
      per_sample='',
  ))
  c.rl.optim = optim(1e-4)
  # name -> dict(weight, and either checkpoint, a folder of safetensors, or
  # start, a run's folder): frozen policies of this model to learn from.
  c.teachers = ml_collections.ConfigDict()
  c.sft = ml_collections.ConfigDict(dict(
      steps=0,             # supervised steps before RL; 0 for none
      prompts=32,
      length=64,           # demonstration tokens, at most
      microbatches=1,
      patience=0.0,        # stop when the validation score has not risen for
                           # this share of the steps so far; 0 never
      patience_steps=200,  # and not for at least so many steps
      # f(records, seed) -> records with demonstrations; '' takes their own.
      demonstrate='',
      # Rows that several examples share: tokens and patches of a row, and how
      # many rows a batch may have (a program each) besides one a prompt.
      pack=dict(tokens=0, patches=0, rows=()),   # 0 tokens: not packed
  ))
  c.sft.optim = optim(1e-3)
  c.eval = ml_collections.ConfigDict(dict(
      every=50,            # steps
      split='validation',
      options=dict(count=256),   # laid over data.options
      prompts=64,
      sampled=True,        # also one sample at the rollout's temperature
      resamples=1000,      # bootstrap
  ))
  c.checkpoint = ml_collections.ConfigDict(dict(
      every=50,            # steps; the last step is always saved
      keep_last=2,
      keep_best=1,
      metric='eval/heldout_greedy/accuracy',
      start='',            # a run's folder whose policy to start from
      step=-1,             # which of its steps; -1 the newest
  ))
  c.log = ml_collections.ConfigDict(dict(
      rollouts=True,       # rollouts.jsonl, readable by its owner only
      rollouts_per_step=8,
      tensorboard=True,
      progress=True,
  ))
  # Sizes of the mesh; one may be -1, what is left. Prompts are split over data
  # and fsdp, parameters over fsdp and tensor, the tokens, patches and keys of a
  # prompt over sequence. `slices` have a fast network each: data (then fsdp)
  # goes over what is between them, sequence and tensor stay in a process.
  c.mesh = ml_collections.ConfigDict(dict(
      data=-1, fsdp=1, sequence=1, tensor=1, slices=1))
  # Logical axis -> mesh axis, '' replicated; while sampling nothing is split
  # over fsdp, or every token would gather every weight.
  c.sharding = ml_collections.ConfigDict(dict(
      layers='', norm='', head_dim='', qkv='', patch='', vision_merged='fsdp',
      embed='fsdp', vocab='tensor', heads='tensor', kv_heads='tensor',
      mlp='tensor', vision_embed='fsdp', vision_heads='tensor',
      vision_mlp='tensor',
  ))
  # Of a run of several processes, and of one that hangs (medrl/hosts.py).
  c.hosts = ml_collections.ConfigDict(dict(
      meet_s=600,          # wait so long for all processes at the start
      silent_s=30,         # a process not heard of for so long ends the others
      step_timeout_s=0.0,  # a step, with its evaluation and its save, that
                           # takes longer has the stacks of all threads written
                           # to stacks.<process>.txt; 0 never
      end_after_s=600.0,   # so long after that the process ends, for
                           # launch/run.sh to start it again; 0 never
  ))
  if switch['runlocal']:
    runlocal(c)
  return c


def optim(learning_rate):
  """AdamW with linear warm-up, then constant or cosine to zero."""
  return ml_collections.ConfigDict(dict(
      learning_rate=learning_rate,
      schedule='constant',     # or 'cosine'
      warmup=10,               # steps
      b1=0.9, b2=0.98, eps=1e-8,
      moment_dtype='float32',  # or 'bfloat16', rounded stochastically
      weight_decay=0.0,        # on matrices only
      clip_norm=1.0,           # global gradient norm
  ))


def runlocal(c):
  """Two steps on a laptop, to see that a study runs at all."""
  c.model.size = 'toy'
  sets = [(c.data.options, c.eval.options)]
  if c.data.mixture:
    sets = [(part.options, c.eval.options[name])
            for name, part in c.data.mixture.items()]
  for options, held_out in sets:
    few = 'count' if 'count' in options else 'limit'
    options[few] = 64 // len(sets)
    held_out[few] = 16 // len(sets)
  c.eval.prompts = 8
  c.eval.resamples = 50
  c.rollout.update(dict(prompts=4, group=2, length=8))
  c.rl.steps = 2
  c.sft.prompts = 4
  c.sft.steps = min(c.sft.steps, 2)
  c.checkpoint.every = 1
  c.eval.every = 2
