"""Run the commands of a page of docs/ and put the pictures they draw where the page shows them.

python tools/draw_doc.py docs/sampling.md [NAME ...]
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

from zaozi.cli.main import main

PICTURE = re.compile(r"^!\[[^\]]+\]\((\S+\.png)\)$")


def commands(page: Path) -> dict[str, list[str]]:
    """Picture (relative to the page) -> the arguments of the command that stands under it."""
    found: dict[str, list[str]] = {}
    last = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if match := PICTURE.match(line):
            last = match[1]
        elif line.startswith("    zaozi ") and last:
            found[last], last = shlex.split(line.strip())[1:], ""
    return found


def drawn(arguments: list[str]) -> Path:
    """Where a command leaves its picture."""
    out = Path(arguments[arguments.index("--out") + 1]) if "--out" in arguments else Path(arguments[1])
    return out / "sheet.png" if arguments[0] == "generate" else out.with_suffix(".png")


def draw(page: Path, names: list[str]) -> None:
    """Run the commands of the pictures named, or of all."""
    for picture, arguments in commands(page).items():
        if names and Path(picture).stem not in names:
            continue
        print("zaozi", *arguments, flush=True)
        if main(arguments):
            sys.exit(f"{page}: this command failed")
        (page.parent / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(drawn(arguments), page.parent / picture)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), sys.argv[2:])
