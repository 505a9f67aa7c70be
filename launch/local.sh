#!/usr/bin/env bash
# Sets up .venv, then trains the embedded default; no data and no download.
#   bash launch/local.sh [--workdir=DIR] [other flags of medrl.main]
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/setup.sh
setup requirements.txt
workdir=runs/phantom
for flag in "$@"; do
  case "$flag" in --workdir=*) workdir=${flag#--workdir=} ;; esac
done
result=$(python -m medrl.main --config=experiments/phantom.py "$@" \
  --workdir="$workdir")
cat >&2 <<EOF

Results are in $workdir: metrics.jsonl, rollouts.jsonl, checkpoints/.
  look     jupyter lab notebooks/inspect_run.ipynb, with WORKDIR = '$workdir'
  score    python -m medrl.main --config=experiments/phantom.py \\
             --workdir=$workdir --eval_only --config.eval.split=test
EOF
echo "$result" | tail -n 1
