"""Worker processes that always end with the command that started them."""

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
    """In a worker: ignore Ctrl-C, and exit when the parent exits, even by SIGKILL."""
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
    """Run `map(work, items)` in worker processes, in order. Leaving the loop for any reason stops the workers immediately."""
    pool = ProcessPoolExecutor(processes, initializer=end_with_parent)
    try:
        yield from pool.map(work, items, chunksize=chunk)
    finally:
        workers = list((pool._processes or {}).values())  # replace with `terminate_workers` in Python 3.14
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
