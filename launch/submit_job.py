"""What every engine of launch/submit.py stands on: a job, and its commands.

Text that a user gave becomes one literal argument, whatever is in it: it is
quoted here and nowhere else. Not here: any engine's format (launch/engines/).
"""

import dataclasses
import math
import shlex
from typing import Any

from medrl import accelerators

# Exit status of launch/run.sh where a signal stopped the run before its end.
STOPPED = 143
# Lists of requirements that a job installs where it sets itself up.
LISTS = ('requirements.txt', 'launch/requirements-stores.txt')


@dataclasses.dataclass(frozen=True)
class Job:
  """One experiment on one target.

  `name` is a DNS label of 40 characters at most; `target` an instance of the
  engine's `Target`; `flags` go to medrl.main, or to launch/sweep.py where
  `sweep` is set.
  """
  name: str
  target: Any
  flags: tuple[str, ...]
  sweep: bool = False


@dataclasses.dataclass(frozen=True)
class Slice:
  """A TPU slice as its cloud calls it."""
  kind: str      # v5litepod-64: chips, or cores where a chip has two
  runtime: str   # of a TPU VM: its operating system and drivers
  node: str      # GKE's label of such nodes
  topology: str  # 8x8
  hosts: int     # GKE nodes
  chips: int     # of a host


# cloud.google.com/tpu/docs/runtimes (runtime), .../v5e, v6e, v5p (names), and
# cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (labels).
_CLOUD = {'v5e': ('v5litepod', 1, 'v2-alpha-tpuv5-lite',
                  'tpu-v5-lite-podslice'),
          'v6e': ('v6e', 1, 'v2-alpha-tpuv6e', 'tpu-v6e-slice'),
          'v5p': ('v5p', 2, 'v2-alpha-tpuv5', 'tpu-v5p-slice')}


def tpu(accelerator: str) -> Slice:
  """The slice of a name such as v5e:8x8.

  Raises:
    ValueError: no TPU's name, with what is known.
  """
  chip, shape = accelerators.parse(accelerator)
  prefix, cores, runtime, node = _CLOUD[chip]
  count = math.prod(shape)
  # Machines of four chips, which all slices of several hosts consist of.
  chips = min(count, 4)
  return Slice(f'{prefix}-{count * cores}', runtime, node,
               accelerator.partition(':')[2], count // chips, chips)


def pod(slices: int) -> tuple[str, ...]:
  """Arguments of a run on TPU slices; they stand before the user's own."""
  mesh = (f'--config.mesh.slices={slices}',) if slices > 1 else ()
  return ('--coordinator=auto', *mesh)


def command(job: Job, accelerator: str, place: tuple[str, ...] = (),
            shard: str = '') -> str:
  """The bash command that a node of the job runs, in the repository's root.

  Args:
    job: the job.
    accelerator: the one that a run refuses to be without.
    place: further arguments of a run as words of bash: '--process="$RANK"'.
    shard: of a sweep the node's share as a word of bash, '"$RANK/$COUNT"'.
  """
  asked = f'--accelerator={accelerator}'
  if job.sweep:
    words = ['python launch/sweep.py', *share(job, shard),
             *map(shlex.quote, sweep_flags(job, asked))]
  else:
    words = ['bash launch/run.sh', asked, *place, *map(shlex.quote, job.flags)]
  return ' \\\n  '.join(words)


def share(job: Job, shard: str) -> list[str]:
  """The node's --shard; workers of a search have none."""
  search = any(f.partition('=')[0] == '--trials' for f in job.flags)
  return [] if search else [f'--shard={shard}']


def sweep_flags(job: Job, asked: str) -> list[str]:
  """Those of launch/sweep.py; what follows -- is handed to each run."""
  flags = list(job.flags)
  cut = flags.index('--') if '--' in flags else len(flags)
  return [*flags[:cut], '--', asked, *flags[cut + 1:]]


def check_workdir(job: Job, mounts: tuple[str, ...] = ()) -> None:
  """Refuses a workdir that would be gone with the machine.

  Raises:
    ValueError: it is neither a bucket nor below one of `mounts`, folders that
      all machines share; or a sweep's is not below one.
  """
  flag = next(f for f in job.flags if f.startswith('--workdir='))
  path = flag.partition('=')[2]
  shared = any(path.startswith(f'{mount.rstrip("/")}/') for mount in mounts)
  if not shared and (job.sweep or '://' not in path):
    where = [f'{mount.rstrip("/")}/...' for mount in mounts]
    where += [] if job.sweep else ['a bucket, gs://...']
    raise ValueError(
        f'{flag} is no folder that this job\'s machines share; '
        + (f'give {" or ".join(where)}' if where
           else 'the target has none for a sweep'))


def install(lists: tuple[str, ...], accelerator: str) -> str:
  """Lines of bash that set up and enter .venv, whose Python is then meant."""
  return '\n'.join((
      '. launch/setup.sh',
      'setup ' + ' '.join(map(shlex.quote, lists)),
      f'accelerate {shlex.quote(accelerator)}',
      'unset PYTHON'))


def script(*parts: str) -> str:
  """A bash script of these parts; empty ones are left out."""
  head = ('#!/usr/bin/env bash\n'
          '# Written by launch/submit.py, which writes it anew each time.\n'
          'set -euo pipefail')
  return '\n'.join((head, *(p.strip('\n') for p in parts if p))) + '\n'
