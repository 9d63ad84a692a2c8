#!/bin/sh
# Makes .venv with every extra, or leaves it alone when it is current. A half-made or outdated one is made anew.
# Everything but torch is checked against the SHA-256 that requirements.lock names (see tools/lock.sh).
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "zaozi needs Python 3.11 or newer; run: make PYTHON=python3.12" >&2
    exit 2
}
stamp=.venv/.complete
wanted=$({ cat pyproject.toml constraints.txt requirements.lock; "$PYTHON" --version; pwd; } | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && .venv/bin/python -c 'import torch, zaozi' 2>/dev/null; then
    exit 0
fi
echo "making .venv (a minute or two, once)" >&2
rm -rf .venv
"$PYTHON" -m venv .venv
install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}
install --no-deps --require-hashes -r requirements.lock
install -c constraints.txt torch
install --no-deps --no-build-isolation -e .
.venv/bin/python -m pip check >&2
printf '%s\n' "$wanted" >"$stamp"
