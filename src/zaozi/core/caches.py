"""Folders of zaozi's own cache, made when they are missing or damaged, and the removal of what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from zaozi.core.journal import decide, drop_partial, roll_forward, verified, warn
from zaozi.core.locks import locked
from zaozi.core.outputs import Output
from zaozi.core.record import Damaged, read_record


def discard(folder: Path, kind: str, *, damaged: bool = False) -> None:
    """Remove the files of one kind that zaozi wrote into a folder and nobody changed (or, of a cache, `damaged` ones too), and
    the folder where it is then empty. What is cut off is finished by `settle`."""
    with suppress(Damaged), locked(folder):
        drop_partial(folder)
        names = [name for name, entry in read_record(folder).items() if entry.kind == kind]
        decide(folder, [{"remove": name, "damaged": damaged} for name in names])
        roll_forward(folder, links=False)
        drop_partial(folder)
    with suppress(OSError):
        folder.rmdir()


def cached(folder: Path, kind: str, make: Callable[[Path], None]) -> Path:
    """A folder of zaozi's own cache, verified; made (into an empty folder that `make` is given) where it is missing or damaged.

    A second process that wants the same waits for the first. Returns the folder.
    """
    if _sound(folder):
        return folder
    output = Output(folder, kind, overwrite=True)
    with output.lock(wait=True):
        if not _sound(folder, quiet=True):
            with output.fill() as work:
                make(work)
    return folder


def _sound(folder: Path, *, quiet: bool = False) -> bool:
    """Whether a cache's folder is whole; warns where it is damaged."""
    try:
        return bool(folder.is_dir() and verified(folder))
    except Damaged as damage:
        if not quiet:
            warn(f"{damage}; it is made again")
        return False
