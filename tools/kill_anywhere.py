"""Kill every command that writes, at random moments, and look at what is left.

    python tools/kill_anywhere.py --kills 100 --seed 0

Each command runs in a folder that also holds files of somebody else. It is killed with SIGKILL at a random moment; then no
foreign byte may have changed, every folder with a record must be old or new (`journal.verified`), and no worker may live
on. After its kills each command must run to its end. Prints one line per command, and ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zaozi.core.errors import ZaoziError
from zaozi.core.journal import verified
from zaozi.core.record import PARTIAL, RECORD, read_record

RECIPE = """name = "t"
[network]
width = 32
depth = 1
head_width = 16
[[properties]]
column = "radical"
[train]
steps = 12
batch_size = 8
save_every = 2
sample_every = 4
validate_every = 6
self_check = false
"""
ZAOZI = [sys.executable, "-m", "zaozi"]
COMMANDS: dict[str, list[str]] = {  # name -> words; {n} is a folder that is new for every kill, or stays
    "data build": ["data", "build", "--limit", "120", "--size", "32", "--out", "data"],
    "train": ["train", "r.toml", "--data.path", "data", "--out", "run-{n}"],
    "captions": ["train", "r.toml", "--data.path", "data", "--out", "again-{n}", "--steps", "1"],
    "resume": ["train", "r.toml", "--data.path", "data", "--out", "run", "--resume", "--steps", "400"],
    "release": ["model", "release", "run", "released"],
    "export": ["export", "released", "--out", "onnx"],
    "guide build": ["guide", "build", "site", "--model", "released", "--data", "data", "--no-figures"],
    "generate": ["generate", "gold", "fish", "--model", "released", "--count", "6", "--steps", "30", "--out", "o"],
    "font": ["font", "f.ttf", "--prompt", "gold", "--prompt", "fish", "--model", "released", "--count", "8"],
    "data show": ["data", "show", "data", "--out", "o/data.png"],
}


def start(words: list[str], n: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    words = [word.replace("{n}", str(n)) for word in words]
    if words[0] == "train" and "--resume" not in words and list(Path(words[words.index("--out") + 1]).glob("step-*")):
        words.append("--resume")
    return subprocess.Popen(
        [*ZAOZI, *words], env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def ended(words: list[str], n: int, environment: dict[str, str]) -> float:
    """Run to the end; returns the seconds. Raises `RuntimeError` where it fails."""
    begun = time.monotonic()
    process = start(words, n, environment)
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {said.decode(errors='replace').splitlines()[-1:]}")
    return time.monotonic() - begun


def foreign(root: Path) -> dict[str, str]:
    """SHA-256 of the files that somebody else put there."""
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if "mine" in p.name}


def plant(root: Path) -> None:
    """Somebody's files: beside the outputs, and hidden inside them."""
    for place in (".", "data", "run", "released", "onnx", "site", "site/data", "o", "o/000-gold"):
        (root / place).mkdir(parents=True, exist_ok=True)
        (root / place / ".mine").write_bytes(os.urandom(64))
    for name in ("mine.txt", "mine.ttf", "f-mine.png"):
        (root / name).write_bytes(os.urandom(64))


def looked_at(root: Path) -> list[str]:
    """What is wrong with the folders that have a record."""
    wrong = []
    for folder in sorted(
        {p.parent for name in (RECORD, PARTIAL) for p in root.rglob(name) if PARTIAL not in p.parent.parts}
    ):
        try:
            verified(folder)
        except ZaoziError as error:
            wrong.append(str(error))
        for name in read_record(folder):
            if "mine" in name:
                wrong.append(f"{folder / name} is recorded as ours")
    return wrong


def alive(group: int) -> bool:
    """Whether a process of a group is left a moment later."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    root = Path(tempfile.mkdtemp(prefix="zaozi-kill-"))
    environment = {**os.environ, "ZAOZI_HOME": str(root / "home"), "OMP_NUM_THREADS": "1"}
    failures: list[str] = []
    os.chdir(root)
    try:
        (root / "r.toml").write_text(RECIPE)
        plant(root)
        before = foreign(root)
        share = -(-args.kills // len(COMMANDS))
        for name, words in COMMANDS.items():
            first = [*words]
            if name == "resume":
                first = [w if w != "400" else "12" for w in words if w != "--resume"]
            seconds = ended(first, 0, environment)
            killed = tried = 0
            while killed < share and tried < 5 * share:  # a command that was faster than foreseen is tried again
                tried += 1
                if name == "captions":
                    shutil.rmtree(root / "home" / "text", ignore_errors=True)
                begun = time.monotonic()
                process = start(words, tried, environment)
                try:
                    process.communicate(timeout=dice.uniform(0.2, 1.0) * seconds)
                    seconds = min(seconds, time.monotonic() - begun)
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, signal.SIGKILL)  # the command alone: its workers must notice
                    process.communicate()
                    killed += 1
                if alive(process.pid):
                    failures.append(f"{name}: a worker lives on")
                    os.killpg(process.pid, signal.SIGKILL)
                failures += [f"{name}: {what}" for what in looked_at(root)]
                if foreign(root) != before:
                    failures.append(f"{name}: a foreign file was changed")
            try:
                ended([w if w != "400" else "20" for w in words] if name == "resume" else words, share, environment)
            except RuntimeError as error:
                failures.append(str(error))
            partial = [str(p) for p in root.rglob(PARTIAL) if name not in ("train", "captions", "resume")]
            failures += [f"{name}: left {p}" for p in partial if Path(p).parent.name in words]
            print(f"{name}: killed {killed} times in {tried}, {len(failures)} faults so far", flush=True)
    finally:
        os.chdir("/")
        shutil.rmtree(root, ignore_errors=True)
    for failure in failures:
        print(failure)
    return bool(failures)


if __name__ == "__main__":
    raise SystemExit(main())
