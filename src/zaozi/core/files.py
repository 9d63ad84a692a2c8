"""Files on disk: folders and JSON that appear whole or not at all, and where built things lie."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from zaozi.core.errors import ZaoziError


def home() -> Path:
    """Where built datasets and caches lie: $ZAOZI_HOME, or ~/.cache/zaozi."""
    return Path(os.environ.get("ZAOZI_HOME") or Path.home() / ".cache" / "zaozi")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, written beside and renamed."""
    work = path.with_name(path.name + ".partial")
    work.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(work, path)


def writable(folder: Path) -> Path:
    """The folder, made where it is not there. Raises `ZaoziError` where it can't be: before hours go into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZaoziError(
            f"{folder} is no folder and can't be made one ({error.strerror}); give another --out"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ZaoziError(f"{folder} can't be written to; give another --out")
    return folder


def check_folder(out: Path, *, marker: str, names: Sequence[str]) -> None:
    """Raises `ZaoziError` where `whole_folder` would refuse to write."""
    if out.exists() and not out.is_dir():
        raise ZaoziError(f"{out} is a file; give a folder")
    held = [p.name for p in out.iterdir()] if out.exists() else []
    foreign = [name for name in held if not any(fnmatch(name, pattern) for pattern in names)]
    if foreign or (held and marker not in held):
        raise ZaoziError(f"{out} holds other files ({(foreign or held)[0]}); give an empty or new folder")


@contextmanager
def whole_folder(out: Path, *, marker: str, names: Sequence[str]) -> Iterator[Path]:
    """A folder to fill that becomes `out` only when the block ends well; half a folder never looks whole.

    An older folder of the same kind is replaced: one that holds the file `marker` and nothing but files that match `names`
    (patterns such as '*.json'). Raises `ZaoziError` where `out` is something else.
    """
    out = out.absolute()
    check_folder(out, marker=marker, names=names)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-partial-", dir=out.parent))
    old = work.with_name(work.name + "-old")
    try:
        yield work
        work.chmod(0o755)
        for path in work.iterdir():
            path.chmod(0o755 if path.is_dir() else 0o644)  # some writers make files private
        if out.exists():
            out.rename(old)
        try:
            work.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    finally:
        for left in (work, old):
            shutil.rmtree(left, ignore_errors=True)
