"""Room on the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from zaozi.core.errors import ZaoziError


def need_space(folder: Path, size: int, what: str = "") -> None:
    """Raises `ZaoziError` where the disk of a folder (that need not exist) has less than `size` bytes left for `what`."""
    free = shutil.disk_usage(existing(folder)).free
    if free < size:
        raise ZaoziError(
            f"{what or folder} needs {size / 1e6:.0f} MB and {existing(folder)} has {free / 1e6:.0f} MB left; free some space"
        )


def allocate(path: Path, size: int) -> None:
    """Create a file of `size` bytes whose blocks exist, so that a full disk is an error here and not a crash later."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return there
