"""Jobs from targets: what is refused, what is run, and engines from outside."""

import os
import stat
import textwrap

import pytest

from launch import submit
from launch import submit_job

SLURM = 'engine: slurm\naccelerator: cuda12\nnodes: 2\ngpus: 4\n'
FLAGS = ('--config=experiments/chest.py', '--workdir=gs://bucket/a')


def write(folder, text, name='target.yaml'):
  path = folder / name
  path.write_text(textwrap.dedent(text))
  return str(path)


@pytest.mark.parametrize('text, words', [
    ('engine: slurm\naccelerator: cuda12\npartiton: gpu', "'partition'"),
    ('engine: slurm\nnodes: 2', 'accelerator missing'),
    ('engine: xpk\naccelerator: v5e:8x8', 'cluster, image missing'),
    ('engine: slrum\naccelerator: cpu', "did you mean 'slurm'"),
    ('engine: launch.nowhere\naccelerator: cpu', "has no 'nowhere'"),
    ('engine: nobody_has_this\naccelerator: cpu', 'on PYTHONPATH'),
    ('engine: launch.submit_job\n', 'has no Target'),
    ('accelerator: cpu', 'engine: NAME'),
    ('- engine', 'engine: NAME'),
    ('engine: [', 'is no YAML'),
    (SLURM + "nodes: '2'", "'2' (str), expected int"),
    (SLURM + 'gpus: true', 'True (bool), expected int'),
    # YAML reads a number in base 60.
    (SLURM + 'time: 12:00:00', 'put it in quotes'),
    (SLURM + 'options: --qos=long', 'expected a list'),
    (SLURM + 'options: [1]', 'expected a list'),
    (SLURM + 'share: all', "'all' is none of"),
])
def test_a_wrong_target_is_told(tmp_path, text, words):
  with pytest.raises(ValueError) as error:
    submit.read_target(write(tmp_path, text))
  assert words in str(error.value)


def test_every_shipped_target_is_read():
  for path in sorted((submit.ROOT / 'launch/targets').glob('*.yaml')):
    _, _, sweep = submit.read_target(str(path))
    assert sweep == path.stem.endswith('_sweep')


@pytest.mark.parametrize('flags, words', [
    ((*FLAGS, '--config.rl.clip_hihg=0.2'), 'clip_hihg'),
    ((*FLAGS, '--config.rl.steps=many'), 'many'),
    ((*FLAGS, '--config.no.such=1'), 'no'),
    (('--config=experiments/chset.py', FLAGS[1]), 'chset.py'),
    (('--config=experiments/chest.py:runloca', FLAGS[1]), 'runloca'),
    ((*FLAGS, '--config.data.root=a\nb'), 'line break'),
    ((*FLAGS, '--name=A_b'), 'a-z, 0-9'),
    ((*FLAGS, '--sweep'), 'without --sweep'),
])
def test_a_wrong_flag_fails_here_and_not_on_the_cluster(tmp_path, flags, words):
  with pytest.raises(ValueError) as error:
    submit.plan([f'--target={write(tmp_path, SLURM)}', *flags])
  assert words in str(error.value)


def test_a_shared_target_wants_a_sweep(tmp_path):
  target = write(tmp_path, SLURM + 'share: sweep')
  with pytest.raises(ValueError, match='with --sweep'):
    submit.plan([f'--target={target}', *FLAGS])
  flags = ('--grid', 'rl.clip_high=1,2', '--seeds', '3', '--', '--dry_run')
  _, job, _, args = submit.plan([f'--target={target}', *FLAGS, '--sweep',
                                 *flags])
  assert job.sweep and not args.dry_run
  assert job.flags == (*FLAGS, *flags)


@pytest.mark.parametrize('study, workdir, name', [
    ('experiments/chest.py', 'gs://b/runs/High_Clip/', 'chest-high-clip'),
    ('experiments/a.py:runlocal', 'x' * 60, 'a-' + 'x' * 38),
    ('1st.py', '/tmp/$(x)', 'medrl-1st-x'),
])
def test_names_are_labels(study, workdir, name):
  assert submit.job_name(study, workdir) == name


# Names and hosts as xpk 1.16.0 has them (core/system_characteristics.py), and
# of v5e:2x2 as in the documentation of GKE.
@pytest.mark.parametrize('name, kind, node, hosts, chips', [
    ('v5e:2x2', 'v5litepod-4', 'tpu-v5-lite-podslice', 1, 4),
    ('v5e:2x4', 'v5litepod-8', 'tpu-v5-lite-podslice', 2, 4),
    ('v5e:16x16', 'v5litepod-256', 'tpu-v5-lite-podslice', 64, 4),
    ('v6e:1x1', 'v6e-1', 'tpu-v6e-slice', 1, 1),
    ('v6e:8x8', 'v6e-64', 'tpu-v6e-slice', 16, 4),
    ('v5p:2x2x1', 'v5p-8', 'tpu-v5p-slice', 1, 4),
    ('v5p:4x4x4', 'v5p-128', 'tpu-v5p-slice', 16, 4)])
def test_slices_have_their_cloud_s_names(name, kind, node, hosts, chips):
  piece = submit_job.tpu(name)
  assert (piece.kind, piece.node, piece.hosts, piece.chips) == (
      kind, node, hosts, chips)
  assert piece.topology == name.partition(':')[2]


@pytest.mark.parametrize('engine', ['tpu_vm', 'gke', 'jobset', 'skypilot'])
def test_machines_that_go_need_a_bucket(engine):
  with pytest.raises(ValueError, match='give a bucket, gs://'):
    submit.main([f'--target={submit.ROOT}/launch/targets/{engine}.yaml',
                 FLAGS[0], '--workdir=runs/a', '--dry_run'])


@pytest.mark.parametrize('text, words', [
    ('engine: tpu_vm\naccelerator: v5e:4x4\nzone: z\nimage: i\nsetup: s',
     'either image or setup'),
    ('engine: tpu_vm\naccelerator: v5e:4x4\nzone: z', 'either image or setup'),
    ('engine: tpu_vm\naccelerator: v9:4x4\nzone: z\nimage: i', 'v9:4x4'),
    ('engine: tpu_vm\naccelerator: v5e:2x2\nzone: z\nimage: i\nshare: sweep',
     '--shard=i/n'),
    ('engine: xpk\naccelerator: v5e:2x2\ncluster: c\nimage: i\nshare: sweep',
     'jobset'),
    ('engine: jobset\naccelerator: v5e:4x4\nimage: i\nshare: sweep',
     'slices of one host'),
    ('engine: skypilot\naccelerators: H100:8\naccelerator: cuda', "'cuda'"),
    ('engine: slurm\naccelerator: tpu', "'tpu'"),
    (SLURM + "partition: 'a b'", "--partition=a b"),
    (SLURM + "options: ['--qos=a --wrap=b']", 'without spaces'),
])
def test_what_an_engine_cannot_do(tmp_path, text, words):
  sweep = ['--sweep'] if 'share: sweep' in text else []
  with pytest.raises(ValueError) as error:
    submit.main([f'--target={write(tmp_path, text)}', *FLAGS, *sweep,
                 '--dry_run'])
  assert words in str(error.value)


def fake(folder, name, code=0):
  """A command that writes its arguments to NAME.args, one to a line."""
  path = folder / name
  path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/{name}.args\n'
                  f'pwd >> {folder}/{name}.args\nexit {code}\n')
  path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_engine_is_run_as_it_was_shown(tmp_path, monkeypatch, capfd):
  fake(tmp_path, 'sbatch', code=3)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  argv = [f'--target={write(tmp_path, SLURM)}', *FLAGS, '--name=a',
          f'--out={tmp_path}/out dir']
  assert submit.main([*argv, '--dry_run']) == 0
  shown = capfd.readouterr().out
  assert not (tmp_path / 'out dir').exists()
  assert not (tmp_path / 'sbatch.args').exists()
  assert submit.main(argv) == 3
  script = (tmp_path / 'out dir' / 'job.sh').read_text()
  assert shown.startswith(f'--- {tmp_path}/out dir/job.sh\n{script}$ sbatch')
  assert (tmp_path / 'sbatch.args').read_text().splitlines() == [
      f'--output={tmp_path}/out dir/a-%j.log', f'{tmp_path}/out dir/job.sh',
      str(submit.ROOT)]


def test_an_engine_that_is_not_installed_is_named(tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(ValueError, match='sbatch is not on PATH'):
    submit.main([f'--target={write(tmp_path, SLURM)}', *FLAGS,
                 f'--out={tmp_path}/out'])
  assert (tmp_path / 'out' / 'job.sh').exists()


def test_an_engine_from_outside(tmp_path, monkeypatch, capsys):
  write(tmp_path, '''
      import dataclasses

      @dataclasses.dataclass(frozen=True)
      class Target:
        queue: str

      def render(job):
        return {'job.txt': ' '.join(job.flags) + '\\n'}

      def command(job, folder):
        return ['enqueue', job.target.queue, f'{folder}/job.txt']
      ''', 'my_batch.py')
  monkeypatch.syspath_prepend(tmp_path)
  target = write(tmp_path, 'engine: my_batch\nqueue: long')
  submit.main([f'--target={target}', *FLAGS, '--dry_run', '--out=/o'])
  assert capsys.readouterr().out == (
      f'--- /o/job.txt\n{" ".join(FLAGS)}\n$ enqueue long /o/job.txt\n')
