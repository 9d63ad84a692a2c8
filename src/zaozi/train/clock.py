"""How long a run has worked: the time in which its process lies stopped (Ctrl-Z, SIGSTOP) is not counted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Seconds from tick to tick while `listening`. A process does not learn how long it was stopped, so a tick in which it
    was counts as much as the one before."""

    def __init__(self) -> None:
        self.last, self.spent, self.was_stopped = time.monotonic(), 0.0, False

    def tick(self) -> float:
        """The seconds since the last tick."""
        now = time.monotonic()
        if not self.was_stopped:
            self.spent = now - self.last
        self.last, self.was_stopped = now, False
        return self.spent

    @contextmanager
    def listening(self) -> Iterator[Clock]:
        """Notice being continued (in the main thread, where there are signals)."""
        if not hasattr(signal, "SIGCONT") or threading.current_thread() is not threading.main_thread():
            yield self
            return

        def continued(*_: Any) -> None:
            self.was_stopped = True

        before = signal.signal(signal.SIGCONT, continued)
        try:
            yield self
        finally:
            signal.signal(signal.SIGCONT, before)
