"""Working time of a run; time while the process is stopped (Ctrl-Z, SIGSTOP) is not counted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Measure seconds between ticks while `listening`. A process cannot tell how long it was stopped, so a tick that contains
    a stop counts as much as the previous one.
    """

    def __init__(self) -> None:
        self.last, self.spent, self.was_stopped = time.monotonic(), 0.0, False

    def tick(self) -> float:
        """Return the seconds since the last tick."""
        now = time.monotonic()
        if not self.was_stopped:
            self.spent = now - self.last
        self.last, self.was_stopped = now, False
        return self.spent

    @contextmanager
    def listening(self) -> Iterator[Clock]:
        """Detect when the process is continued (main thread only, if the platform has signals)."""
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
