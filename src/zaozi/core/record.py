"""The record of the files that zaozi wrote into a folder: `.zaozi.json`, with the kind, size and SHA-256 of each."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zaozi.core.errors import ZaoziError
from zaozi.core.files import flush, flush_folder, sha256

RECORD, PARTIAL = ".zaozi.json", ".zaozi-partial"
JOURNAL, PROGRESS = "journal.jsonl", "progress.jsonl"
"""In the partial folder: files being moved into place all at once, and files written one by one."""
FORMAT = 1


class Damaged(ZaoziError):
    """A file differs from what zaozi wrote: truncated, changed or missing."""


@dataclass(frozen=True)
class Entry:
    """A file of the record: its owner, its size in bytes and its SHA-256. A file that `grows` has no size or hash."""

    kind: str
    bytes: int
    sha256: str
    grows: bool = False

    def matches(self, path: Path) -> bool:
        """Whether a file is unmodified since it was written."""
        if not path.is_file():
            return False
        return self.grows or (path.stat().st_size == self.bytes and sha256(path) == self.sha256)


Record = dict[str, Entry]


def entry_of(path: Path, kind: str) -> Entry:
    """Return the entry for a file in its current state."""
    return Entry(kind, path.stat().st_size, sha256(path))


def read_record(folder: Path) -> Record:
    """Return the record of a folder; empty if there is none. Raises `Damaged` if it cannot be read."""
    path = folder / RECORD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ZaoziError(f"{path} is of format {values['format']}, not {FORMAT}; use a newer zaozi")
        return {inside(name): Entry(**entry) for name, entry in values["files"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{path} is damaged ({error}); remove it if the files beside it are yours") from None


def inside(name: str) -> str:
    """Return a relative name that stays inside its folder. Raises `ValueError` otherwise."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/") or "\\" in name or parts[0] in (RECORD, PARTIAL):
        raise ValueError(f"'{name}' is not a file inside the folder")
    return name


def write_record(folder: Path, record: Record) -> None:
    """Write the record with a flush and a rename; a folder without files from zaozi has no record."""
    path = folder / RECORD
    if not record:
        path.unlink(missing_ok=True)
        return
    values = {"format": FORMAT, "files": {name: plain_entry(record[name]) for name in sorted(record)}}
    work = path.with_name(RECORD + ".new")
    work.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    flush(work)
    os.replace(work, path)
    flush_folder(folder)


def plain_entry(entry: Entry) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": entry.kind, "bytes": entry.bytes, "sha256": entry.sha256}
    return values | ({"grows": True} if entry.grows else {})
