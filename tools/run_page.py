"""Run the commands and the Python of a page of docs/, in one folder, and write what the commands print into the page.

python tools/run_page.py docs/diffusers.md

What follows `<!-- from the hub -->` is not run. A picture is drawn from the list `pictures` of the Python above it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from zaozi.cli.main import main
from zaozi.data.sheet import contact_sheet, png

PART = re.compile(
    r"(?P<hub><!-- from the hub -->\n\n)?(?:```python\n(?P<python>.*?)```\n|(?P<commands>(?:    zaozi [^\n]*\n)+))"
    r"(?:\n```text\n(?P<said>.*?)```\n)?(?:\n!\[[^\]]*\]\((?P<picture>\S+\.png)\)\n)?",
    re.DOTALL,
)


def run(page: Path, folder: Path) -> tuple[str, dict[str, bytes]]:
    """Return the page with what its commands print, and its pictures by their names there."""
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    made, pictures, last = "", {}, 0
    for part in PART.finditer(text):
        made, last = made + text[last : part.start()], part.end()
        if part["hub"]:
            made += part[0]
            continue
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as said:
            if part["python"]:
                exec(compile(part["python"], str(page), "exec"), names)
            for line in (part["commands"] or "").splitlines():
                if main(shlex.split(line)[1:]):
                    raise SystemExit(f"{page}: '{line.strip()}' failed")
        if part["said"] is None:
            made += part[0]
        else:
            made += part[0].replace(f"```text\n{part['said']}```", f"```text\n{said.getvalue()}```")
        if part["picture"]:
            pictures[part["picture"]] = _sheet(names["pictures"])
    return made + text[last:], pictures


def _sheet(found: list[Image.Image]) -> bytes:
    return png(contact_sheet([found], [""], columns=len(found), lines=0))


if __name__ == "__main__":
    here = Path(sys.argv[1]).resolve()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as work:
        changed, drawn = run(here, Path(work))
    here.write_text(changed, encoding="utf-8")
    for name, content in drawn.items():
        (here.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (here.parent / name).write_bytes(content)
