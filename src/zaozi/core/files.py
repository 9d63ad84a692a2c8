"""Files on disk: folders and JSON that appear whole or not at all, and where built things lie."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zaozi.core.errors import ZaoziError


def home() -> Path:
    """Where built datasets and caches lie: $ZAOZI_HOME, or ~/.cache/zaozi."""
    return Path(os.environ.get("ZAOZI_HOME") or Path.home() / ".cache" / "zaozi")


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, written beside and renamed."""
    work = path.with_name(path.name + ".partial")
    work.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    work.rename(path)


@contextmanager
def whole_folder(out: Path, *, marker: str) -> Iterator[Path]:
    """A folder to fill that becomes `out` only when the block ends well; half a folder never looks whole.

    An `out` that holds `marker` is replaced; raises `ZaoziError` where it is something else.
    """
    out = out.absolute()
    if out.exists() and not out.is_dir():
        raise ZaoziError(f"{out} is a file; give a folder")
    if out.exists() and any(out.iterdir()) and not (out / marker).exists():
        raise ZaoziError(f"{out} holds other files; give an empty or new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-partial-", dir=out.parent))
    try:
        yield work
        work.chmod(0o755)
        if out.exists():
            old = work.with_name(work.name + "-old")
            out.rename(old)
            work.rename(out)
            shutil.rmtree(old)
        else:
            work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
