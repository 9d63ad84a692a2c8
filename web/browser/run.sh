#!/bin/sh
# Serve a built guide, try it in Chromium and measure it with Lighthouse. Usage: run.sh PYTHON_BIN SITE SHOTS
# STUDENT=MODEL also tries the site with this student of base: a sketch while typing, a student's own page.
# SLOW=1 leaves out what a busy machine would fail: time limits and Lighthouse.
set -eu
bin=$1 site=$2 shots=$3
cd "$(dirname "$0")/.."
port=${PORT:-8791}
mkdir -p "$shots"
"$bin/python" ../tools/browser_golden.py >"$shots/golden.json"
servers=
trap 'kill $servers 2>/dev/null' EXIT
serve() { # SITE PORT LOG
    "$bin/zaozi" guide serve "$1" --port "$2" --no-api >"$3" 2>&1 &
    servers="$servers $!"
    for _ in $(seq 100); do
        grep -q http "$3" && break
        sleep 0.2
    done
    sleep 1
}
serve "$site" "$port" "$shots/server.log"
node browser/guide.mjs "http://127.0.0.1:$port/" "$shots/golden.json" "$shots" "$site"
rm -rf "$shots/latents-model"
"$bin/python" ../tools/browser_latents.py "$shots/latents-model" >"$shots/latents.json"
"$bin/zaozi" guide build "$shots/latents" --model "$shots/latents-model/whole" --no-figures --overwrite
serve "$shots/latents" "$((port + 1))" "$shots/latents.log"
node browser/latents.mjs "http://127.0.0.1:$((port + 1))/" "$shots/latents.json"
if [ -n "${STUDENT:-}" ]; then
    "$bin/zaozi" guide build "$shots/quick" --quick "$STUDENT" --overwrite
    serve "$shots/quick" "$((port + 2))" "$shots/quick.log"
    ONLY=typing node browser/guide.mjs "http://127.0.0.1:$((port + 2))/" "$shots/golden.json" "$shots" "$shots/quick"
    "$bin/zaozi" guide build "$shots/student" --model "$STUDENT" --quick none --no-figures --overwrite
    serve "$shots/student" "$((port + 3))" "$shots/student.log"
    node browser/student.mjs "http://127.0.0.1:$((port + 3))/"
fi
[ -n "${SLOW:-}" ] || node browser/lighthouse.mjs "http://127.0.0.1:$port/" "$shots"
