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


def bar_of_bytes() -> type[Any]:
    """Return a class of bars for huggingface_hub's downloads: one bar of bytes with the time left, as `progress` shows it."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            bytes_received = kwargs.get("name") == "huggingface_hub.snapshot_download"
            changes = {"disable": None if bytes_received else True, "delay": DELAY, "leave": False, "bar_format": None}
            super().__init__(*args, **{**kwargs, **changes, "desc": "fetching"})

        def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
            pass  # the client's words, for one bar of several

        def display(self, msg: str | None = None, pos: int | None = None) -> Any:
            if msg is None and self._time() - self.start_t < DELAY:  # the client redraws at will
                return None
            return super().display(msg, pos)

    return Bar
