"""Disk space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from zaozi.core.errors import ZaoziError


def need_space(folder: Path, size: int, what: str = "") -> None:
    """Raises `ZaoziError` if the disk of a folder (which may not exist yet) has less than `size` bytes free for `what`."""
    free = shutil.disk_usage(existing(folder)).free
    if free < size:
        raise ZaoziError(
            f"{what or folder} needs {size / 1e6:.0f} MB and {existing(folder)} has {free / 1e6:.0f} MB left; free some space"
        )


def allocate(path: Path, size: int) -> None:
    """Create a file of `size` bytes with allocated blocks. A full disk then raises here instead of crashing later."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return there
