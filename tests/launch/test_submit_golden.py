"""Rendered jobs against files that were read, and against each tool's format.

  python -m tests.launch.test_submit_golden    # renews golden/, then read it

Formats come from the tools: `schemas/jobset_v1alpha2.json` is what is used of
the custom resource's published schema (kubernetes-sigs/jobset, main in August
2026; everything else is refused), `schemas/skypilot_0_14_1.json` is what
SkyPilot checks a task with, flags are those of the tools' own help.
"""

import json
import pathlib
import re
import shlex
import subprocess

import jsonschema
import pytest
import yaml

from launch import submit

GOLDEN = pathlib.Path(__file__).parent / 'golden'
TARGETS = sorted(p.stem
                 for p in (submit.ROOT / 'launch/targets').glob('*.yaml'))
RUN = ('--config=experiments/chest.py', '--workdir=gs://my-bucket/chest/a',
       '--config.rl.clip_high=0.25', '--config.processor.user={question} "$1"')
SWEEP = ('--config=experiments/chest.py', '--workdir=/runs/chest',
         '--grid=rl.clip_high=0.2,0.28', '--seeds=3', '--', '--dry_run')
# gcloud compute tpus queued-resources create --help, of version 528.
GCLOUD = {'zone', 'accelerator-type', 'runtime-version', 'node-id',
          'node-count', 'node-prefix', 'project', 'spot', 'internal-ips',
          'metadata-from-file'}
# xpk workload create --help, of version 1.16.0.
XPK = {'workload', 'cluster', 'tpu-type', 'num-slices', 'docker-image',
       'max-restarts', 'priority', 'termination-grace-period-seconds',
       'command', 'zone', 'project', 'spot'}
# slurm.schedmd.com/sbatch.html
SBATCH = {'job-name', 'nodes', 'ntasks-per-node', 'gpus-per-node',
          'cpus-per-task', 'partition', 'account', 'time', 'mem', 'requeue',
          'open-mode', 'signal', 'output'}


def rendered(target):
  """File name -> text of a target's job, its command among them."""
  flags = ['--sweep', *SWEEP] if target.endswith('_sweep') else list(RUN)
  module, job, _, _ = submit.plan(
      [f'--target={submit.ROOT}/launch/targets/{target}.yaml', *flags])
  command = module.command(job, pathlib.PurePosixPath('FOLDER'))
  return module.render(job) | {'command.txt': shlex.join(command) + '\n'}


def options(words):
  return {w[2:].partition('=')[0] for w in words if w.startswith('--')}


def command(target):
  return shlex.split(rendered(target)['command.txt'])


@pytest.mark.parametrize('target', TARGETS)
def test_golden(target):
  want = {p.name: p.read_text() for p in (GOLDEN / target).iterdir()}
  assert rendered(target) == want


def test_golden_has_no_more_than_the_targets():
  assert sorted(p.name for p in GOLDEN.iterdir()) == TARGETS


@pytest.mark.parametrize('name', ['jobset', 'jobset_sweep'])
def test_a_jobset_is_one(name):
  jobset = yaml.safe_load(rendered(name)['jobset.yaml'])
  jsonschema.validate(jobset, schema('jobset_v1alpha2'))
  job, = jobset['spec']['replicatedJobs']
  pod = job['template']['spec']['template']['spec']
  # A pod failure policy is refused with any other restart policy.
  assert pod['restartPolicy'] == 'Never'


@pytest.mark.parametrize('path, value', [
    (('spec', 'replicaJobs'), []),
    (('spec', 'failurePolicy', 'maxRestarts'), '3'),
    (('spec', 'replicatedJobs', 0, 'template', 'spec', 'completions'), None),
    (('spec', 'failurePolicy', 'rules', 0, 'action'), 'Restart'),
    (('spec', 'replicatedJobs', 0, 'template', 'spec', 'template', 'spec',
      'containers', 0, 'image_pull'), 'Always'),
])
def test_the_jobset_schema_refuses(path, value):
  jobset = yaml.safe_load(rendered('jobset')['jobset.yaml'])
  at = jobset
  for key in path[:-1]:
    at = at[key]
  at[path[-1]] = value
  with pytest.raises(jsonschema.ValidationError):
    jsonschema.validate(jobset, schema('jobset_v1alpha2'))


def test_a_skypilot_task_is_one():
  task = yaml.safe_load(rendered('skypilot')['task.yaml'])
  schemas = schema('skypilot_0_14_1')
  jsonschema.validate(task, schemas['task'])
  jsonschema.validate(task['resources'], schemas['resources'])
  with pytest.raises(jsonschema.ValidationError):
    jsonschema.validate(task | {'nodes': 2}, schemas['task'])


def schema(name):
  path = pathlib.Path(__file__).parent / 'schemas' / f'{name}.json'
  return json.loads(path.read_text())


@pytest.mark.parametrize('target, head, known', [
    ('tpu_vm', 'gcloud compute tpus queued-resources create', GCLOUD),
    ('tpu_vm_setup', 'gcloud compute tpus queued-resources create', GCLOUD),
    ('gke', 'xpk workload create', XPK),
    ('jobset', 'kubectl apply', {'filename'}),
    ('skypilot', 'sky jobs launch', {'yes', 'name'}),
    ('slurm', 'sbatch', SBATCH),
])
def test_commands_have_flags_of_their_tools(target, head, known):
  words = command(target)
  assert ' '.join(words).startswith(head)
  assert options(words) <= known


@pytest.mark.parametrize('target', ['slurm', 'slurm_sweep'])
def test_slurm_reads_its_options(target):
  lines = rendered(target)['job.sh'].splitlines()
  # sbatch stops looking at the first line that is no comment.
  head = lines[:lines.index('set -euo pipefail')]
  found = [line for line in lines if line.startswith('#SBATCH')]
  assert found == [line for line in head if line.startswith('#SBATCH')]
  assert options(line.split()[1] for line in found) <= SBATCH


def scripts():
  for target in TARGETS:
    for name, text in rendered(target).items():
      if name.endswith('.sh'):
        yield target, name, text
      elif name == 'task.yaml':
        task = yaml.safe_load(text)
        yield target, 'setup', task['setup']
        yield target, 'run', task['run']


def test_scripts_are_bash():
  for target, name, text in scripts():
    ran = subprocess.run(['bash', '-n'], input=text, text=True,
                         capture_output=True, check=False)
    assert not ran.stderr, (target, name)
    # What shellcheck would say of the words written here: a variable outside
    # of quotes (SC2086), a folder entered unchecked (SC2164, so: set -e).
    bare = re.sub(r"'[^']*'|\"[^\"]*\"|^ *(export )?\w+=.*|#.*", '', text,
                  flags=re.MULTILINE)
    assert '$' not in bare.replace('$?', ''), (target, name)
    assert 'set -euo pipefail' in text or text.count('\n') == 1


if __name__ == '__main__':
  for each in TARGETS:
    (GOLDEN / each).mkdir(parents=True, exist_ok=True)
    for file, content in rendered(each).items():
      (GOLDEN / each / file).write_text(content)
