"""Which accelerator a machine has, what is installed for it, what is passed on.

Machines are folders: commands on PATH and device files that stand for theirs.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMI = """\
+-----------------------------------------------------------------------------+
| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   {heading}: {cuda}      |
|-----------------------------------------+----------------------+------------|
"""


def command(folder, name, text):
  folder.mkdir(exist_ok=True)
  path = folder / name
  path.write_text(f'#!/usr/bin/env bash\n{text}\n')
  path.chmod(0o755)


def bash(tmp_path, text, **env):
  """Runs lines behind setup.sh with only the tools a machine always has."""
  tools = tmp_path / 'tools'
  tools.mkdir(exist_ok=True)
  for name in ('bash', 'env', 'cat', 'sed', 'head', 'cp', 'cmp', 'dirname',
               'tail'):
    if not (tools / name).exists():
      (tools / name).symlink_to(shutil.which(name))
  return subprocess.run(
      ['bash', '-euo', 'pipefail', '-c', f'. {ROOT}/launch/setup.sh\n{text}'],
      cwd=tmp_path, capture_output=True, text=True, check=False,
      env={'PATH': f'{tmp_path}/bin:{tools}', 'HOME': str(tmp_path), **env})


def guess(tmp_path, **env):
  (tmp_path / 'dev').mkdir(exist_ok=True)
  return bash(tmp_path, f'found=$(guess_accelerator {tmp_path}/dev)\n'
              'echo "$found"', **env)


@pytest.mark.parametrize('cuda, heading, found', [
    ('12.4', 'CUDA Version', 'cuda12'), ('13.0', 'CUDA Version', 'cuda13'),
    ('13.1', 'CUDA UMD Version', 'cuda13'), ('14.0', 'CUDA Version', 'cuda13')])
def test_a_gpu_by_its_driver(tmp_path, cuda, heading, found):
  text = SMI.format(heading=heading, cuda=cuda)
  command(tmp_path / 'bin', 'nvidia-smi', f"cat << 'E'\n{text}E")
  ran = guess(tmp_path)
  assert (ran.returncode, ran.stdout) == (0, f'{found}\n')
  assert f'accelerator: {found}' in ran.stderr


@pytest.mark.parametrize('text, words', [
    (SMI.format(heading='CUDA Version', cuda='11.4'), 'CUDA 11,'),
    ('no table', 'CUDA ?,')])
def test_a_driver_that_jax_cannot_use_is_told(tmp_path, text, words):
  command(tmp_path / 'bin', 'nvidia-smi', f"cat << 'E'\n{text}\nE")
  ran = guess(tmp_path)
  assert ran.returncode == 1 and words in ran.stderr
  assert '--accelerator=cpu' in ran.stderr


def test_a_driver_that_does_not_answer_is_none(tmp_path):
  command(tmp_path / 'bin', 'nvidia-smi', 'echo "CUDA Version: 12.4"; exit 9')
  assert guess(tmp_path).stdout == 'cpu\n'


@pytest.mark.parametrize('devices, env, metadata, found', [
    ((), {}, 1, 'cpu'),
    (('accel0', 'accel1'), {}, 1, 'tpu'),
    (('accel/accel0',), {}, 1, 'cpu'),      # a laptop's NPU
    (('vfio/vfio',), {}, 0, 'cpu'),         # the driver, and no device
    (('vfio/vfio', 'vfio/0'), {}, 1, 'cpu'),
    (('vfio/vfio', 'vfio/0'), {}, 0, 'tpu'),
    (('vfio/0',), {'TPU_WORKER_HOSTNAMES': 'a,b'}, 1, 'tpu'),
    ((), {'TPU_WORKER_HOSTNAMES': 'localhost'}, 0, 'cpu')])
def test_a_tpu_by_its_devices(tmp_path, devices, env, metadata, found):
  command(tmp_path / 'bin', 'curl', f'echo v5litepod-8; exit {metadata}')
  for name in devices:
    path = tmp_path / 'dev' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  assert guess(tmp_path, **env).stdout == f'{found}\n'


@pytest.fixture
def repository(tmp_path):
  """A copy of what local.sh reads, with a Python that writes down its words."""
  (tmp_path / 'launch').mkdir()
  for name in ('local.sh', 'setup.sh'):
    shutil.copy(ROOT / 'launch' / name, tmp_path / 'launch' / name)
  shutil.copy(ROOT / 'requirements.txt', tmp_path)
  command(tmp_path / '.venv', 'x', '')
  command(tmp_path / '.venv/bin', 'activate',
          'export PATH="$PWD/.venv/bin:$PATH"')
  command(tmp_path / '.venv/bin', 'python',
          'echo "${JAX_PLATFORMS:-any} $*" >> calls; echo "{}"')
  return tmp_path


def calls(repository):
  path = repository / 'calls'
  lines = path.read_text().splitlines() if path.exists() else []
  path.unlink(missing_ok=True)
  return lines


def pin():
  line, = (text for text in (ROOT / 'requirements.txt').read_text().splitlines()
           if text.startswith('jax=='))
  return line


def test_jax_is_installed_for_it_once_in_the_pinned_version(repository):
  for name, other in (('tpu', None), ('cuda12', 'cuda13'),
                      ('cuda13', 'cuda12')):
    lines = f'setup requirements.txt; accelerate {name}'
    assert bash(repository, lines).returncode == 0
    found = [c for c in calls(repository) if '-r requirements.txt' not in c]
    wanted = pin().replace('jax', f'jax[{name}]')
    assert found.pop().endswith(f'pip install --quiet '
                                f'--disable-pip-version-check {wanted}')
    # jax refuses to find both.
    assert [f'jax-{other}-plugin' in c for c in found] == [True] * bool(other)
    assert bash(repository, lines).returncode == 0
    assert not calls(repository)
  # Another version is installed, as another list is.
  (repository / 'requirements.txt').write_text('jax==99.0\n')
  assert bash(repository, lines).returncode == 0
  assert 'jax[cuda13]==99.0' in calls(repository)[-1]


def test_a_cpu_needs_nothing_more_and_other_names_are_told(repository):
  assert bash(repository, 'accelerate cpu').returncode == 0
  ran = bash(repository, 'accelerate cuda')
  assert ran.returncode == 1
  assert 'none of cpu, tpu, cuda12, cuda13' in ran.stderr
  assert not calls(repository)


@pytest.mark.parametrize('flags, accelerator, platforms', [
    ((), 'cpu', 'cpu'), (('--accelerator=cpu',), 'cpu', 'cpu'),
    (('--accelerator=cuda12', '--config.rl.steps=3'), 'cuda12', 'any')])
def test_local_passes_on_what_it_found(repository, flags, accelerator,
                                       platforms):
  ran = bash(repository, 'bash launch/local.sh ' + ' '.join(flags))
  assert ran.returncode == 0, ran.stderr
  assert ran.stdout == '{}\n'
  last = calls(repository)[-1].split()
  assert last[0] == platforms
  assert last[1:4] == ['-m', 'medrl.main', '--config=experiments/phantom.py']
  assert last[4:] == [*flags, '--workdir=runs/phantom',
                      f'--accelerator={accelerator}']


def test_a_wrong_name_installs_nothing(repository):
  ran = bash(repository, 'bash launch/local.sh --accelerator=gpu0')
  assert ran.returncode == 1 and "gpu0 is none of" in ran.stderr
  assert not any('medrl.main' in call for call in calls(repository))


def test_python_below_the_least_is_told(tmp_path):
  command(tmp_path / 'bin', 'python3', 'echo Python 3.10.12; exit 1')
  ran = bash(tmp_path, 'setup requirements.txt')
  assert ran.returncode == 1
  assert 'Python 3.10.12 is too old' in ran.stderr
  assert not os.listdir(tmp_path) == ['.venv']
