"""The embedded default: RL on generated CT-like phantoms, no data needed.

  bash launch/local.sh
"""

from experiments import base


def get_config(arg=''):
  c = base.get_config(arg)
  return c
