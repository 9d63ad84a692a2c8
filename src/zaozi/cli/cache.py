"""`zaozi cache list`, `verify` and `prune`: the cache under $ZAOZI_HOME, which is rebuilt when files are missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import tyro

from zaozi.core.caches import discard
from zaozi.core.errors import ZaoziError
from zaozi.core.files import home
from zaozi.core.journal import verified
from zaozi.core.record import PARTIAL, RECORD, Damaged, read_record


def folders() -> Iterator[Path]:
    """Yield the cache folders that zaozi wrote, complete or partial."""
    found = {p.parent for name in (RECORD, PARTIAL) for p in home().rglob(name)}
    yield from sorted(p for p in found if PARTIAL not in p.parts)


def _size(folder: Path) -> int:
    return sum(entry.bytes for entry in read_record(folder).values())


def show() -> None:
    """List cached datasets, decoded pictures, encoded captions, exports and figures. All of them can be rebuilt."""
    total = 0
    for folder in folders():
        try:
            size = _size(folder)
        except Damaged:
            size = 0
        total += size
        print(f"{size / 1e6:9.1f} MB  {folder.relative_to(home())}")
    print(f"{total / 1e6:9.1f} MB in {home()}")


def _damaged() -> Iterator[tuple[Path, Damaged]]:
    for folder in folders():
        try:
            verified(folder)
        except Damaged as damage:
            yield folder, damage


def verify() -> None:
    """Compare every cached file with the SHA-256 recorded when it was written.

    Prints the damaged files. They are rebuilt automatically the next time they are needed.
    """
    count = sum(1 for _ in folders())
    found = [damage for _, damage in _damaged()]
    for damage in found:
        print(damage)
    print(f"{count - len(found)} of {count} folders are whole")
    if found:
        raise ZaoziError(f"{len(found)} cached folders are damaged; run: zaozi cache prune")


def prune(*, everything: tyro.conf.FlagCreatePairsOff[bool] = False) -> None:
    """Remove damaged and partial folders from the cache. Files that zaozi did not write are kept.

    Args:
        everything: Remove the whole cache, including built glyphs.
    """
    chosen = list(folders()) if everything else [folder for folder, _ in _damaged()]
    freed = 0
    for folder in chosen:
        try:
            record = read_record(folder)
        except Damaged as damage:
            print(damage)
            continue
        freed += sum(entry.bytes for entry in record.values())
        for kind in {entry.kind for entry in record.values()} or {""}:
            discard(folder, kind, damaged=True)
    print(f"{len(chosen)} folders removed, {freed / 1e6:.1f} MB freed")
