"""Files on disk: hashes, flushing, JSON, and where built things lie. `outputs` has the rules for writing into folders."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def home() -> Path:
    """Where built datasets and caches lie: $ZAOZI_HOME, or ~/.cache/zaozi."""
    return Path(os.environ.get("ZAOZI_HOME") or Path.home() / ".cache" / "zaozi")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any) -> str:
    """Indented JSON with a line end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Indented JSON in a new file, of a folder that an `outputs.Output` is filling."""
    path.write_text(as_json(value), encoding="utf-8")


def flush(path: Path) -> None:
    """Have a file's bytes on the disk, not only in the system's memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(path: Path) -> None:
    """Have a folder's names on the disk: those of files just made, renamed or removed. Nothing on Windows."""
    if hasattr(os, "O_DIRECTORY"):
        flush(path)
