"""Drawings on request: a bounded queue, one thread that draws, and the events of each drawing as a stream."""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from zaozi.core.config import Guidance
from zaozi.diffusion.samplers import SAMPLERS
from zaozi.pipeline import TextToImage, draw

MAX_PROMPT, MAX_STEPS = 300, 120
STOPPING = "the server is stopping"


class Ask(BaseModel):
    """One glyph to draw."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT, pattern=r"\S", description="What to draw.")]
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 20
    sampler: Literal[tuple(SAMPLERS)] = "dpmpp-2m"  # type: ignore[valid-type]
    guidance: Annotated[float, Field(ge=0, le=30)] = 5.0
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    picture: Annotated[int, Field(ge=0, le=2**20, description="Which of the seed's pictures.")] = 0


@dataclass(frozen=True)
class Limits:
    """How much the API draws."""

    room: int = 16
    """Requests in the queue, the one being drawn included; further ones are answered 429."""
    seconds: float = 60.0
    """Time limit of one request: waiting, drawing and sending together."""


class _Stopped(Exception):
    pass


@dataclass(eq=False)
class _Job:
    """One request in the queue: its events, and a flag that stops the drawing thread at its next step."""

    ask: Ask
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    stop: threading.Event = field(default_factory=threading.Event)
    late: bool = False

    def tell(self, event: dict[str, Any] | None) -> None:
        """Add an event, from any thread; None is the last. After the end of the event loop nobody listens."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Desk:
    """Takes requests, has one thread draw them in order, and counts the outcomes."""

    def __init__(self, artist: TextToImage, limits: Limits) -> None:
        self.artist, self.limits = artist, limits
        self.counts = dict.fromkeys(("accepted", "refused", "finished", "stopped", "timed_out", "failed", "steps"), 0)
        self.seconds = 1.0  # running mean of the time one drawing takes
        self._jobs: set[_Job] = set()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def busy(self) -> int:
        """Requests in the queue, the one being drawn included."""
        return len(self._jobs)

    def take(self, ask: Ask) -> _Job:
        """A place in the queue, to be given back with `release`.

        Raises a 429 with Retry-After when the queue is full, and a 503 once the desk is closed.
        """
        if self._closed:
            raise HTTPException(503, STOPPING)
        if self.busy >= self.limits.room:
            self.counts["refused"] += 1
            wait = max(1, round(self.seconds * self.busy / 2))
            raise HTTPException(
                429, f"{self.busy} drawings are under way; try again in {wait} s", {"Retry-After": str(wait)}
            )
        if self._thread is None:  # a daemon: a slow step must not keep the process alive
            self._thread = threading.Thread(target=self._work, name="draw", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        job = _Job(ask, loop)
        self.counts["accepted"] += 1
        self._jobs.add(job)
        loop.call_later(self.limits.seconds + 1, self.release, job)  # even if the reader has stalled
        self._queue.put(job)
        return job

    def release(self, job: _Job) -> None:
        """Stop a drawing that is still under way at its next step, and free its place."""
        job.stop.set()
        self._jobs.discard(job)

    def close(self) -> None:
        """Stop all drawings at their next step, tell their readers, and take no more."""
        self._closed = True
        for job in list(self._jobs):
            job.tell({"error": STOPPING})
            job.tell(None)
            self.release(job)
        self._queue.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the drawing thread of a closed desk, at most `timeout` seconds."""
        if self._thread:
            self._thread.join(timeout)

    def _work(self) -> None:
        while job := self._queue.get():
            self._draw(job)

    def _draw(self, job: _Job) -> None:
        """In the drawing thread: an event per step, then the picture, then None."""
        ask, start = job.ask, time.monotonic()

        def watch(t: float, x: Tensor, x0: Tensor, eps: Tensor) -> None:
            if job.stop.is_set():
                raise _Stopped
            self.counts["steps"] += 1
            job.tell({"t": t, "x": _floats(x), "x0": _floats(x0), "eps": _floats(eps)})

        try:
            if job.stop.is_set():
                raise _Stopped
            picture = draw(
                self.artist.model,
                self.artist.encode([ask.prompt]),
                pictures=[ask.picture],
                num_steps=ask.steps,
                guidance=Guidance(ask.guidance),
                sampler=ask.sampler,
                seed=ask.seed,
                on_step=watch,
            )
            job.tell({"picture": _floats(picture)})
            self.counts["finished"] += 1
            self.seconds += 0.1 * (time.monotonic() - start - self.seconds)
        except _Stopped:
            self.counts["timed_out" if job.late else "stopped"] += 1
        except Exception as error:
            self.counts["failed"] += 1
            job.tell({"error": f"the drawing failed ({type(error).__name__})"})
        finally:
            job.tell(None)

    async def stream(self, job: _Job) -> AsyncIterator[str]:
        """The job's events, one line of JSON each. The time limit ends it with an error line, also for a slow reader."""
        deadline = job.loop.time() + self.limits.seconds
        try:
            while True:
                # only around the wait: a timeout that spans a `yield` would cancel whatever the reader is doing
                async with asyncio.timeout_at(deadline):
                    event = await job.events.get()
                if event is None:
                    return
                yield json.dumps(event) + "\n"
                if job.loop.time() > deadline:
                    raise TimeoutError
        except TimeoutError:
            job.late = True
            job.stop.set()
            yield json.dumps({"error": f"this took longer than {self.limits.seconds:g} s"}) + "\n"


def _floats(x: Tensor) -> str:
    """Base64 of a picture's float32 numbers, little-endian."""
    return base64.b64encode(x.float().cpu().contiguous().numpy().astype("<f4").tobytes()).decode()
