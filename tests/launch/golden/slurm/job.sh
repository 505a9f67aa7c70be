#!/usr/bin/env bash
#SBATCH --job-name=chest-a
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --partition=gpu
#SBATCH --time=1-00:00:00
#SBATCH --mem=500G
# Written by launch/submit.py, which writes it anew each time.
set -euo pipefail
. launch/setup.sh
setup requirements.txt launch/requirements-stores.txt
accelerate cuda12
unset PYTHON
export MEDRL_STOPPED=143
status=0
srun --kill-on-bad-exit=1 bash launch/run.sh \
  --accelerator=cuda12 \
  --coordinator=auto \
  --config=experiments/chest.py \
  --workdir=gs://my-bucket/chest/a \
  --config.rl.clip_high=0.25 \
  '--config.processor.user={question} "$1"' || status=$?
# Stopped by a signal, with more to do.
if [ "$status" = 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
