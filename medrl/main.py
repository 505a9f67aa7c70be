"""Flags -> the trainer that the config names; nothing else.

  python -m medrl.main --config=experiments/x.py --workdir=runs/x
"""

import json
import logging
import os
import pathlib
import sys
import traceback

from absl import app
from absl import flags
import jax
from ml_collections import config_flags

from medrl import accelerators
from medrl import build
from medrl import claims
from medrl import hosts
from medrl import hparams
from medrl import lookup
from medrl.evals import dry_run
from medrl.evals import run as evals

# Exit status of a run whose config, flags or data are wrong: it would end so
# again. Of a crash it is 1, of a run that was stopped see `trainers/session`.
WRONG = 2

_CONFIG = config_flags.DEFINE_config_file('config', None, 'A study.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where results go.')
_EVAL_ONLY = flags.DEFINE_bool('eval_only', False,
                               'Score a checkpoint of the workdir.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False,
                             'Show what would run, and stop.')
_ACCELERATOR = flags.DEFINE_string(
    'accelerator', '', 'What this machine must have: cpu, tpu, gpu, cuda12 or '
    'cuda13; another is refused. Nothing takes what there is.')
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
  config, workdir = _CONFIG.value, _WORKDIR.value
  how = config.hosts
  hosts.join(_COORDINATOR.value, (_PROCESSES.value, _PROCESS.value),
             how.silent_s, how.meet_s)
  with hosts.company():
    accelerators.check(_ACCELERATOR.value)
    if _DRY_RUN.value:
      dry_run.show(config, workdir)
      return
    result = work(config, workdir)
  if jax.process_index() == 0:
    print(json.dumps(result))


def work(config, workdir):
  """Trains or evaluates, and returns the result."""
  if _EVAL_ONLY.value:
    return evals.evaluate(config, workdir)
  with claims.claim(workdir, config.hosts.meet_s):
    if jax.process_index() == 0:
      build.write_config(config, workdir)
    result = lookup.resolve(config.trainer)(config, workdir)
    if jax.process_index() == 0 and config.log.tensorboard:
      changed = config_flags.get_override_values(flags.FLAGS['config'])
      hparams.write(workdir, changed, result)
    return result


def _parse(arguments):
  """absl's parser; a key that the config lacks is told with the nearest."""
  try:
    return app.parse_flags_with_usage(arguments)
  except SystemExit:   # it has told what is wrong with them
    raise SystemExit(WRONG) from None
  except (AttributeError, KeyError) as error:
    # ml_collections names the last part of a key alone, and not always others.
    # It looks for keys in sys.argv, so the study alone is read without them.
    sys.argv = [a for a in arguments if not a.startswith('--config.')]
    flags.FLAGS(sys.argv, known_only=True)
    known = list(lookup.flat(_CONFIG.value.to_dict()))
    for argument in arguments:
      key, _, _ = argument.removeprefix('--config.').partition('=')
      if argument.startswith('--config.') and key not in known:
        raise ValueError(f'unknown config key {key!r}; '
                         f'{lookup.nearest(key, known)}') from error
    raise


def run():
  """Entry point: a wrong config ends in one line, not in a traceback.

  Exits with `WRONG` where that is the cause, with 1 where a file or a host
  failed.
  """
  flags.mark_flags_as_required(['config', 'workdir'])
  try:
    app.run(main, flags_parser=_parse)
  except Exception as error:
    plain = isinstance(error, (ValueError, OSError)) and (
        not hosts.of_runtime(error))
    if plain and not os.environ.get('MEDRL_TRACEBACK'):
      print(f'{type(error).__name__}: {error}', file=sys.stderr, flush=True)
    else:
      traceback.print_exc()
    status = WRONG if plain and isinstance(error, ValueError) else 1
    if hosts.several():
      hosts.abandon(status)
    sys.exit(status)


if __name__ == '__main__':
  run()
