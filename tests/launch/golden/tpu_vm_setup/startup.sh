#!/usr/bin/env bash
# Written by launch/submit.py, which writes it anew each time.
set -euo pipefail
export HOME=/root
git clone --depth 1 https://github.com/my-name/medrl /opt/medrl || true
cd /opt/medrl
pip install --quiet uv
uv python install 3.12
PYTHON=$(uv python find 3.12)
export PYTHON
. launch/setup.sh
setup requirements.txt launch/requirements-stores.txt
accelerate tpu
unset PYTHON
exec bash launch/run.sh \
  --accelerator=tpu \
  --coordinator=auto \
  --config.mesh.slices=2 \
  --config=experiments/chest.py \
  --workdir=gs://my-bucket/chest/a \
  --config.rl.clip_high=0.25 \
  '--config.processor.user={question} "$1"'
