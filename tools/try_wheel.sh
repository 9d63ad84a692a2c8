#!/usr/bin/env bash
# Installs a wheel away from the repository and uses it: draws, builds data, trains, builds the guide and serves it.
#
#     tools/try_wheel.sh BIN WHEEL     BIN is the bin folder of an environment that has what zaozi needs
#
# The fresh environment sees BIN's packages, so nothing is fetched, but zaozi itself comes from the wheel: a .pth file adds
# the folder of the packages without running the .pth files in it, which is how an editable install would come in.
set -euo pipefail
bin=$1
wheel=$2
work=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
fail() {
    echo "try_wheel: $*" >&2
    exit 1
}
unset PYTHONPATH
export ZAOZI_HOME="$work/home" HF_HUB_OFFLINE=1

"$bin/python" -m venv --without-pip "$work/venv"
python="$work/venv/bin/python"
zaozi="$work/venv/bin/zaozi"
packages() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
packages "$bin/python" >"$(packages "$python")/packages.pth"
"$bin/python" -m pip --python "$python" install --quiet --disable-pip-version-check --no-index "zaozi[guide] @ file://$wheel"
mkdir "$work/empty"
cd "$work/empty"
where=$("$python" -c 'import zaozi; print(zaozi.__file__)')
case $where in "$work"/venv/*) ;; *) fail "zaozi comes from $where, not from the wheel" ;; esac
echo "try_wheel: $(basename "$wheel"), $(($(wc -c <"$wheel") / 1000000)) MB, at $where"

"$zaozi" generate gold --count 2 --steps 5 --out drawn
test "$(find drawn -name '*.png' ! -name sheet.png | wc -l)" = 2 || fail "two pictures were to be drawn"
"$python" -m zaozi data build --limit 60 --out data
test -s data/manifest.json || fail "no dataset was built"
"$zaozi" train test --data.path data --steps 5 --out run
"$zaozi" generate gold --count 1 --steps 5 --model run --out trained
test -s trained/run.json || fail "nothing was drawn with what was trained"
if "$zaozi" train glyph-1h >told 2>&1; then fail "a misspelt recipe was trained"; fi
grep -q "did you mean 'glyphs-1h'" told || fail "a misspelt recipe was told as: $(cat told)"

"$zaozi" guide build site --no-figures --data data
test -s site/index.html -a -s site/model/model.json -a -s site/assets/licenses.txt || fail "the guide is incomplete"
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$python" -m zaozi guide serve site --port "$port" >served 2>&1 &
server=$!
"$python" - "$port" <<'PYTHON' || fail "the server did not answer: $(cat served)"
import json
import sys
import time
from urllib.error import URLError
from urllib.request import Request, urlopen

address = f"http://127.0.0.1:{sys.argv[1]}"
for _ in range(240):
    try:
        urlopen(f"{address}/api/health", timeout=10).close()
        break
    except URLError:
        time.sleep(0.5)
with urlopen(f"{address}/", timeout=10) as page:
    assert b"<html" in page.read()
asked = Request(f"{address}/api/generate", json.dumps({"prompt": "gold", "steps": 5}).encode(), {"Content-Type": "application/json"})
with urlopen(asked, timeout=60) as drawn:
    assert "picture" in json.loads(drawn.read().splitlines()[-1])
PYTHON
echo "try_wheel: drew, built data, trained, and built and served the guide"
