"""Progress bars: only on a terminal, and only for work that takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

DELAY = 2.0
"""Seconds before a bar appears."""


def progress(
    rows: Iterable[Any] | None = None,
    *,
    total: float | None = None,
    desc: str | None = None,
    unit: str = "it",
    unit_scale: bool = False,
    initial: int = 0,
    mininterval: float = 0.1,
    shown: bool = True,
) -> Any:
    """A tqdm bar over `rows`, or one advanced with `update`, of `total` units of which `initial` are done, redrawn
    at most every `mininterval` seconds.

    Prints nothing if standard error is not a terminal (a pipe, a file) or `shown` is false, nor in the first two
    seconds; the bar is removed at the end.
    """
    from tqdm import tqdm

    return tqdm(
        rows,
        desc=desc,
        total=total,
        unit=unit,
        unit_scale=unit_scale,
        initial=initial,
        mininterval=mininterval,
        delay=DELAY,
        leave=False,
        disable=None if shown else True,
    )
