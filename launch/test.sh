#!/usr/bin/env bash
# Sets up .venv with what tests need, then runs them.
#   bash launch/test.sh [arguments of pytest]; slow ones with: -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/setup.sh
setup requirements.txt launch/requirements-{rewards,media,readers,sweeps}.txt \
  tests/requirements.txt
# Two processes, as many as the smallest machine has cores: compiling, which
# most of the time goes to, uses one each.
export JAX_PLATFORMS=cpu
# Files in the order of collection, long ones first (tests/conftest.py).
exec python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder "$@"
