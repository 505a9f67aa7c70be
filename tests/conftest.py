"""How all tests run: on the CPU, compiled quickly, slow ones when asked for.

No fixture of any one folder, and nothing a single test could set for itself.
"""

import os
import pathlib

import pytest

# jax and XLA read these once, when they start, and processes that tests start
# inherit them. Tests compile far more than they compute, and none measures
# time: without optimisation XLA compiles in a third of the time.
QUICK = ('--xla_backend_optimization_level=0 '
         '--xla_llvm_disable_expensive_passes=true '
         '--xla_cpu_use_fusion_emitters=false')
_CACHE = pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'jax'
_LONG = ('trainers', 'evals', 'notebooks')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('XLA_FLAGS', QUICK)
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')


def pytest_configure(config):
  config.addinivalue_line(
      'markers', 'slow: takes more than a minute; runs with -m slow alone')


def pytest_collection_modifyitems(config, items):
  # Those that train first: one process would end with them while the other has
  # nothing left to do.
  items.sort(key=lambda item: item.path.parent.name not in _LONG)
  if 'slow' in config.option.markexpr:
    return
  for item in items:
    if 'slow' in item.keywords:
      item.add_marker(pytest.mark.skip(reason='slow; run with -m slow'))
