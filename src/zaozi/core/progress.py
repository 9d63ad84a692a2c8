"""Progress bars: on a terminal only, and only for what takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

DELAY = 2.0
"""Seconds before a bar appears."""


def progress(rows: Iterable[Any] | None = None, *, shown: bool = True, **options: Any) -> Any:
    """A tqdm bar over `rows`, or one that `update` moves; `options` are tqdm's.

    Nothing is written where standard error is no terminal (a pipe, a file) or `shown` is false, nor in the first two
    seconds; the bar is removed when it ends.
    """
    from tqdm import tqdm

    return tqdm(rows, **{"delay": DELAY, "leave": False, "disable": None if shown else True, **options})
