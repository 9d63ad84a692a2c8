"""Worker processes that never outlive the command that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def end_with_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent ends, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def in_processes(work: Callable[[A], B], items: Iterable[A], processes: int, chunk: int) -> Generator[B, None, None]:
    """`map(work, items)` in worker processes, in order. Leaving the loop, for whatever reason, ends the workers at once."""
    pool = ProcessPoolExecutor(processes, initializer=end_with_parent)
    try:
        yield from pool.map(work, items, chunksize=chunk)
    finally:
        workers = list((pool._processes or {}).values())  # `terminate_workers` from Python 3.14 on
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
