"""The published combinations, in the words a config uses. Plain data.

`config.rl.recipe` names one; `words.laid` lays it under the config, whose own
values win. A recipe says where it differs from `BASE`, which is this project's
default and has every field. Fields:

  advantage ratio surrogate reduce  dotted names
  clip_low clip_high                what the surrogate makes of them
  kl kl_weight kl_in                dotted name, coefficient, and where it goes:
                                    'loss'; or the reward of a completion
                                    ('score', summed over its tokens, before the
                                    advantage), its tokens' returns ('return',
                                    summed from the token on) or each token's
                                    value ('token'), after the advantage
  correction token_weights          dotted names, 'none' for none
  options                           word -> keyword options of its function
  updates                           optimiser steps on each rollout

`updates` is told and not laid: `rl.minibatches` has to divide the prompts of a
step. Not here: learning rates, batch sizes, the length that `fixed_length`
divides by (the generation budget), and what is no part of the loss: DAPO's
refill of uniform groups and its overlong penalty. [X] marks a value that the
source does not give and that is our proposal.
"""

_ADVANTAGES = 'medrl.rl.advantages.'
_CORRECTIONS = 'medrl.rl.corrections.'
_LOSSES = 'medrl.rl.losses.'
_WEIGHTS = 'medrl.rl.weights.'

BASE = {
    'advantage': _ADVANTAGES + 'group_norm',
    'ratio': _LOSSES + 'token_ratio',
    'surrogate': _LOSSES + 'clip',
    'reduce': _LOSSES + 'token_mean',
    'clip_low': 0.2,
    'clip_high': 0.28,
    'kl': 'medrl.rl.kl.k3',
    'kl_weight': 0.0,
    'kl_in': 'loss',
    'correction': 'none',
    'token_weights': 'none',
    'options': {},
    'updates': 1,
}

# DeepSeekMath, arXiv 2402.03300: token means averaged over completions, k3 with
# weight 0.04, one update a rollout. [X] clip 0.2: the paper leaves epsilon
# open; 0.2 is the default of verl and TRL.
GRPO = {
    'reduce': _LOSSES + 'sequence_mean',
    'clip_high': 0.2,
    'kl_weight': 0.04,
}

# Understanding R1-Zero-like training, arXiv 2503.20783, and its code (oat):
# 1,024 completions a rollout in updates of 128; divided by a budget of 3,000.
DR_GRPO = {
    'advantage': _ADVANTAGES + 'center',
    'reduce': _LOSSES + 'fixed_length',
    'clip_high': 0.2,
    'updates': 8,
}

# DAPO, arXiv 2503.14476: 512 prompts a rollout in updates of 32.
DAPO = {
    'clip_high': 0.28,
    'updates': 16,
}

# Group Sequence Policy Optimization, arXiv 2507.18071, section 5.1.
GSPO = {
    'ratio': _LOSSES + 'sequence_ratio',
    'reduce': _LOSSES + 'sequence_mean',
    'clip_low': 3e-4,
    'clip_high': 4e-4,
    'updates': 4,
}

# Back to Basics, arXiv 2402.14740: REINFORCE on whole completions, whose
# log-prob is the sum over their tokens. [X] KL off: the paper subtracts it from
# the reward (kl_in 'score'), with a weight per task.
RLOO = {
    'advantage': _ADVANTAGES + 'leave_one_out',
    'surrogate': _LOSSES + 'unclipped',
    'reduce': _LOSSES + 'sequence_sum',
}

# REINFORCE++, arXiv 2501.03262: no group; the KL goes into the tokens' returns.
# [X] the coefficient, which is OpenRLHF's default.
REINFORCE_PP = {
    'advantage': _ADVANTAGES + 'whiten',
    'clip_high': 0.2,
    'kl': 'medrl.rl.kl.k1',
    'kl_weight': 0.01,
    'kl_in': 'return',
}

# Its form with the group's mean as baseline; a KL in the loss, k2 (verl's
# example). [X] the coefficient, which is verl's default.
REINFORCE_PP_BASELINE = {
    'advantage': _ADVANTAGES + 'whiten',
    'clip_high': 0.2,
    'kl': 'medrl.rl.kl.k2',
    'kl_weight': 0.001,
    'options': {'advantage': {'baseline': 'group'}},
}

# On-Policy RL with Optimal reward baseline, arXiv 2505.23585: exactly on
# policy, without KL and without clip.
OPO = {
    'advantage': _ADVANTAGES + 'opo',
    'surrogate': _LOSSES + 'unclipped',
}

# GDPO, arXiv 2601.05242: needs a reward of several terms. [X] the rest of the
# loss is GRPO's as verl has it.
GDPO = {
    'advantage': _ADVANTAGES + 'per_part',
    'clip_high': 0.2,
}

# MiniMax-M1, arXiv 2506.13585: no lower bound. [X] clip_high, which the paper
# tunes and does not state (0.2 is verl's example; it is relative, the cap is
# 1.2), and the number of updates.
CISPO = {
    'surrogate': _LOSSES + 'cispo',
    'clip_low': 10.0,
    'clip_high': 0.2,
    'updates': 16,
}

# TRL's example: the cap itself is 5.
CISPO_TRL = CISPO | {
    'clip_high': 5.0,
    'options': {'advantage': {'eps': 1e-4}, 'surrogate': {'absolute': True}},
}

# EasyR1's example: weights within [1, 5].
CISPO_EASYR1 = CISPO | {
    'clip_low': 0.0,
    'clip_high': 4.0,
}

# Geometric-Mean Policy Optimization, arXiv 2507.20673: log ratios within 0.4.
GMPO = {
    'surrogate': _LOSSES + 'gmpo',
    'reduce': _LOSSES + 'sequence_mean',
    'clip_low': 0.4,
    'clip_high': 0.4,
    'updates': 8,
}

# GPG, arXiv 2504.02546: the plain policy gradient. Its factor for uniform
# groups, all groups over those that are not, is a learning rate and left out.
GPG = {
    'advantage': _ADVANTAGES + 'center',
    'surrogate': _LOSSES + 'gpg',
}

# Soft Adaptive Policy Optimization, arXiv 2511.20347. [X] updates.
SAPO = {
    'surrogate': _LOSSES + 'sapo',
    'reduce': _LOSSES + 'sequence_mean',
    'updates': 4,
}

# Beyond the 80/20 Rule, arXiv 2506.01939: DAPO on the fifth of a batch's tokens
# with the highest entropy.
FORKING = DAPO | {
    'token_weights': _WEIGHTS + 'forks',
    'options': {'token_weights': {'share': 0.2, 'over': 'batch'}},
}

# SPINE, arXiv 2511.17938: on a fifth of each completion's tokens, the KL too.
# Its entropy band is left out. [X] clip and coefficient.
SPINE = {
    'clip_high': 0.2,
    'kl_weight': 0.01,
    'token_weights': _WEIGHTS + 'forks',
    'options': {'token_weights': {'share': 0.2, 'over': 'completion'}},
}

# What the peers do by default, as read in their code of summer 2026. Our clamp
# of token log ratios at +-20 stays where TRL and NeMo RL have none: it acts
# beyond a ratio of 4.8e8.

# verl 1dda039, adv_estimator grpo (the default, gae, has a critic): group of
# one passes the raw reward, dual clip of 3, no KL (k3 where it is asked for),
# no correction.
VERL = {
    'surrogate': _LOSSES + 'dual_clip',
    'clip_high': 0.2,
    'options': {'advantage': {'eps': 1e-6, 'single': 'raw'},
                'surrogate': {'c': 3.0},
                'kl': {'bound': 20.0, 'top': 10.0}},
    'updates': 4,
}

# TRL f2cd577: loss type dapo, no KL (unclamped k3 where it is asked for); what
# it does where vLLM samples: a completion whose product of ratios exceeds 3 is
# masked.
TRL = {
    'clip_high': 0.2,
    'correction': _CORRECTIONS + 'sequence_band',
    'options': {'advantage': {'eps': 1e-4},
                'kl': {'bound': float('inf'), 'top': float('inf')},
                'correction': {'low': 0.0, 'high': 3.0}},
}

# OpenRLHF 3c3be62, estimator group_norm (the default, gae, has a critic): k1,
# clamped to +-10, goes into the returns after the reward is normalised. Its
# clip of rewards to +-10 is left out.
OPENRLHF = {
    'clip_high': 0.2,
    'kl': 'medrl.rl.kl.k1',
    'kl_weight': 0.01,
    'kl_in': 'return',
    'options': {'advantage': {'eps': 1e-9}, 'kl': {'top': 10.0}},
}

# NeMo RL 7ea279a, examples/configs/grpo_math_1B.yaml: mean and deviation of the
# others; no epsilon where that is 0; a KL with the gradient of the sampling.
NEMO_RL = {
    'clip_high': 0.2,
    'kl_weight': 0.01,
    'options': {'advantage': {'eps': 1e-6, 'eps_where': 'positive',
                              'leave_out': 'both'},
                'kl': {'bound': 20.0, 'top': 10.0, 'score': True}},
}

RECIPES = {
    'grpo': GRPO,
    'dr_grpo': DR_GRPO,
    'dapo': DAPO,
    'gspo': GSPO,
    'rloo': RLOO,
    'reinforce_pp': REINFORCE_PP,
    'reinforce_pp_baseline': REINFORCE_PP_BASELINE,
    'opo': OPO,
    'gdpo': GDPO,
    'cispo': CISPO,
    'cispo_trl': CISPO_TRL,
    'cispo_easyr1': CISPO_EASYR1,
    'gmpo': GMPO,
    'gpg': GPG,
    'sapo': SAPO,
    'forking': FORKING,
    'spine': SPINE,
    'verl': VERL,
    'trl': TRL,
    'openrlhf': OPENRLHF,
    'nemo_rl': NEMO_RL,
}
