"""What a function of the tests prints as JSON in a process of its own.

jax counts its devices and reads its flags once a process, and libtpu refuses
the CPU's flags. Not for runs of the trainer: those have `trainers.runs`.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from medrl import accelerators

ROOT = pathlib.Path(__file__).parents[1]
# Tells libtpu that it is no part of a pod, and need not be alone here.
_TPU = dict(
    JAX_PLATFORMS='cpu', TPU_SKIP_MDS_QUERY='1',
    TPU_WORKER_HOSTNAMES='localhost', TPU_ACCELERATOR_TYPE='v5litepod-16',
    ALLOW_MULTIPLE_LIBTPU_LOAD='true')


def fake_devices(count: int = 8) -> dict[str, str]:
  """The environment in which the CPU is so many devices."""
  return {**os.environ, 'XLA_FLAGS': os.environ['XLA_FLAGS']
          + f' --xla_force_host_platform_device_count={count}'}


def as_a_run() -> dict[str, str]:
  """The environment without the tests' flags: programs as runs have them."""
  return {k: v for k, v in os.environ.items()
          if k not in ('XLA_FLAGS', 'JAX_COMPILATION_CACHE_DIR')}


def tpu() -> dict[str, str]:
  """The environment to compile for a TPU that is not here; skips without
  libtpu."""
  if importlib.util.find_spec('libtpu') is None:
    pytest.skip('libtpu is not installed; see tests/requirements.txt')
  return as_a_run() | _TPU


def topology(name: str):
  """Devices of a TPU slice that is not here, for a process begun with `tpu`.

  Where libtpu gives none the process ends, and `end` skips its test.
  """
  try:
    return accelerators.devices(name)
  except Exception as error:   # whatever libtpu has against this machine
    print(json.dumps({'absent': repr(error)}))
    sys.exit()


def begin(module: str, call: str, environment) -> subprocess.Popen:
  """Starts `module.call` and does not wait for it."""
  code = f'from {module.rpartition(".")[0]} import {module.split(".")[-1]} as m'
  return subprocess.Popen(
      [sys.executable, '-c', f'{code}; m.{call}'], cwd=ROOT, env=environment,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen):
  """What it printed last. Where that names as 'absent' what a machine lacks,
  the test is skipped."""
  out, errors = process.communicate(timeout=600)
  assert not process.returncode, errors[-3000:]
  found = json.loads(out.splitlines()[-1])
  print(json.dumps(found, indent=1))   # shown by pytest -s
  if 'absent' in found:
    pytest.skip(f'libtpu gives no topology here: {found["absent"]}')
  return found


def printed(module: str, call: str, environment):
  """What `module.call` prints last, as JSON."""
  return end(begin(module, call, environment))
