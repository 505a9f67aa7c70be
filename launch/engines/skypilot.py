"""Any cloud, through a SkyPilot managed job: `sky jobs launch`.

SkyPilot finds machines, sends the repository (without what git ignores), and
finds others when they are taken. Nodes with GPUs meet at the first one's
address (SKYPILOT_NODE_IPS, SKYPILOT_NODE_RANK); TPU hosts know theirs.
`sky jobs logs`, `sky jobs cancel` look at it and end it.
"""

import dataclasses
import pathlib
from typing import Any

import yaml

from launch import submit_job

_PORT = 8476


@dataclasses.dataclass(frozen=True)
class Target:
  """Keys of a target file."""
  accelerators: str   # of a node, SkyPilot's name and count: H100:8
  accelerator: str    # which jax: cuda12, cuda13 or tpu
  nodes: int = 1
  infra: str = ''     # gcp/us-central1; '' takes the cheapest
  spot: bool = False
  setup: str = ''     # lines of bash before .venv is made; a Python older than
                      # 3.11 needs PYTHON=newer
  lists: tuple[str, ...] = submit_job.LISTS
  restarts: int = 3   # after failures that are no preemption
  # SkyPilot's file_mounts; a sweep's workdir is below one that all nodes write.
  mounts: dict = dataclasses.field(default_factory=dict)
  resources: dict = dataclasses.field(default_factory=dict)  # its other ones


def _resources(target) -> dict[str, Any]:
  out = {'accelerators': target.accelerators, 'use_spot': target.spot}
  if target.infra:
    out['infra'] = target.infra
  out['job_recovery'] = {
      'max_restarts_on_errors': target.restarts,
      # Stopped by a signal, with more to do.
      'recover_on_exit_codes': [submit_job.STOPPED]}
  return out | target.resources


def _run(job) -> str:
  """What every node runs, in the repository's root."""
  target = job.target
  place, address = (), ''
  if target.accelerator == 'tpu':
    place = ('--coordinator=auto',)
  elif target.nodes > 1:
    address = f'address=$(head -n 1 <<< "$SKYPILOT_NODE_IPS"):{_PORT}'
    place = ('--coordinator="$address"', '--processes="$SKYPILOT_NUM_NODES"',
             '--process="$SKYPILOT_NODE_RANK"')
  start = submit_job.command(job, target.accelerator, place,
                             '"$SKYPILOT_NODE_RANK/$SKYPILOT_NUM_NODES"')
  return submit_job.script(
      '. .venv/bin/activate', f'export MEDRL_STOPPED={submit_job.STOPPED}',
      address, f'exec {start}')


def render(job) -> dict[str, str]:
  """task.yaml.

  Raises:
    ValueError: an accelerator that jax is not installed for, or a workdir that
      the nodes do not share.
  """
  target = job.target
  if target.accelerator not in ('cuda12', 'cuda13', 'tpu'):
    raise ValueError(f'target key accelerator is {target.accelerator!r}, '
                     f'expected cuda12, cuda13 or tpu')
  submit_job.check_workdir(job, tuple(target.mounts))
  task = {
      'name': job.name,
      'workdir': '.',
      'num_nodes': target.nodes,
      'resources': _resources(target),
      'setup': submit_job.script(
          target.setup, submit_job.install(target.lists, target.accelerator)),
      'run': _run(job),
  }
  if target.mounts:
    task['file_mounts'] = target.mounts
  return {'task.yaml': yaml.dump(task, Dumper=_Dumper, sort_keys=False)}


class _Dumper(yaml.SafeDumper):
  """YAML with scripts as they are read, line by line."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(
    'tag:yaml.org,2002:str', text, style='|' if '\n' in text else None))


def command(job, folder: pathlib.Path) -> list[str]:
  """SkyPilot's, which follows the job's log."""
  return ['sky', 'jobs', 'launch', '--yes', f'--name={job.name}',
          f'{folder}/task.yaml']
