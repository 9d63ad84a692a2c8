"""Generation on request: a bounded queue, one worker thread, and an event stream per request."""

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
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import ModelConfig
from zaozi.core.sampling import Editing
from zaozi.data.pictures import half_mask
from zaozi.pipeline import (
    Edit,
    TextToImage,
    check_distilled,
    check_sampling,
    check_strength,
    draw,
    guided,
    halfway,
    property_values,
    to_mask,
)
from zaozi.serve.ask import STOPPING, Ask, Limits


class _Stopped(Exception):
    pass


@dataclass(eq=False)
class _Job:
    """One request in the queue: its events, and a flag that stops the worker thread at its next step."""

    ask: Ask
    properties: dict[str, str | float]
    edit: Edit
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    stop: threading.Event = field(default_factory=threading.Event)
    late: bool = False

    def tell(self, event: dict[str, Any] | None) -> None:
        """Add an event, from any thread; None marks the end. Ignored after the event loop has ended."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Desk:
    """Accepts requests, processes them in order in one thread, and counts the outcomes."""

    def __init__(self, artist: TextToImage, limits: Limits) -> None:
        self.artist, self.limits = artist, limits
        self._no_text = artist.encode([""])
        self.counts = dict.fromkeys(("accepted", "refused", "finished", "stopped", "timed_out", "failed", "steps"), 0)
        self.seconds = 1.0  # running mean of the time per drawing
        self._jobs: set[_Job] = set()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def busy(self) -> int:
        """Requests in the queue, including the one in progress."""
        return len(self._jobs)

    def take(self, ask: Ask) -> _Job:
        """Add a request to the queue; its job must be freed with `release`.

        Raises 429 with Retry-After if the queue is full, 503 if the desk is closed, and 422 if the model cannot process the
        request.
        """
        if self._closed:
            raise HTTPException(503, STOPPING)
        if self.busy >= self.limits.room:
            self.counts["refused"] += 1
            wait = max(1, round(self.seconds * self.busy / 2))
            raise HTTPException(
                429, f"{self.busy} drawings are under way; try again in {wait} s", {"Retry-After": str(wait)}
            )
        if "sampling" not in ask.model_fields_set:
            ask = ask.model_copy(update={"sampling": self.artist.usual})
        properties, edit = self._options(ask)
        if self._thread is None:  # daemon thread: a slow step must not keep the process alive
            self._thread = threading.Thread(target=self._work, name="draw", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        job = _Job(ask, properties, edit, loop)
        self.counts["accepted"] += 1
        self._jobs.add(job)
        loop.call_later(self.limits.seconds + 1, self.release, job)  # even if the client has stalled
        self._queue.put(job)
        return job

    def _options(self, ask: Ask) -> tuple[dict[str, str | float], Edit]:
        """Convert the properties and picture of a request for the pipeline. Raises 422 if they, or other options, are invalid."""
        config = self.artist.model.config
        try:
            check_sampling(ask.sampling)
            check_distilled(config, ask.sampling.guidance, plain=not ask.to)
            self.artist.check_size(ask.sampling.size)
            guided(self.artist.model, [(self._no_text, 1.0)], ask.sampling.guidance)
            return _properties(config, ask.properties), _start(config, ask.edit)
        except ZaoziError as error:
            raise HTTPException(422, str(error)) from None

    def release(self, job: _Job) -> None:
        """Stop a drawing in progress at its next step, and free its place in the queue."""
        job.stop.set()
        self._jobs.discard(job)

    def close(self) -> None:
        """Stop all drawings at their next step, notify their clients, and accept no more requests."""
        self._closed = True
        for job in list(self._jobs):
            job.tell({"error": STOPPING})
            job.tell(None)
            self.release(job)
        self._queue.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the worker thread of a closed desk, at most `timeout` seconds."""
        if self._thread:
            self._thread.join(timeout)

    def _work(self) -> None:
        while job := self._queue.get():
            self._draw(job)

    def _draw(self, job: _Job) -> None:
        """Run a job in the worker thread: send an event per step, then the picture, then None."""
        ask, start = job.ask, time.monotonic()

        def watch(t: float, x: Tensor, x0: Tensor, eps: Tensor) -> None:
            if job.stop.is_set():
                raise _Stopped
            self.counts["steps"] += 1
            if ask.quiet:
                return
            model = self.artist.model
            if not model.space.bounds:  # of the noise of latents, the first channels are shown
                x, x0, eps = model.space.preview(x), model.space.preview(x0), eps[:, : model.config.channels]
            job.tell({"t": t, "x": _floats(x), "x0": _floats(x0), "eps": _floats(eps)})

        try:
            if job.stop.is_set():
                raise _Stopped
            prompt = halfway(ask.prompt, ask.to, ask.share) if ask.to else ask.prompt
            picture = draw(
                self.artist.model,
                self.artist.conditions([prompt], job.properties),
                ask.sampling,
                pictures=[ask.picture],
                edit=job.edit,
                on_step=watch,
            )
            picture = self.artist.enlarged(picture, ask.sampling, [ask.picture])
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
        """Yield the job's events, one line of JSON each. The time limit ends it with an error line, also for a slow client."""
        deadline = job.loop.time() + self.limits.seconds
        try:
            while True:
                # only around the wait: a timeout that spans a `yield` would cancel whatever the consumer is doing
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
    """Encode a picture as base64 of little-endian float32."""
    return base64.b64encode(x.float().cpu().contiguous().numpy().astype("<f4").tobytes()).decode()


def _properties(config: ModelConfig, asked: dict[str, str | float]) -> dict[str, str | float]:
    """Convert requested properties, with radicals as numbers. Raises `ZaoziError` if the model does not have one."""
    made = dict(asked)
    if isinstance(character := made.get("radical"), str) and not character.isdecimal():
        from zaozi.data.unihan import radical_forms

        if numbers := radical_forms().get(character):
            made["radical"] = str(numbers[0])
    values = property_values(config.properties, made, 1)
    for p in config.properties:
        low, high = p.span
        if p.column in made and not low <= float(values[p.column]) <= high:
            raise ZaoziError(f"{p.column} is out of range; use {low:.4g} to {high:.4g}")
    return made


def _start(config: ModelConfig, edit: Editing) -> Edit:
    """Convert the initial picture for the pipeline. Raises `ZaoziError` if it is invalid."""
    check_strength(edit.strength)
    mask = to_mask(half_mask(edit.keep, config.size), config.size) if edit.keep else None
    if not edit.init:
        return Edit(None, edit.strength, mask)  # raises if there is more than nothing
    shape = (1, config.channels, config.size, config.size)
    try:
        pixels = np.frombuffer(base64.b64decode(edit.init, validate=True), "<f4")
    except ValueError:
        raise ZaoziError("edit.init is not base64 of float32 numbers") from None
    if pixels.size != np.prod(shape):
        raise ZaoziError(f"edit.init has {pixels.size} numbers; give {' x '.join(map(str, shape[1:]))}")
    if not (np.abs(pixels) <= 1.001).all():  # also rejects NaN
        raise ZaoziError("edit.init is out of range; use -1 (black) to 1 (white)")
    return Edit(torch.from_numpy(pixels.reshape(shape).clip(-1, 1)), edit.strength, mask)
