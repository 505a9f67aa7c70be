"""Queued TPU VMs, through `gcloud compute tpus queued-resources create`.

Every host runs startup.sh as root when it boots, and again after a reboot, and
so goes on where the run was. A spot slice that was taken is gone: delete the
queued resource and submit again. So is the bill: delete it when the run ends.

  gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
    --command='sudo docker logs -f medrl'     # setup: journalctl -u google-*
  gcloud compute tpus queued-resources delete NAME --zone=ZONE --force
"""

import dataclasses
import pathlib
import shlex

from launch import submit_job


@dataclasses.dataclass(frozen=True)
class Target:
  """Keys of a target file."""
  accelerator: str   # one slice: v5e:4x4
  zone: str
  slices: int = 1
  image: str = ''    # built from launch/Dockerfile, with ACCELERATOR=tpu; or
  setup: str = ''    # lines of bash that fetch the repository and end in its
                     # root; a Python older than 3.11 needs PYTHON=newer
  lists: tuple[str, ...] = submit_job.LISTS   # installed where there is a setup
  project: str = ''  # '' takes gcloud's
  runtime: str = ''  # '' takes that of the chip
  spot: bool = False
  options: tuple[str, ...] = ()   # further flags of gcloud


def _container(job) -> str:
  """Runs the image on one host. The metadata say which part of it is ours."""
  image = job.target.image
  registry = image.partition('/')[0]
  login = ''
  if registry.endswith(('-docker.pkg.dev', 'gcr.io')):
    login = f'gcloud auth configure-docker {shlex.quote(registry)} --quiet\n'
  # Devices belong to root. A spot machine is given 30 s to stop.
  words = [image, '--accelerator=tpu', *submit_job.pod(job.target.slices),
           *job.flags]
  return (f'{login}docker rm --force medrl > /dev/null 2>&1 || true\n'
          'exec docker run --rm --name=medrl --privileged --net=host '
          '--user=root --stop-timeout=30'
          + ''.join(f' \\\n  {shlex.quote(word)}' for word in words))


def render(job) -> dict[str, str]:
  """startup.sh.

  Raises:
    ValueError: not exactly one of image and setup, a sweep, or no bucket.
  """
  target = job.target
  if bool(target.image) == bool(target.setup):
    raise ValueError('a target of tpu_vm gives either image or setup')
  if job.sweep:
    raise ValueError('hosts of a TPU slice are one machine, which cannot share '
                     'a sweep; take the engine jobset, or submit a slice for '
                     'each share with --shard=i/n among the flags')
  submit_job.check_workdir(job)
  # A startup script has no home, and docker, pip and caches want one.
  home = 'export HOME=/root'
  if target.image:
    return {'startup.sh': submit_job.script(home, _container(job))}
  start = submit_job.command(job, 'tpu', submit_job.pod(target.slices))
  return {'startup.sh': submit_job.script(
      home, target.setup, submit_job.install(target.lists, 'tpu'),
      f'exec {start}')}


def command(job, folder: pathlib.Path) -> list[str]:
  """gcloud's, which returns when the request is queued."""
  target = job.target
  piece = submit_job.tpu(target.accelerator)
  words = ['gcloud', 'compute', 'tpus', 'queued-resources', 'create', job.name,
           f'--zone={target.zone}', f'--accelerator-type={piece.kind}',
           f'--runtime-version={target.runtime or piece.runtime}']
  if target.slices > 1:
    words += [f'--node-count={target.slices}', f'--node-prefix={job.name}']
  else:
    words.append(f'--node-id={job.name}')
  if target.project:
    words.append(f'--project={target.project}')
  if target.spot:
    words.append('--spot')
  # gcloud splits at commas, or at what stands between two carets before.
  words.append(f'--metadata-from-file=^|^startup-script={folder}/startup.sh')
  return words + list(target.options)
