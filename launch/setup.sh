# Sourced by the other scripts, in the repository's root:
#   setup LIST...           makes .venv where it is absent, installs the pinned
#                           lists, again when one has changed, and enters it
#   guess_accelerator       prints which of cpu, tpu, cuda12, cuda13 is here
#   accelerate ACCELERATOR  installs jax for it, in the version of
#                           requirements.txt
setup() {
  local python=${PYTHON:-python3} list stamp
  if [ ! -x .venv/bin/python ]; then
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "medrl needs Python 3.11 or newer; $("$python" --version 2>&1) is" \
        "too old. Set PYTHON to the newer one." >&2
      return 1
    fi
    "$python" -m venv .venv
  fi
  . .venv/bin/activate
  for list in "$@"; do
    stamp=.venv/installed-${list//\//-}
    cmp -s "$list" "$stamp" && continue
    echo "installing $list ..." >&2
    python -m pip install --quiet --disable-pip-version-check -r "$list" >&2
    cp "$list" "$stamp"
  done
}

# Argument: the folder of devices, for tests.
guess_accelerator() {
  local dev=${1:-/dev} found=cpu why='no NVIDIA driver and no TPU' smi cuda
  local instance=http://metadata.google.internal/computeMetadata/v1/instance
  if smi=$(nvidia-smi 2>/dev/null); then
    # The newest CUDA that the driver runs; its heading has changed once.
    cuda=$(sed -n 's/.*CUDA\( UMD\)\{0,1\} Version: *\([0-9]*\)\..*/\2/p' \
      <<< "$smi" | head -n 1)
    if [ "${cuda:-0}" -lt 12 ]; then
      echo "this machine's NVIDIA driver runs CUDA ${cuda:-?}, and jax needs" \
        "12 or 13: update the driver, or give --accelerator=cpu" >&2
      return 1
    fi
    found=cuda12 why="the driver runs CUDA $cuda"
    [ "$cuda" -lt 13 ] || found=cuda13
  # Not /dev/accel, a folder that other makers' drivers have.
  elif compgen -G "$dev/accel[0-9]*" > /dev/null; then
    found=tpu why="$dev/accel*"
  # Any device given to a virtual machine is one of these; a pod's variables,
  # or the cloud's metadata, say whether it is a TPU.
  elif compgen -G "$dev/vfio/[0-9]*" > /dev/null && {
    [ -n "${TPU_ACCELERATOR_TYPE:-}${TPU_WORKER_HOSTNAMES:-}" ] ||
      curl --silent --fail --max-time 3 --header 'Metadata-Flavor: Google' \
        "$instance/attributes/accelerator-type" > /dev/null 2>&1
  }; then
    found=tpu why="$dev/vfio on a TPU machine"
  fi
  echo "accelerator: $found ($why); --accelerator=NAME says otherwise" >&2
  echo "$found"
}

accelerate() {
  local pin stamp=.venv/installed-accelerator other=
  case "$1" in
    cpu) return ;;
    tpu) ;;
    cuda12) other=cuda13 ;;
    cuda13) other=cuda12 ;;
    *)
      echo "--accelerator=$1 is none of cpu, tpu, cuda12, cuda13" >&2
      return 1
      ;;
  esac
  pin=$(sed -n "s/^jax==/jax[$1]==/p" requirements.txt)
  [ "$pin" = "$(cat "$stamp" 2>/dev/null)" ] && return
  echo "installing $pin ..." >&2
  if [ -n "$other" ]; then  # jax finds both plugins, and refuses
    python -m pip uninstall --quiet --yes "jax-$other-plugin" \
      "jax-$other-pjrt" >&2
  fi
  python -m pip install --quiet --disable-pip-version-check "$pin" >&2
  echo "$pin" > "$stamp"
}
