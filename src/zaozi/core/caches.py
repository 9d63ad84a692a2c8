"""Folders of zaozi's cache: create them if missing or damaged, and remove the files zaozi wrote."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from zaozi.core.journal import decide, drop_partial, roll_forward, verified, warn
from zaozi.core.locks import locked
from zaozi.core.outputs import Output
from zaozi.core.record import Damaged, read_record


def discard(folder: Path, kind: str, *, damaged: bool = False) -> None:
    """Remove unmodified files of one kind that zaozi wrote to a folder (for a cache, also `damaged` ones), and the folder if it
    is then empty. `settle` completes an interrupted removal.
    """
    with suppress(Damaged), locked(folder):
        drop_partial(folder)
        names = [name for name, entry in read_record(folder).items() if entry.kind == kind]
        decide(folder, [{"remove": name, "damaged": damaged} for name in names])
        roll_forward(folder, links=False)
        drop_partial(folder)
    with suppress(OSError):
        folder.rmdir()


def cached(folder: Path, kind: str, make: Callable[[Path], None]) -> Path:
    """Return a verified cache folder. If it is missing or damaged, `make` fills a new empty folder first.

    A second process that requests the same folder waits for the first.
    """
    if sound(folder):
        return folder
    output = Output(folder, kind, overwrite=True)
    with output.lock(wait=True):
        if not sound(folder, quiet=True):
            with output.fill() as work:
                make(work)
    return folder


def sound(folder: Path, *, quiet: bool = False) -> bool:
    """Whether a cache folder is intact; warns if it is damaged, unless `quiet`."""
    try:
        return bool(folder.is_dir() and verified(folder))
    except Damaged as damage:
        if not quiet:
            warn(f"{damage}; it is made again")
        return False
