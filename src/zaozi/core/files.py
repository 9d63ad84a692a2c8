"""File utilities: hashes, flushing, JSON, and the cache folder. See `outputs` for the rules for writing into folders."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def home() -> Path:
    """Return the folder of built datasets and caches: $ZAOZI_HOME, or ~/.cache/zaozi."""
    return Path(os.environ.get("ZAOZI_HOME") or Path.home() / ".cache" / "zaozi")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any) -> str:
    """Return indented JSON with a trailing newline."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON to a new file in a folder that an `outputs.Output` is filling."""
    path.write_text(as_json(value), encoding="utf-8")


def flush(path: Path) -> None:
    """Flush a file's contents to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(path: Path) -> None:
    """Flush a folder's directory entries to disk, after files were created, renamed or removed. Does nothing on Windows."""
    if hasattr(os, "O_DIRECTORY"):
        flush(path)
