#!/usr/bin/env bash
# Written by launch/submit.py, which writes it anew each time.
set -euo pipefail
export HOME=/root
gcloud auth configure-docker us-docker.pkg.dev --quiet
docker rm --force medrl > /dev/null 2>&1 || true
exec docker run --rm --name=medrl --privileged --net=host --user=root --stop-timeout=30 \
  us-docker.pkg.dev/my-project/medrl/medrl:tpu \
  --accelerator=tpu \
  --coordinator=auto \
  --config=experiments/chest.py \
  --workdir=gs://my-bucket/chest/a \
  --config.rl.clip_high=0.25 \
  '--config.processor.user={question} "$1"'
