#!/usr/bin/env bash
# Sets up .venv, then trains the embedded default; no data and no download.
#   bash launch/local.sh [--accelerator=cpu|tpu|cuda12|cuda13] [--workdir=DIR]
#     [other flags of medrl.main]
# Without --accelerator it takes the one this machine has.
set -euo pipefail
cd "$(dirname "$0")/.."
workdir=runs/phantom accelerator=
for flag in "$@"; do
  case "$flag" in
    --workdir=*) workdir=${flag#*=} ;;
    --accelerator=*) accelerator=${flag#*=} ;;
  esac
done
. launch/setup.sh
accelerator=${accelerator:-$(guess_accelerator)}
setup requirements.txt
accelerate "$accelerator"
# A GPU or a TPU that is here too would be taken otherwise.
[ "$accelerator" != cpu ] || export JAX_PLATFORMS=cpu
result=$(python -m medrl.main --config=experiments/phantom.py "$@" \
  --workdir="$workdir" --accelerator="$accelerator")
if [ -z "$result" ]; then   # SIGTERM, which is no failure
  echo "stopped and saved; the same command goes on from there" >&2
  exit
fi
cat >&2 <<EOF

Results are in $workdir: metrics.jsonl, rollouts.jsonl, checkpoints/.
  look     jupyter lab notebooks/inspect_run.ipynb, with WORKDIR = '$workdir'
  score    python -m medrl.main --config=experiments/phantom.py \\
             --workdir=$workdir --eval_only --config.eval.split=test
EOF
echo "$result" | tail -n 1
