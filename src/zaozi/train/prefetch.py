"""Prefetch batches: threads prepare the next batches while a device trains on one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import torch

from zaozi.core.machine import usable_cores
from zaozi.train.batches import Batch, Batches
from zaozi.train.step import to_device

AHEAD = 4
"""Maximum number of prefetched batches and of threads."""


@contextmanager
def prefetched(
    batches: Batches, step: int, device: torch.device, *, rank: int = 0, world: int = 1, threads: int | None = None
) -> Iterator[Iterator[Batch]]:
    """Yield this process's batches from a step on, on the run's device.

    A batch is a function of its step only, so threads can prepare batches in any order. On a CPU, where prefetching does
    not help, each batch is made on request (`threads` 0).
    """
    if threads is None:
        threads = 0 if device.type == "cpu" else max(1, min(AHEAD, usable_cores() - 1))

    def made(at: int) -> Batch:
        return to_device(batches.at(at, rank, world), device)

    if not threads:
        yield map(made, count(step))
        return
    pool = ThreadPoolExecutor(threads, "batches")
    try:
        yield _in_order(pool, made, step)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool: ThreadPoolExecutor, made: Callable[[int], Batch], step: int) -> Iterator[Batch]:
    steps = count(step)
    ahead: deque[Future[Batch]] = deque(pool.submit(made, next(steps)) for _ in range(AHEAD))
    while True:
        batch = ahead.popleft().result()
        ahead.append(pool.submit(made, next(steps)))
        yield batch
