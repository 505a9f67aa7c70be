"""launch/compile.py as it is called, for TPU slices that are not here."""

import json
import os
import subprocess
import sys

import pytest

from tests import elsewhere

NAMES = {'weigh', 'encode', 'prefill', 'decode', 'sample', 'score', 'prepare',
         'update'}
TOY = ('--config.model.size=toy', '--config.rollout.prompts=64',
       '--config.rollout.group=2', '--config.mesh.data=1',
       '--config.mesh.fsdp=-1', '--config.mesh.tensor=2')


def called(*flags):
  """(exit status, JSON result or None, what was said) of the script."""
  elsewhere.tpu()   # skips where libtpu is absent
  # The environment of the tests, which the script has to put right.
  done = subprocess.run(
      [sys.executable, 'launch/compile.py', '--json', *flags],
      cwd=elsewhere.ROOT, env=dict(os.environ), capture_output=True, text=True,
      timeout=3000)
  if 'libtpu has no' in done.stderr:
    pytest.skip(done.stderr[-300:])
  lines = done.stdout.splitlines()
  return done.returncode, json.loads(lines[-1]) if lines else None, done.stderr


@pytest.mark.slow   # half a minute each
@pytest.mark.parametrize('topology, chips, gigabytes', [
    ('v5e:4x4', 16, 16), ('v6e:8x8', 64, 32), ('v5p:4x4x4', 64, 95)])
def test_the_chest_study_compiles_for_a_slice(topology, chips, gigabytes):
  code, found, said = called('--config=experiments/chest.py',
                             f'--topology={topology}', *TOY)
  assert code == 0, said[-3000:]
  assert found['chips'] == chips and found['chip_bytes'] == gigabytes * 10 ** 9
  assert found['programs'].keys() == NAMES and found['fits']
  for one in found['programs'].values():
    assert {'bytes_per_chip', 'flops', 'collective_bytes',
            'seconds_estimate'} <= one.keys()
    assert not one['replicated']
  assert found['measured'] is None


@pytest.mark.slow
def test_two_slices_form_one_mesh():
  code, found, said = called(
      '--config=experiments/chest.py', '--topology=v5e:4x4', '--slices=2',
      *TOY, '--config.mesh.data=2', '--programs=update')
  assert code == 0, said[-3000:]
  assert found['chips'] == 32 and found['mesh']['data'] == 2
  # What goes between slices is sent by the host, which the text's collectives
  # do not tell.
  assert sum(found['programs']['update']['collective_bytes'].values())


@pytest.mark.slow
def test_what_does_not_fit_exits_with_1_and_names_the_largest_buffer():
  code, found, said = called(
      '--config=experiments/pod.py', '--topology=v5e:2x2', '--programs=update',
      '--model=qwen2_5_vl_3b', '--config.mesh.tensor=2',
      '--config.rollout.prompts=16', '--config.rollout.slots=16',
      '--config.rollout.chunk=16')
  assert code == 1 and not found['fits']
  assert 'update needs' in said and 'its largest buffer is' in said
  largest = found['programs']['update']['largest'][0]
  assert largest['bytes'] > 2 ** 26 and largest['name']
  # libtpu names none where it refuses; a chip with more memory has a plan.
  assert largest['shape'] and 'all temporaries' not in said


@pytest.mark.slow   # minutes
def test_qwen_7b_fits_64_small_chips():
  code, found, said = called('--config=experiments/pod.py',
                             '--topology=v5e:8x8', '--model=qwen2_5_vl_7b')
  print(json.dumps(found, indent=1))
  assert code == 0, said[-3000:]
  assert found['programs'].keys() == NAMES and found['fits']


@pytest.mark.parametrize('flags, told', [
    (('--topology=v5e:9',), "topology 'v5e:9' is not CHIP:SHAPE"),
    (('--topology=v5e:2x2', '--model=qwen'), '--model=qwen')])
def test_what_is_wrong_is_told_in_a_line(flags, told):
  code, _, said = called('--config=experiments/chest.py', *flags)
  assert code == 2 and told in said.splitlines()[-1]
