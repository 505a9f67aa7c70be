#!/usr/bin/env bash
#SBATCH --job-name=chest-chest
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
#SBATCH --gpus-per-node=1
#SBATCH --partition=gpu
#SBATCH --time=12:00:00
# Written by launch/submit.py, which writes it anew each time.
set -euo pipefail
. launch/setup.sh
setup requirements.txt launch/requirements-stores.txt
accelerate cuda12
unset PYTHON
export MEDRL_STOPPED=143
status=0
srun --kill-on-bad-exit=1 bash -c 'exec python launch/sweep.py --shard="$SLURM_PROCID/$SLURM_NTASKS" "$@"' sweep \
  --config=experiments/chest.py \
  --workdir=/runs/chest \
  --grid=rl.clip_high=0.2,0.28 \
  --seeds=3 \
  -- \
  --accelerator=cuda12 \
  --dry_run || status=$?
# Stopped by a signal, with more to do.
if [ "$status" = 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
