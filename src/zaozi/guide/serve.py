"""The guide on this machine: the built page with the headers that threads need, and an API that draws with PyTorch."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from zaozi import __version__
from zaozi.core.config import Guidance
from zaozi.diffusion.samplers import SAMPLERS
from zaozi.pipeline import TextToImage, draw

MAX_PROMPT, MAX_STEPS, MAX_BODY = 300, 120, 16_384


class Ask(BaseModel):
    """One glyph to draw."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT, pattern=r"\S", description="What to draw.")]
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 20
    sampler: Literal[tuple(SAMPLERS)] = "dpmpp-2m"  # type: ignore[valid-type]
    guidance: Annotated[float, Field(ge=0, le=30)] = 5.0
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    picture: Annotated[int, Field(ge=0, le=2**20, description="Which of the seed's pictures.")] = 0


class Health(BaseModel):
    """Whether the server draws, and how busy it is."""

    status: Literal["ok"] = "ok"
    version: str
    model: str
    busy: int
    room: int


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str


@dataclass(frozen=True)
class Limits:
    """What the server takes on."""

    room: int = 16
    """Requests at a time, drawn one after the other; more are told to come back (429)."""
    seconds: float = 60.0
    """For one request, waiting, drawing and sending together."""


class _Stopped(Exception):
    pass


@dataclass
class _Job:
    """One request on its way: its events, and a flag that stops the drawing thread at its next step."""

    ask: Ask
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    stop: threading.Event = field(default_factory=threading.Event)
    released: bool = False
    late: bool = False

    def tell(self, event: dict[str, Any] | None) -> None:
        self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Desk:
    """Takes requests in, has one thread draw them in their order, and counts."""

    def __init__(self, artist: TextToImage, limits: Limits) -> None:
        self.artist, self.limits = artist, limits
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="draw")
        self.busy = 0
        self.counts = dict.fromkeys(("accepted", "refused", "finished", "stopped", "timed_out", "failed", "steps"), 0)
        self.seconds = 1.0  # a running mean of what one request takes

    def take(self, ask: Ask) -> _Job:
        """A place in the queue. Raises a 429 with Retry-After where there is none."""
        if self.busy >= self.limits.room:
            self.counts["refused"] += 1
            wait = max(1, round(self.seconds * self.busy / 2))
            raise HTTPException(
                429, f"{self.busy} drawings are under way; try again in {wait} s", {"Retry-After": str(wait)}
            )
        self.busy += 1
        self.counts["accepted"] += 1
        loop = asyncio.get_running_loop()
        job = _Job(ask, loop)
        loop.call_later(self.limits.seconds + 1, self._release, job)  # should nobody ever come to read it
        self.thread.submit(self._draw, job)
        return job

    def _release(self, job: _Job) -> None:
        """Stop a job, if it still goes on, and give its place to another."""
        job.stop.set()
        if not job.released:
            job.released = True
            self.busy -= 1

    def _draw(self, job: _Job) -> None:
        """In the drawing thread: every step, then the picture, then None."""
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
        """The job's events, a line of JSON each; leaving early, for whatever reason, stops the drawing."""
        try:
            async with asyncio.timeout(self.limits.seconds):
                while (event := await job.events.get()) is not None:
                    yield json.dumps(event) + "\n"
        except TimeoutError:
            job.late = True
            yield json.dumps({"error": f"this took longer than {self.limits.seconds:g} s"}) + "\n"
        finally:
            self._release(job)


def _floats(x: Tensor) -> str:
    """Base64 of a picture's float32 numbers, little-endian."""
    return base64.b64encode(x.float().cpu().contiguous().numpy().astype("<f4").tobytes()).decode()


class _Guard:
    """Refuses large bodies before they are read, and sets the headers under which browsers lend pages threads."""

    HEADERS = (
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-embedder-policy", b"require-corp"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self.HEADERS]
            await send(message)

        given = scope["method"] in ("GET", "HEAD")  # which bring nothing to be measured
        body, more = b"", not given
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > MAX_BODY:
                refusal = JSONResponse({"detail": f"the request is longer than {MAX_BODY} bytes"}, 413)
                await refusal(scope, receive, send_with_headers)
                return

        async def replay() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send_with_headers)


def make_app(artist: TextToImage | None, site: Path | None, limits: Limits = Limits()) -> FastAPI:
    """The server: the page of `site` where one is given, and the API under /api where an artist is.

    POST /api/generate streams lines of JSON: {"t", "x", "x0", "eps"} a step, then {"picture"}; arrays are base64 of
    little-endian float32, the picture in [-1, 1]. GET /api/health and /api/metrics tell how it fares;
    /openapi.json describes it all.
    """

    desk = Desk(artist, limits) if artist else None

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        if desk:
            desk.thread.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="zaozi",
        version=__version__,
        description="Draws characters for meanings.",
        lifespan=life,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(_Guard)
    app.add_exception_handler(RequestValidationError, _unfit)
    if desk:
        _api(app, desk)
    if site:
        _pages(app, site, api=desk is not None)
    return app


async def _unfit(_: Request, error: Exception) -> JSONResponse:
    """What is wrong with a request, in one line, and nothing of what it held."""
    assert isinstance(error, RequestValidationError)
    said = [f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(said)}, 422)


def _api(app: FastAPI, desk: Desk) -> None:
    name = desk.artist.model.config.name
    refusals: dict[int | str, dict[str, Any]] = {code: {"model": Refusal} for code in (413, 422, 429)}

    @app.post("/api/generate", response_class=StreamingResponse, responses=refusals, summary="Draw one glyph")
    async def generate(ask: Ask) -> StreamingResponse:
        return StreamingResponse(desk.stream(desk.take(ask)), media_type="application/x-ndjson")

    @app.get("/api/health", summary="Is it there?")
    async def health() -> Health:
        return Health(version=__version__, model=name, busy=desk.busy, room=desk.limits.room)

    @app.get("/api/metrics", response_class=PlainTextResponse, summary="Counters, as Prometheus reads them")
    async def metrics() -> str:
        lines = [f'zaozi_requests_total{{outcome="{k}"}} {v}' for k, v in desk.counts.items() if k != "steps"]
        lines += [f"zaozi_steps_total {desk.counts['steps']}", f"zaozi_busy {desk.busy}"]
        return "\n".join(lines) + "\n"


def _pages(app: FastAPI, site: Path, *, api: bool) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    if api:
        index = index.replace('data-api=""', 'data-api="api"', 1)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    @app.get("/index.html", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return index

    app.mount("/", StaticFiles(directory=site))


def serve(app: FastAPI, host: str, port: int, say: Callable[[str], None] = print) -> None:
    """Run until Ctrl-C."""
    import uvicorn

    say(f"http://{host}:{port}/  (Ctrl-C stops it)")
    uvicorn.run(
        app, host=host, port=port, log_level="warning", timeout_keep_alive=10, h11_max_incomplete_event_size=65536
    )
