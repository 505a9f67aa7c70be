"""A JobSet of TPU slices on GKE, through `kubectl apply`: no xpk needed.

The cluster needs the JobSet controller (jobset.x-k8s.io/v1alpha2), and Kueue
where `queue` names one. Pods that the cluster itself takes away (preemption, a
node's maintenance) restart the set as often as that happens; other failures at
most `restarts` times. With `share: sweep` every slice, of one host then, runs
its share of the points.

  kubectl logs -f -l jobset.sigs.k8s.io/jobset-name=NAME
  kubectl delete jobset NAME
"""

import dataclasses
import pathlib
from typing import Any

import yaml

from launch import submit_job

_RUNS = '/runs'
_INDEX = 'jobset.sigs.k8s.io/job-index'


@dataclasses.dataclass(frozen=True)
class Target:
  """Keys of a target file."""
  accelerator: str   # one slice: v6e:8x8
  image: str         # built from launch/Dockerfile, with ACCELERATOR=tpu
  slices: int = 1
  namespace: str = 'default'
  queue: str = ''    # Kueue's LocalQueue
  service_account: str = ''   # of Kubernetes, that may write the workdir
  claim: str = ''    # a volume that all pods may write, mounted at /runs; a
                     # sweep's workdir is below it
  spot: bool = False
  restarts: int = 10
  grace_s: int = 120   # from SIGTERM to SIGKILL, for the last checkpoint


def _container(job, piece) -> dict:
  """What one host runs."""
  target = job.target
  start = submit_job.command(job, 'tpu', submit_job.pod(target.slices),
                             f'"$SLICE/{target.slices}"')
  env = [{'name': 'MEDRL_STOPPED', 'value': str(submit_job.STOPPED)}]
  if job.sweep:
    # Slices that sweep are none of each other's business.
    start = 'unset "${!MEGASCALE_@}"; exec ' + start
    env.append({'name': 'SLICE', 'valueFrom': {'fieldRef': {
        'fieldPath': f"metadata.labels['{_INDEX}']"}}})
  else:
    start = f'exec {start}'
  out = {
      'name': 'medrl',
      'image': target.image,
      # Kubernetes reads $$ as $, and $(NAME) as a variable.
      'command': ['bash', '-c', start.replace('$', '$$')],
      'env': env,
      # Devices of a TPU node belong to root.
      'securityContext': {'privileged': True, 'runAsUser': 0},
      'resources': {'limits': {'google.com/tpu': piece.chips}},
  }
  if target.claim:
    out['volumeMounts'] = [{'name': 'runs', 'mountPath': _RUNS}]
  return out


def _pod(job, piece) -> dict:
  target = job.target
  selector = {'cloud.google.com/gke-tpu-accelerator': piece.node,
              'cloud.google.com/gke-tpu-topology': piece.topology}
  pod = {
      'restartPolicy': 'Never',
      'hostNetwork': True,
      'dnsPolicy': 'ClusterFirstWithHostNet',
      'terminationGracePeriodSeconds': target.grace_s,
      'nodeSelector': selector,
      'tolerations': [{'key': 'google.com/tpu', 'operator': 'Exists'}],
      'containers': [_container(job, piece)],
  }
  if target.spot:
    selector['cloud.google.com/gke-spot'] = 'true'
  if target.service_account:
    pod['serviceAccountName'] = target.service_account
  if target.claim:
    pod['volumes'] = [{'name': 'runs', 'persistentVolumeClaim': {
        'claimName': target.claim}}]
  return pod


def render(job) -> dict[str, str]:
  """jobset.yaml.

  Raises:
    ValueError: a sweep over slices of several hosts, or a workdir that the
      pods do not share.
  """
  target = job.target
  piece = submit_job.tpu(target.accelerator)
  if job.sweep and piece.hosts > 1:
    raise ValueError(f'{target.accelerator} has {piece.hosts} hosts, and a '
                     f'share of a sweep is one process: take slices of one '
                     f'host, such as v5e:2x2')
  submit_job.check_workdir(job, (_RUNS,) if target.claim else ())
  meta: dict[str, Any] = {'name': job.name, 'namespace': target.namespace}
  if piece.hosts > 1:
    # A slice is a node pool then: a job's pods have one, and have it alone.
    meta['annotations'] = {'alpha.jobset.sigs.k8s.io/exclusive-topology':
                           'cloud.google.com/gke-nodepool'}
  if target.queue:
    meta['labels'] = {'kueue.x-k8s.io/queue-name': target.queue}
  jobset = {
      'apiVersion': 'jobset.x-k8s.io/v1alpha2',
      'kind': 'JobSet',
      'metadata': meta,
      'spec': {
          'failurePolicy': {
              'maxRestarts': target.restarts,
              'rules': [{'name': 'preempted',
                         'action': 'RestartJobSetAndIgnoreMaxRestarts',
                         'onJobFailureReasons': ['PodFailurePolicy']}]},
          'replicatedJobs': [{
              'name': 'slice', 'replicas': target.slices,
              'template': {'spec': {
                  'parallelism': piece.hosts, 'completions': piece.hosts,
                  'completionMode': 'Indexed', 'backoffLimit': 0,
                  'podFailurePolicy': {'rules': [{
                      'action': 'FailJob',
                      'onPodConditions': [{'type': 'DisruptionTarget',
                                           'status': 'True'}]}]},
                  'template': {'spec': _pod(job, piece)}}}}]},
  }
  return {'jobset.yaml': yaml.safe_dump(jobset, sort_keys=False, width=1000)}


def command(job, folder: pathlib.Path) -> list[str]:
  """kubectl's; the set keeps its name, so a running one is not sent twice."""
  del job
  return ['kubectl', 'apply', f'--filename={folder}/jobset.yaml']
