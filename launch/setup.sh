# Sourced by the other scripts: `setup LIST...` makes .venv where it is absent,
# installs the pinned lists, again when one has changed, and enters it.
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
