"""Flags -> the trainer that the config names; nothing else.

  python -m medrl.main --config=experiments/x.py --workdir=runs/x
"""

import functools
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
_COORDINATOR = flags.DEFINE_string(
    'coordinator', '', 'Of a run over several processes: HOST:PORT of process '
    '0, the same for all, or "auto" on a TPU pod or a cluster that jax knows.')
_PROCESSES = flags.DEFINE_integer('processes', None, 'How many there are.')
_PROCESS = flags.DEFINE_integer('process', None, 'Which of them this is.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  logging.getLogger().setLevel(logging.INFO)
  cache = os.environ.get('JAX_COMPILATION_CACHE_DIR') or str(
      pathlib.Path.home() / '.cache' / 'medrl' / 'jax')
  jax.config.update('jax_compilation_cache_dir', cache)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  join()
  config, workdir = _CONFIG.value, _WORKDIR.value
  if _DRY_RUN.value:
    dry_run.show(config, workdir)
    return
  if _EVAL_ONLY.value:
    result = evals.evaluate(config, workdir)
  else:
    if jax.process_index() == 0:
      build.write_config(config, workdir)
    result = lookup.resolve(config.trainer)(config, workdir)
  if jax.process_index() == 0:
    print(json.dumps(result))


def join():
  """Joins the processes of one run, before anything starts a backend.

  Raises:
    ValueError: a process or a count without a coordinator, or the other way
      round.
  """
  place = (_PROCESSES.value, _PROCESS.value)
  # A process that failed waits so long for the others, which wait for it.
  start = functools.partial(jax.distributed.initialize,
                            shutdown_timeout_seconds=30)
  if _COORDINATOR.value == 'auto':
    start()
  elif _COORDINATOR.value and None not in place:
    start(_COORDINATOR.value, *place)
  elif _COORDINATOR.value or place != (None, None):
    raise ValueError(
        f'--coordinator={_COORDINATOR.value} --processes={place[0]} '
        f'--process={place[1]}; give all three, --coordinator=auto or none')


def _parse(arguments):
  """absl's parser; a key that the config lacks is told with the nearest."""
  try:
    return app.parse_flags_with_usage(arguments)
  except (AttributeError, KeyError) as error:
    # ml_collections names the last part of a key alone, and not always others.
    # It looks for keys in sys.argv, so the study alone is read without them.
    sys.argv = [a for a in arguments if not a.startswith('--config.')]
    flags.FLAGS(sys.argv, known_only=True)
    known = list(build.flat(_CONFIG.value.to_dict()))
    for argument in arguments:
      key, _, _ = argument.removeprefix('--config.').partition('=')
      if argument.startswith('--config.') and key not in known:
        raise ValueError(f'unknown config key {key!r}; '
                         f'{lookup.nearest(key, known)}') from error
    raise


def run():
  """Entry point: a wrong config ends in one line, not in a traceback."""
  flags.mark_flags_as_required(['config', 'workdir'])
  try:
    app.run(main, flags_parser=_parse)
  except (ValueError, OSError) as error:
    if os.environ.get('MEDRL_TRACEBACK'):
      raise
    sys.exit(f'{type(error).__name__}: {error}')


if __name__ == '__main__':
  run()
