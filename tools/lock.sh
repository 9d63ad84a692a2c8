#!/bin/sh
# Writes requirements.lock: what an environment for development needs, on every platform, at the versions of constraints.txt
# and with the SHA-256 of every file of each release. torch is not in it, nor the GPU libraries that it brings on Linux: its
# builds for CPUs and for each kind of GPU share a version, not their files.
set -eu
cd "$(dirname "$0")/.."
UV=${UV:-.venv/bin/uv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra dev \
    --constraint constraints.txt pyproject.toml --output-file "$work/all" >/dev/null
{
    echo "# Written by 'make lock' from pyproject.toml and constraints.txt; pip reads it with --require-hashes."
    awk '/^[^ ]/ { left_out = /^(torch|triton|cuda-[a-z-]+|nvidia-[a-z0-9-]+)==/ } !left_out' "$work/all"
} >"$work/lock"
cp "$work/lock" requirements.lock
