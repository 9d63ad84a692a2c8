"""One writer at a time: a folder lock that is released when its process ends, even after a crash."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zaozi.core.errors import ZaoziError
from zaozi.core.files import home

if sys.platform != "win32":
    import fcntl


class InUse(ZaoziError):
    """Another process is writing to the folder."""


_held: set[Path] = set()
"""Folders locked by this process."""
_descriptors: set[int] = set()
_UNSUPPORTED = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


def _leave_to_the_parent() -> None:
    """In a forked worker: close its copies of the descriptors. The lock then ends with the process that took it."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


def holds(folder: Path) -> bool:
    """Whether this process has locked a folder."""
    return folder.resolve() in _held


@contextmanager
def locked(folder: Path, *, wait: bool = False, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the exclusive write lock of an existing folder until the block or the process ends.

    The lock is `flock` on the folder itself, which leaves no file behind. On file systems without `flock` it is a file under
    `home()/locks`. With `wait`, waits for another process to finish (`say` is called once); without it, raises `ZaoziError` if
    another process is writing to the folder. A lock is not re-entrant.
    """
    key = folder.resolve()
    if key in _held:
        raise RuntimeError(f"{folder} is already being written by this process")
    told, release = False, None
    while (release := _try(key)) is None:
        if not wait:
            raise InUse(f"another zaozi process is writing {folder}; wait until it ends, or give another folder")
        if say and not told:
            say(f"waiting for another zaozi process that is writing {folder}")
            told = True
        time.sleep(0.1)
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        release()


def _try(folder: Path) -> Callable[[], None] | None:
    """Acquire the lock and return a function that releases it, or None if another process holds it."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
                return None
            if error.errno not in _UNSUPPORTED:
                raise
        else:
            _descriptors.add(descriptor)

            def release() -> None:
                if descriptor in _descriptors:  # not in a forked worker
                    _descriptors.discard(descriptor)
                    os.close(descriptor)

            return release
    return _try_file(folder)


def _try_file(folder: Path) -> Callable[[], None] | None:
    from filelock import FileLock, Timeout

    locks = home() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock: Any = FileLock(locks / hashlib.sha256(os.fsencode(folder)).hexdigest()[:32])
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    release: Callable[[], None] = lock.release
    return release
