"""The application: the page of the guide, its files, and the drawing API."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from zaozi import __version__
from zaozi.guide.serve.desk import Ask, Desk, Limits
from zaozi.guide.serve.guard import Access, Guard
from zaozi.pipeline import TextToImage


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


def make_app(
    artist: TextToImage | None, site: Path | None, limits: Limits | None = None, access: Access | None = None
) -> Guard:
    """The ASGI application: the page of `site` where one is given, and the API under /api where an artist is.

    POST /api/generate streams lines of JSON: {"t", "x", "x0", "eps"} per step, then {"picture"}, or {"error"} where it broke
    off; arrays are base64 of little-endian float32, the picture in [-1, 1]. GET /api/health and /api/metrics report the
    state of the server; /openapi.json describes the API. `access` says which hosts are answered (by default only names of
    the loopback address) and whether the API needs a token.
    """
    desk = Desk(artist, limits or Limits()) if artist else None

    def close() -> None:
        if desk:
            desk.close()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        if desk:
            desk.close()
            desk.join(timeout=3)

    app = FastAPI(
        title="zaozi",
        version=__version__,
        description="Draws characters for meanings.",
        lifespan=life,
        redirect_slashes=False,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(404, partial(_missing, site=site is not None))
    if desk:
        _api(app, desk)
    if site:
        _pages(app, site, api=desk is not None)
    return Guard(app, access or Access(), close)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """What is wrong with a request, in one line, and nothing of what it held."""
    assert isinstance(error, RequestValidationError)
    said = [f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(said)}, 422)


async def _missing(_: Request, __: Exception, *, site: bool) -> JSONResponse:
    where = "the guide is at /" if site else "the API is described at /openapi.json"
    return JSONResponse({"detail": f"nothing is here; {where}"}, 404)


class _Drawing(StreamingResponse):
    """A drawing as a stream, which frees its place in the queue however it ends."""

    def __init__(self, desk: Desk, ask: Ask) -> None:
        self.desk, self.job = desk, desk.take(ask)
        super().__init__(desk.stream(self.job), media_type="application/x-ndjson")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.desk.release(self.job)


def _api(app: FastAPI, desk: Desk) -> None:
    name = desk.artist.model.config.name
    refusals: dict[int | str, dict[str, Any]] = {
        code: {"model": Refusal} for code in (400, 401, 403, 413, 421, 422, 429, 503)
    }

    @app.post("/api/generate", response_class=StreamingResponse, responses=refusals, summary="Draw one glyph")
    async def generate(ask: Ask) -> StreamingResponse:
        return _Drawing(desk, ask)

    @app.head("/api/health", include_in_schema=False)
    @app.get("/api/health", summary="Is it there?")
    async def health() -> Health:
        return Health(version=__version__, model=name, busy=desk.busy, room=desk.limits.room)

    @app.head("/api/metrics", response_class=PlainTextResponse, include_in_schema=False)
    @app.get("/api/metrics", response_class=PlainTextResponse, summary="Counters, as Prometheus reads them")
    async def metrics() -> str:
        lines = [f'zaozi_requests_total{{outcome="{k}"}} {v}' for k, v in desk.counts.items() if k != "steps"]
        lines += [f"zaozi_steps_total {desk.counts['steps']}", f"zaozi_busy {desk.busy}"]
        return "\n".join(lines) + "\n"


def _pages(app: FastAPI, site: Path, *, api: bool) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    if api:
        index = index.replace('data-api=""', 'data-api="api"', 1)

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(index)

    app.router.routes += [Route("/", page), Route("/index.html", page)]  # GET and HEAD
    app.mount("/", _Files(directory=site))


class _Files(StaticFiles):
    """Readable regular files inside the folder. What leads out of it, or is hidden (.NAME), is not there."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        try:
            found, status = super().lookup_path(path)
        except (OSError, ValueError):  # names too long, loops of links, NUL
            return "", None
        if status is None or not stat.S_ISREG(status.st_mode) or not os.access(found, os.R_OK):
            return "", None
        inside = os.path.relpath(found, os.path.realpath(str(self.directory)))
        named = (*Path(path).parts, *Path(inside).parts)  # as asked for, and with all links followed
        return ("", None) if any(part.startswith(".") for part in named) else (found, status)
