"""A Slurm cluster, through `sbatch`, from a folder that all its nodes see.

One task a GPU, which is what jax makes of Slurm's variables (a task would take
one of eight otherwise). Slurm warns a run two minutes before it ends it; a run
that was stopped and is not finished goes back into the queue, and so does one
that the cluster preempts. `squeue --me`, `scancel JOB`; the log is NAME-JOB.log
beside job.sh.
"""

import dataclasses
import pathlib
import re
import shlex

from launch import submit_job


@dataclasses.dataclass(frozen=True)
class Target:
  """Keys of a target file."""
  accelerator: str     # which jax: cuda12, cuda13 or cpu
  nodes: int = 1
  gpus: int = 0        # of a node
  partition: str = ''  # '' takes the cluster's
  account: str = ''
  time: str = ''       # '2-00:00:00'
  cpus: int = 0        # of a node's task; 0 takes the cluster's
  memory: str = ''     # of a node: '200G'
  setup: str = ''      # lines of bash before .venv is made: module load cuda
  lists: tuple[str, ...] = submit_job.LISTS
  options: tuple[str, ...] = ()   # further ones of sbatch: '--qos=long'


def _options(job) -> list[str]:
  """Those of sbatch.

  Raises:
    ValueError: one that sbatch would not read as it was given.
  """
  target = job.target
  tasks = 1 if job.sweep else max(1, target.gpus)
  options = [f'--job-name={job.name}', f'--nodes={target.nodes}',
             f'--ntasks-per-node={tasks}', '--requeue', '--open-mode=append',
             '--signal=TERM@120']
  given = {'gpus-per-node': target.gpus, 'cpus-per-task': target.cpus,
           'partition': target.partition, 'account': target.account,
           'time': target.time, 'mem': target.memory}
  options += [f'--{name}={value}' for name, value in given.items() if value]
  options += target.options
  for option in options:
    if not re.fullmatch(r'--[\w-]+(=[\w.,:;/@%+*\[\]=-]+)?', option):
      raise ValueError(f'{option!r} is no option that #SBATCH lines carry '
                       f'unquoted: --name=value without spaces and quotes')
  return options


def render(job) -> dict[str, str]:
  """job.sh.

  Raises:
    ValueError: an option of sbatch with characters that it does not take.
  """
  target = job.target
  if target.accelerator not in ('cpu', 'cuda12', 'cuda13'):
    raise ValueError(f'target key accelerator is {target.accelerator!r}, '
                     f'expected cuda12, cuda13 or cpu')
  if job.sweep:
    # A node's number is known to its task alone.
    share = ' '.join(submit_job.share(job, '"$SLURM_PROCID/$SLURM_NTASKS"'))
    words = submit_job.sweep_flags(job, f'--accelerator={target.accelerator}')
    start = (f'bash -c \'exec python launch/sweep.py {share} "$@"\' sweep'
             + ''.join(f' \\\n  {shlex.quote(word)}' for word in words))
  else:
    several = target.nodes * max(1, target.gpus) > 1
    start = submit_job.command(job, target.accelerator,
                               ('--coordinator=auto',) if several else ())
  body = (f'export MEDRL_STOPPED={submit_job.STOPPED}\nstatus=0\n'
          f'srun --kill-on-bad-exit=1 {start} || status=$?\n'
          f'# Stopped by a signal, with more to do.\n'
          f'if [ "$status" = {submit_job.STOPPED} ]; then\n'
          f'  scontrol requeue "$SLURM_JOB_ID"\nfi\nexit "$status"')
  text = submit_job.script(
      target.setup, submit_job.install(target.lists, target.accelerator), body)
  head, _, rest = text.partition('\n')
  options = ''.join(f'#SBATCH {option}\n' for option in _options(job))
  return {'job.sh': f'{head}\n{options}{rest}'}


def command(job, folder: pathlib.Path) -> list[str]:
  """sbatch's, called in the repository's root, where the job then runs."""
  return ['sbatch', f'--output={folder}/{job.name}-%j.log', f'{folder}/job.sh']
