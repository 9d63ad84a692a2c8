#!/usr/bin/env bash
# Installs a wheel away from the repository and uses it: serves the guide, draws, builds data, trains,
# builds the guide as a folder and serves that.
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

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# Starts the server with some arguments, as $server on $port, and waits until it answers.
serve() {
    port=$(free_port)
    "$zaozi" guide serve "$@" --port "$port" >served 2>&1 &
    server=$!
    for _ in $(seq 240); do
        "$python" -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:$port/', timeout=10)" 2>/dev/null && return
        sleep 0.5
    done
    fail "the server did not answer: $(cat served)"
}
serve
"$python" - "$port" <<'PYTHON' || fail "the page that ships was not served: $(cat served)"
import sys
from urllib.request import urlopen

address = f"http://127.0.0.1:{sys.argv[1]}"
for path, start in (("/", b"<!doctype html"), ("/figures/01-gaussian.svg", b"<?xml"), ("/data/atlas.json", b"{")):
    with urlopen(f"{address}{path}", timeout=10) as answer:
        assert answer.read().startswith(start), path
with urlopen(f"{address}/ort/ort-wasm-simd-threaded.wasm.gz", timeout=60) as answer:
    assert answer.read(2) == b"\x1f\x8b"
PYTHON
test ! -e "$ZAOZI_HOME" || fail "serving the page wrote $(find "$ZAOZI_HOME")"
kill "$server"
wait "$server" 2>/dev/null || true
server=

"$zaozi" generate gold --count 2 --steps 5 --out drawn
test "$(find drawn -name '*.png' ! -name sheet.png | wc -l)" = 2 || fail "two pictures were to be drawn"
"$python" -m zaozi data build --limit 60 --out data
test -s data/manifest.json || fail "no dataset was built"
"$zaozi" train test --data.path data --steps 5 --out run
"$zaozi" generate gold --count 1 --steps 5 --model run --out trained
test -s trained/run.json || fail "nothing was drawn with what was trained"
if "$zaozi" train glyph-1h >told 2>&1; then fail "a misspelt recipe was trained"; fi
grep -q "did you mean 'glyphs-1h'" told || fail "a misspelt recipe was told as: $(cat told)"

"$zaozi" guide build site
for file in index.html index.html.gz model/model.json figures/01-gaussian.svg data/atlas.json.gz assets/licenses.txt; do
    test -s "site/$file" || fail "the guide is incomplete: no $file"
done
serve site
"$python" - "$port" <<'PYTHON' || fail "the server did not answer: $(cat served)"
import json
import sys
from urllib.request import Request, urlopen

address = f"http://127.0.0.1:{sys.argv[1]}"
urlopen(f"{address}/api/health", timeout=120).close()  # waits for the model
with urlopen(f"{address}/", timeout=10) as page:
    assert b"<html" in page.read()
asked = Request(f"{address}/api/generate", json.dumps({"prompt": "gold", "sampling": {"steps": 5}}).encode(), {"Content-Type": "application/json"})
with urlopen(asked, timeout=60) as drawn:
    assert "picture" in json.loads(drawn.read().splitlines()[-1])
PYTHON
echo "try_wheel: drew, built data, trained, and built and served the guide"
