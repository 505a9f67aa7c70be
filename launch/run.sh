#!/usr/bin/env bash
# Trains, and starts again where the run has crashed or lost a host.
#   bash launch/run.sh --config=experiments/x.py --workdir=runs/x [other flags]
#     --retries=N  more starts, at most (MEDRL_RETRIES, 3)
#     --pause=S    seconds before each (MEDRL_PAUSE, 20)
# On several hosts each of them runs this, with its own --process.
#
# It ends with the status of the last start and starts no other: 0 when the run
# is finished (its workdir has result.json) or SIGTERM has stopped it, saved
# (MEDRL_STOPPED instead, where a queue would take 0 for finished); 2 when the
# config or the data are wrong; 130 after Ctrl-C. Not here: setting up Python
# (launch/setup.sh); PYTHON names another than that on the path.
set -uo pipefail
cd "$(dirname "$0")/.."
# The run is then a process group of its own: it gets a terminal's Ctrl-C once,
# from here, and not twice.
set -m

retries=${MEDRL_RETRIES:-3} pause=${MEDRL_PAUSE:-20}
workdir='' asked='' child='' flags=()
while [ $# -gt 0 ]; do
  case "$1" in
    --retries=*) retries=${1#*=} ;;
    --pause=*) pause=${1#*=} ;;
    --workdir=*) workdir=${1#*=} flags+=("$1") ;;
    --workdir) workdir=${2:-} flags+=("$1") ;;
    *) flags+=("$1") ;;
  esac
  shift
done
for number in "$retries" "$pause"; do
  case "$number" in '' | *[!0-9]*)
    echo "run.sh: '$number' is no number of retries or seconds" >&2
    exit 2 ;;
  esac
done

finished() { [ -n "$workdir" ] && [ -f "$workdir/result.json" ]; }
say() { echo "run.sh: $*" >&2; }
pass() { asked=$1; [ -n "$child" ] && kill "-$1" "$child" 2>/dev/null; }
trap 'pass TERM' TERM
trap 'pass INT' INT

if finished; then
  say "$workdir has result.json: that run is finished"
  exit 0
fi
for ((start = 0; ; start++)); do
  "${PYTHON:-python}" -m medrl.main "${flags[@]}" &
  child=$!
  [ -n "$asked" ] && pass "$asked"   # it came a moment too early
  # A signal that was passed on ends `wait`, and not the run.
  while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done
  child=''
  if [ "$status" -eq 0 ] || [ "$status" -eq 2 ] || [ "$status" -eq 130 ] ||
    [ -n "$asked" ]; then
    if [ "$status" -eq 0 ] && [ "$asked" = TERM ] && ! finished; then
      status=${MEDRL_STOPPED:-0}
    fi
    exit "$status"
  fi
  if finished; then
    say "ended with status $status, but $workdir has result.json"
    exit 0
  fi
  if [ "$start" -ge "$retries" ]; then
    say "ended with status $status after $((start + 1)) starts; giving up"
    exit "$status"
  fi
  say "ended with status $status; start $((start + 2)) of $((retries + 1))" \
    "in $pause s"
  # Not a plain sleep, which would hold a signal up.
  sleep "$pause" &
  wait $!
  if [ -n "$asked" ]; then
    kill $! 2>/dev/null
    exit "$status"
  fi
done
