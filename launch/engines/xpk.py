"""TPU slices of a GKE cluster, through `xpk workload create`.

xpk writes the JobSet and hands it to the cluster's queue (Kueue). It restarts
a workload whose exit status is 42 or above 126, at most `restarts` times: a run
that a signal stopped (143) goes on, one that failed launch/run.sh's retries
does not. `kubectl logs -f` shows a run, `xpk workload delete` ends it.

Where devices of a node are root's alone, build the image with
`--build-arg USER=root`: xpk cannot say who runs it.
"""

import dataclasses
import pathlib
import shlex

from launch import submit_job


@dataclasses.dataclass(frozen=True)
class Target:
  """Keys of a target file."""
  accelerator: str   # one slice: v5e:8x8
  cluster: str
  image: str         # built from launch/Dockerfile, with ACCELERATOR=tpu
  slices: int = 1
  zone: str = ''     # '' takes gcloud's
  project: str = ''
  restarts: int = 10
  priority: str = 'medium'
  options: tuple[str, ...] = ()   # further flags of xpk: --spot


def render(job) -> dict[str, str]:
  """command.sh, what a container runs: one line, as xpk wants it.

  Raises:
    ValueError: a sweep, or no bucket.
  """
  if job.sweep:
    raise ValueError('xpk tells a container nothing of its place that a sweep '
                     'could be shared by; take the engine jobset')
  submit_job.check_workdir(job)
  words = ['env', f'MEDRL_STOPPED={submit_job.STOPPED}', 'bash',
           'launch/run.sh', '--accelerator=tpu',
           *submit_job.pod(job.target.slices), *job.flags]
  # exec: xpk sends its signals to what it started, and to nothing below.
  return {'command.sh': f'exec {shlex.join(words)}\n'}


def command(job, folder: pathlib.Path) -> list[str]:
  """xpk's, which returns when the workload is queued."""
  del folder  # xpk takes the command itself
  target = job.target
  line = render(job)['command.sh'].strip()
  words = ['xpk', 'workload', 'create', f'--workload={job.name}',
           f'--cluster={target.cluster}',
           f'--tpu-type={submit_job.tpu(target.accelerator).kind}',
           f'--num-slices={target.slices}', f'--docker-image={target.image}',
           f'--max-restarts={target.restarts}',
           f'--priority={target.priority}',
           '--termination-grace-period-seconds=120',
           # Kubernetes reads $$ in a container's command as $.
           '--command=' + line.replace('$', '$$')]
  if target.zone:
    words.append(f'--zone={target.zone}')
  if target.project:
    words.append(f'--project={target.project}')
  return words + list(target.options)
