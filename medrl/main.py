"""Flags -> the trainer that the config names; nothing else.

  python -m medrl.main --config=experiments/x.py --workdir=runs/x
"""

import json
import logging
import os
import pathlib
import sys

from absl import app
from absl import flags
import jax
from ml_collections import config_flags

from medrl import build
from medrl import lookup
from medrl.evals import dry_run
from medrl.evals import run as evals

_CONFIG = config_flags.DEFINE_config_file('config', None, 'A study.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where results go.')
_EVAL_ONLY = flags.DEFINE_bool('eval_only', False,
                               'Score a checkpoint of the workdir.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False,
                             'Show what would run, and stop.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  logging.getLogger().setLevel(logging.INFO)
  cache = os.environ.get('JAX_COMPILATION_CACHE_DIR') or str(
      pathlib.Path.home() / '.cache' / 'medrl' / 'jax')
  jax.config.update('jax_compilation_cache_dir', cache)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  config, workdir = _CONFIG.value, _WORKDIR.value
  if _DRY_RUN.value:
    dry_run.show(config, workdir)
    return
  if _EVAL_ONLY.value:
    print(json.dumps(evals.evaluate(config, workdir)))
    return
  build.write_config(config, workdir)
  print(json.dumps(lookup.resolve(config.trainer)(config, workdir)))


def run():
  """Entry point: a wrong config ends in one line, not in a traceback."""
  flags.mark_flags_as_required(['config', 'workdir'])
  try:
    app.run(main)
  except (ValueError, FileNotFoundError) as error:
    if os.environ.get('MEDRL_TRACEBACK'):
      raise
    sys.exit(f'{type(error).__name__}: {error}')


if __name__ == '__main__':
  run()
