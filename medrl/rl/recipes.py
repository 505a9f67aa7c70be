"""The published combinations, in the words a config uses. Plain data.

A recipe names an advantage, a ratio, a surrogate, a reduction and a KL term by
import path, so that a study may replace one word and keep the rest. Fields:

  advantage ratio surrogate reduce  dotted names
  clip_low clip_high                the ratio is bound to [1 - low, 1 + high]
  kl kl_weight                      dotted name ('' for none) and coefficient
  updates                           optimiser steps on each rollout

Not here: learning rates, batch sizes and the length that `fixed_length` divides
by (the generation budget), and what is no part of the loss: DAPO's refill of
uniform groups and its overlong penalty. [X] marks a value that the source does
not give and that is our proposal.
"""

_ADVANTAGES = 'medrl.rl.advantages.'
_LOSSES = 'medrl.rl.losses.'

# DeepSeekMath, arXiv 2402.03300: token means averaged over completions, k3 with
# weight 0.04, one update a rollout. [X] clip 0.2: the paper leaves epsilon
# open; 0.2 is the default of verl and TRL.
GRPO = {
    'advantage': _ADVANTAGES + 'group_norm',
    'ratio': _LOSSES + 'token_ratio',
    'surrogate': _LOSSES + 'clip',
    'reduce': _LOSSES + 'sequence_mean',
    'clip_low': 0.2,
    'clip_high': 0.2,
    'kl': 'medrl.rl.kl.k3',
    'kl_weight': 0.04,
    'updates': 1,
}

# Understanding R1-Zero-like training, arXiv 2503.20783, and its code (oat):
# 1,024 completions a rollout in updates of 128; divided by a budget of 3,000.
DR_GRPO = {
    'advantage': _ADVANTAGES + 'center',
    'ratio': _LOSSES + 'token_ratio',
    'surrogate': _LOSSES + 'clip',
    'reduce': _LOSSES + 'fixed_length',
    'clip_low': 0.2,
    'clip_high': 0.2,
    'kl': '',
    'kl_weight': 0.0,
    'updates': 8,
}

# DAPO, arXiv 2503.14476: 512 prompts a rollout in updates of 32.
DAPO = {
    'advantage': _ADVANTAGES + 'group_norm',
    'ratio': _LOSSES + 'token_ratio',
    'surrogate': _LOSSES + 'clip',
    'reduce': _LOSSES + 'token_mean',
    'clip_low': 0.2,
    'clip_high': 0.28,
    'kl': '',
    'kl_weight': 0.0,
    'updates': 16,
}

# Group Sequence Policy Optimization, arXiv 2507.18071, section 5.1.
GSPO = {
    'advantage': _ADVANTAGES + 'group_norm',
    'ratio': _LOSSES + 'sequence_ratio',
    'surrogate': _LOSSES + 'clip',
    'reduce': _LOSSES + 'sequence_mean',
    'clip_low': 3e-4,
    'clip_high': 4e-4,
    'kl': '',
    'kl_weight': 0.0,
    'updates': 4,
}

# Back to Basics, arXiv 2402.14740: REINFORCE on whole completions, one update
# a rollout, so that the ratio is 1 and the clip never acts. A completion's
# log-prob is a sum over tokens; `fixed_length` is that sum over a constant.
# [X] KL off: the paper subtracts it from the reward, with a weight per task.
RLOO = {
    'advantage': _ADVANTAGES + 'leave_one_out',
    'ratio': _LOSSES + 'token_ratio',
    'surrogate': _LOSSES + 'clip',
    'reduce': _LOSSES + 'fixed_length',
    'clip_low': 0.2,
    'clip_high': 0.2,
    'kl': '',
    'kl_weight': 0.0,
    'updates': 1,
}

# MiniMax-M1, arXiv 2506.13585: no lower bound. [X] clip_high, which the paper
# tunes and does not state (0.2 is verl's example; it is relative, the cap is
# 1.2, where TRL's epsilon_high is the cap itself), and the number of updates.
CISPO = {
    'advantage': _ADVANTAGES + 'group_norm',
    'ratio': _LOSSES + 'token_ratio',
    'surrogate': _LOSSES + 'cispo',
    'reduce': _LOSSES + 'token_mean',
    'clip_low': 10.0,
    'clip_high': 0.2,
    'kl': '',
    'kl_weight': 0.0,
    'updates': 16,
}

RECIPES = {
    'grpo': GRPO,
    'dr_grpo': DR_GRPO,
    'dapo': DAPO,
    'gspo': GSPO,
    'rloo': RLOO,
    'cispo': CISPO,
}
