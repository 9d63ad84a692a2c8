"""Replace the shipped `base`: assemble it, evaluate it, and make everything anew that shows or measures it.

python tools/release_base.py runs/base            # assemble and evaluate, then print both reports' figures, side by side
python tools/release_base.py runs/base --install  # then replace the weights, and redraw and remeasure everything

MODEL is a training run, or a released model. When the command is run again, it goes on after the last step that is done; a newer
checkpoint or a changed step starts anew from there. Output: out/release.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from numbers_of_docs import GUIDANCE

from zaozi.evaluate.publish import read_report
from zaozi.evaluate.table import as_text
from zaozi.model.checkpoint import SHIPPED, STATE, find_model
from zaozi.train.recipes import read_recipe

ROOT = Path(__file__).parents[1]
OUT = ROOT / "out" / "release"
MODEL, REPORT = OUT / "base", OUT / "evaluation" / "report.json"
EARLY = "f11e809"
"""Commit with the weights after the first hour of training: the weak model of autoguidance."""
PYTHON = shlex.quote(sys.executable)
ZAOZI = f"{PYTHON} -m zaozi"


def assembling(model: str) -> dict[str, str]:
    """Return the commands that make the released model, by name."""
    found = find_model(model)
    space, stages = read_recipe(Path("base")).train.space_from, sorted((SHIPPED / "base" / "stages").iterdir())
    bare = OUT / "bare" if (found / STATE).is_file() else found
    parts = " ".join(f"--stage {shlex.quote(str(stage))}" for stage in stages)
    release = (
        {"release": f"{ZAOZI} model release {shlex.quote(str(found))} {bare} --name base"} if bare != found else {}
    )
    return {
        **release,
        "assemble": f"{ZAOZI} model assemble {shlex.quote(str(bare))} {MODEL} --name base --space-from {space} {parts}",
        "evaluate": f"{ZAOZI} evaluate {MODEL} --samples 2000 --guidance 4 --precision bf16 --out {REPORT.parent}",
    }


def installing() -> dict[str, str]:
    """Return the commands that redraw and remeasure everything with the installed weights, by name."""
    early = ROOT / "out" / "early"
    compare, shipped = f"{ZAOZI} compare base", SHIPPED / "base"
    return {
        # stops at weights that are not committed
        "install": f"cp -rT {MODEL} {OUT / 'copy'} && git rm -rq {shipped} && mv -T {OUT / 'copy'} {shipped}",
        "publish": f"{ZAOZI} evaluate publish {REPORT} {shipped} --readme {ROOT / 'README.md'}",
        "neutral": f"{PYTHON} tests/test_neutral.py",
        "skeletons": f"{PYTHON} -m zaozi.guide.skeletons",
        "figures": "make figures",
        "hero": "make hero",
        "guide": "make guide",
        "screenshot": "git add src/zaozi/guide && make test-browser && cp out/browser/hero-1440.png docs/pictures/playground.png",
        "strokes": f"{PYTHON} tools/draw_strokes.py docs/pictures/strokes.png",
        "gold": "make run && cp out/sheet.png docs/pictures/gold.png",
        "early": f"mkdir -p {early} && git archive {EARLY} src/zaozi/weights/base | tar -x --strip-components 4 -C {early}",
        "sampling": f"{PYTHON} tools/draw_doc.py docs/sampling.md",
        "diffusers": f"{PYTHON} tools/run_page.py docs/diffusers.md",
        "compare": f"{compare} --steps 5,10,20 --samples 192 --out {OUT / 'compare'}",
        **{
            f"guidance-{name}": f"{compare} --samplers dpmpp-2m --steps 20 --samples 384 {how} --out {OUT / 'guidance' / name}"
            for name, how in GUIDANCE.items()
        },
        "control": f"{ZAOZI} evaluate control base --samples 192 --out {OUT / 'control'}",
        "numbers": f"{PYTHON} tools/numbers_of_docs.py {OUT}",
    }


def perform(commands: dict[str, str]) -> None:
    """Run the commands in order, except those that were done before, with the same commands before them."""
    done, before = OUT / "done", ""
    done.mkdir(parents=True, exist_ok=True)
    for name, command in commands.items():
        before += command + "\n"
        mark = done / name
        if mark.is_file() and mark.read_text(encoding="utf-8") == before:
            continue
        print(f"{time.strftime('%H:%M:%S')} {name}: {command}", flush=True)
        code = subprocess.run(command, shell=True, cwd=ROOT, check=False).returncode
        if code:
            sys.exit(f"{name} failed with code {code}; run the same command again to continue there")
        mark.write_text(before, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument(
        "--install", action="store_true", help="replace the shipped weights and everything made of them"
    )
    given = parser.parse_args(arguments)
    plan = assembling(given.model)
    perform(plan)
    for name, path in (("new", REPORT), ("shipped", SHIPPED / "base" / "report.json")):
        if path.is_file():
            print(f"{name}:\n{as_text(read_report(path))}\n")
    if given.install:
        perform({**plan, **installing()})


if __name__ == "__main__":
    main()
