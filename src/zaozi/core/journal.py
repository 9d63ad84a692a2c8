"""The journal: atomic updates of several files in a folder. After a crash it has all old files or all new ones."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from zaozi.core.errors import ZaoziError
from zaozi.core.files import flush, flush_folder
from zaozi.core.locks import InUse, holds, locked
from zaozi.core.record import (
    JOURNAL,
    PARTIAL,
    PROGRESS,
    RECORD,
    Damaged,
    Entry,
    Record,
    inside,
    read_record,
    write_record,
)

COMMIT_SECONDS = 60.0
"""Maximum wait in seconds for another process that is moving files into place."""


def settle(folder: Path) -> None:
    """Complete the committed writes of an interrupted command in a folder, and discard the uncommitted ones.

    Waits if another process is moving files into place at the moment. Leaves the folder alone if this or another process
    is still filling it. Does not follow links that lead out of the folder, since the folder may be untrusted.
    """
    partial = folder / PARTIAL
    if not partial.is_dir() or holds(folder):
        return
    if not os.access(folder, os.W_OK):
        if (partial / JOURNAL).exists():
            raise ZaoziError(f"{folder} was left half-written by a command that was cut off; make it writable once")
        return
    end = time.monotonic() + COMMIT_SECONDS
    while True:
        try:
            with locked(folder):
                roll_forward(folder, links=False)
                drop_partial(folder)
            with suppress(OSError):  # during a complete removal
                folder.rmdir()
            return
        except InUse:
            if not (partial / JOURNAL).exists() or time.monotonic() > end:
                return
            time.sleep(0.05)


def verified(folder: Path, names: Iterable[str] | None = None) -> Record:
    """Return the record of a folder after checking that every file (or those in `names`) is what zaozi wrote.

    Returns an empty record for a folder without one: written by an older version, or by hand. Raises `Damaged` naming the
    first file that is missing or differs.
    """
    settle(folder)
    record = read_record(folder)
    for name in record.keys() if names is None else [n for n in names if n in record]:
        path, entry = folder / name, record[name]
        if not path.is_file():
            raise Damaged(f"{path} is missing")
        if not entry.matches(path):
            raise Damaged(
                f"{path} is damaged: it is not what zaozi wrote; get it again, or remove {RECORD} if the change is yours"
            )
    return record


def record_or_none(folder: Path) -> Record:
    """Return the record, or an empty one if it is damaged (the user has passed --overwrite)."""
    try:
        return read_record(folder)
    except Damaged:
        return {}


def journal_line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def decide(folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write and flush the journal atomically. From then on its operations are committed, for this process or the next."""
    partial = folder / PARTIAL
    partial.mkdir(exist_ok=True)
    draft = partial / (JOURNAL + ".new")
    draft.write_text("".join(map(journal_line, lines)), encoding="utf-8")
    flush(draft)
    os.replace(draft, partial / JOURNAL)
    flush_folder(partial)


def _journal_lines(folder: Path) -> list[dict[str, Any]]:
    lines = []
    for name in (JOURNAL, PROGRESS):
        with suppress(FileNotFoundError, UnicodeDecodeError):
            for line in (folder / PARTIAL / name).read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # the last line may be truncated: its file was not placed yet
                    lines.append(json.loads(line))
    return lines


def roll_forward(folder: Path, *, links: bool) -> None:
    """Run the journal's remaining operations; `links` says whether to follow links that lead out of the folder."""
    lines = _journal_lines(folder)
    if not lines:
        return
    record = record_or_none(folder)
    put = {inside(e["put"]): Entry(**{k: v for k, v in e.items() if k != "put"}) for e in lines if "put" in e}
    for line in lines:
        name = line.get("remove")
        if name in record and name not in put:
            remove_file(folder, name, record.pop(name), damaged=line.get("damaged") is True)
    for name, entry in put.items():
        work, path = folder / PARTIAL / "files" / name, folder / name
        if work.is_file() and entry.matches(work) and (links or _leads_inside(folder, path)):
            place(work, path)
        if entry.matches(path):
            record[name] = entry
    for parent in {(folder / name).parent for name in put}:
        if parent.is_dir():
            flush_folder(parent)
    write_record(folder, record)


def _leads_inside(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def drop_partial(folder: Path) -> None:
    partial = folder / PARTIAL
    if partial.is_dir():
        for name in (JOURNAL, PROGRESS):
            (partial / name).unlink(missing_ok=True)  # first: without the journal nothing is committed
        shutil.rmtree(partial, ignore_errors=True)
    (folder / (RECORD + ".new")).unlink(missing_ok=True)


def place(work: Path, path: Path) -> None:
    """Rename a flushed file into place; if the path is a link, its target is replaced."""
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(work, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = path.with_name(path.name + PARTIAL)
        shutil.copyfile(work, beside)
        flush(beside)
        os.replace(beside, path)
        work.unlink()


def remove_file(folder: Path, name: str, entry: Entry, *, damaged: bool = False) -> None:
    """Remove an unmodified file that zaozi wrote, and folders that are then empty."""
    path = folder / name
    if path.is_symlink() or not _leads_inside(folder, path) or not path.is_file():
        return
    if not (damaged or entry.matches(path)):
        return
    path.unlink()
    for parent in PurePosixPath(name).parents:
        if str(parent) == ".":
            break
        try:
            (folder / parent).rmdir()
        except OSError:
            break


def warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
