"""Background work after startup: loading the model, exporting it, redrawing the figures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

from zaozi.core.errors import ZaoziError, printable

T = TypeVar("T")


class Later(Generic[T]):
    """A value computed in a thread after `start`; any number of requests can wait for it."""

    def __init__(self, make: Callable[[], T], name: str) -> None:
        self.name = name
        self._make = make
        self._made: Future[T] = Future()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @staticmethod
    def of(value: T) -> Later[T]:
        """Wrap a value that is already available."""
        made = Later(lambda: value, "")
        made._run()
        return made

    def start(self) -> None:
        """Start the thread once. It is a daemon thread, so it does not keep the process alive."""
        with self._lock:
            if self._thread is None and not self._made.done():
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            self._made.set_result(self._make())
        except BaseException as error:
            self._made.set_exception(error)
            what = str(error) if isinstance(error, ZaoziError) else f"{type(error).__name__}: {error}"
            print(printable(f"zaozi: {self.name}: {' '.join(what.split())}"), file=sys.stderr)

    @property
    def value(self) -> T | None:
        """The value, or None if it is not ready."""
        done = self._made.done() and self._made.exception() is None
        return self._made.result() if done else None

    async def wait(self) -> T:
        """Wait for the value. Raises the exception of the thread if it failed."""
        self.start()
        return await asyncio.shield(asyncio.wrap_future(self._made))


def command(model: str) -> list[str]:
    """Return the command that draws the figures with a model in a separate process."""
    return [sys.executable, "-m", "zaozi.guide.redraw", model]


class Redraw:
    """Redraws the figures with another model in a separate process: its progress, and the resulting folder."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.done = self.total = 0
        self.folder: Path | None = None
        self.error: str | None = None
        self._left, self._at = 0.0, time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    @property
    def seconds_left(self) -> int | None:
        """Estimated seconds left; None if unknown."""
        if self.folder:
            return 0
        return max(1, round(self._left - (time.monotonic() - self._at))) if self.total else None

    def start(self) -> None:
        """Start the process."""
        threading.Thread(target=self._run, name="redraw", daemon=True).start()

    def stop(self) -> None:
        """Stop the process if it is running."""
        self._closed = True
        if self._process:
            self._process.terminate()

    def _run(self) -> None:
        try:
            self._process = subprocess.Popen(
                command(self.model),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            self.error = f"the figures could not be drawn ({error.strerror})"
            return
        if self._closed:
            self._process.terminate()
        complaints: list[str] = []
        assert self._process.stdout
        assert self._process.stderr
        stderr = self._process.stderr
        reader = threading.Thread(target=lambda: complaints.extend(stderr), daemon=True)
        reader.start()
        for line in self._process.stdout:
            self._read(line)
        reader.join()
        if self._process.wait() and not self._closed:
            last = complaints[-1].strip() if complaints else "the process was terminated"
            self.error = f"the figures could not be drawn: {last}"
            print(printable(f"zaozi: {self.error}"), file=sys.stderr)

    def _read(self, line: str) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            if "folder" in event:
                self.folder = Path(event["folder"])
                self.done = self.total = self.total or 1
            else:
                self.total, self._left = event["total"], event["seconds_left"]
                self.done = min(event["done"], self.total - 1)  # complete only when the folder exists
                self._at = time.monotonic()
