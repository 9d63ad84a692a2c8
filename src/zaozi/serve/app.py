"""The application: the page of the guide, its files, and the API. Importing this module does not import PyTorch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from zaozi import __version__
from zaozi.guide.shipped import PAGES
from zaozi.serve.ask import STOPPING, Ask, Limits
from zaozi.serve.background import Later, Redraw
from zaozi.serve.docs import described
from zaozi.serve.files import Files, answer
from zaozi.serve.guard import Access, Guard

if TYPE_CHECKING:
    from zaozi.pipeline import TextToImage
    from zaozi.serve.desk import Desk


class Health(BaseModel):
    """State of the server: its version, its model, the requests in the queue (`busy`), and the queue size (`room`)."""

    status: Literal["ok"] = "ok"
    version: str
    model: str
    busy: int
    room: int


class Drawn(BaseModel):
    """Progress of redrawing the figures: parts done, total parts, and seconds left (null if unknown).

    `total` is 0 if no figures are being redrawn. `error` is the reason if redrawing failed.
    """

    done: int = 0
    total: int = 0
    seconds_left: int | None = None
    error: str | None = None


class Refusal(BaseModel):
    """Reason why a request was rejected."""

    detail: str


def make_app(
    artist: TextToImage | Later[TextToImage] | None,
    site: Path | None,
    limits: Limits | None = None,
    access: Access | None = None,
    *,
    model: Later[Path] | None = None,
    redraw: Redraw | None = None,
) -> Guard:
    """Create the ASGI application: the page of `site`, if given, and the API under /api, if `artist` is given.

    POST /api/generate streams lines of JSON: {"t", "x", "x0", "eps"} per step, then {"picture"}, or {"error"} on failure;
    arrays are base64 of little-endian float32, the picture in [-1, 1]. GET /api/health and /api/metrics report the state of
    the server; /openapi.json describes the API, and /docs documents it. `access` sets the allowed hosts (by default only
    names of the loopback address) and whether the API requires a token.

    Requests wait until the model is loaded. `model` is the folder of the model that runs in the page, if `site` has
    none; it is created on first use. `redraw` provides figures/ and data/ that replace those of `site` once they are ready,
    and reports its progress at /api/redraw.
    """
    drawing = _Drawings(artist, limits or Limits()) if artist else None

    def close() -> None:
        if redraw:
            redraw.stop()
        if drawing:
            drawing.close()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        close()
        if drawing:
            drawing.join(timeout=3)

    app = FastAPI(
        title="zaozi",
        version=__version__,
        description="Draws new Chinese characters from their meaning.",
        lifespan=life,
        redirect_slashes=False,
        docs_url=None,  # the default pages load external scripts
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(404, partial(_missing, site=site is not None))
    if drawing:
        _api(app, drawing)
    _progress(app, redraw)
    _docs(app)
    if site:
        _pages(app, site, api=drawing is not None, model=model, redraw=redraw)
    return Guard(app, access or Access(), close)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Describe a validation error in one line, without the content of the request."""
    assert isinstance(error, RequestValidationError)
    said = [f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(said)}, 422)


async def _missing(_: Request, error: Exception, *, site: bool) -> JSONResponse:
    where = "the guide is at /" if site else "the API is described at /docs"
    return JSONResponse({"detail": f"not found; {where}"}, 404)


class _Drawings:
    """Creates the desk once the model is loaded."""

    def __init__(self, artist: TextToImage | Later[TextToImage], limits: Limits) -> None:
        self.artist = artist if isinstance(artist, Later) else Later.of(artist)
        self.limits = limits
        self.made: Desk | None = None
        self._closed = False
        self._waiting: set[asyncio.Future[Any]] = set()

    async def desk(self) -> Desk:
        """Wait for the model and return the desk. Raises 503 if loading failed."""
        if self.made is None:
            waiting = asyncio.ensure_future(self.artist.wait())
            self._waiting.add(waiting)
            try:
                artist = await waiting
            except asyncio.CancelledError:
                if self._closed:
                    raise HTTPException(503, STOPPING) from None
                raise
            except Exception:
                raise HTTPException(503, "the model could not be loaded; see the server's output") from None
            finally:
                self._waiting.discard(waiting)
            if self.made is None:
                from zaozi.serve.desk import Desk

                self.made = Desk(artist, self.limits)
                if self._closed:
                    self.made.close()
        return self.made

    def close(self) -> None:
        """Stop all drawings, and accept no more."""
        self._closed = True
        for waiting in list(self._waiting):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                waiting.get_loop().call_soon_threadsafe(waiting.cancel)
        if self.made:
            self.made.close()

    def join(self, timeout: float) -> None:
        """Wait for the worker thread, at most `timeout` seconds."""
        if self.made:
            self.made.join(timeout)


class _Drawing(StreamingResponse):
    """Streaming response of a drawing that frees its place in the queue however it ends."""

    def __init__(self, desk: Desk, ask: Ask) -> None:
        self.desk, self.job = desk, desk.take(ask)
        super().__init__(desk.stream(self.job), media_type="application/x-ndjson")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.desk.release(self.job)


def _api(app: FastAPI, drawings: _Drawings) -> None:
    refusals: dict[int | str, dict[str, Any]] = {
        code: {"model": Refusal} for code in (400, 401, 403, 413, 421, 422, 429, 503)
    }

    @app.post("/api/generate", response_class=StreamingResponse, responses=refusals, summary="Draw one glyph")
    async def generate(ask: Ask) -> StreamingResponse:
        return _Drawing(await drawings.desk(), ask)

    @app.head("/api/health", include_in_schema=False)
    @app.get("/api/health", summary="State of the server")
    async def health() -> Health:
        desk = await drawings.desk()
        return Health(version=__version__, model=desk.artist.model.config.name, busy=desk.busy, room=desk.limits.room)

    @app.head("/api/metrics", response_class=PlainTextResponse, include_in_schema=False)
    @app.get("/api/metrics", response_class=PlainTextResponse, summary="Counters in the Prometheus text format")
    async def metrics() -> str:
        desk = await drawings.desk()
        lines = [f'zaozi_requests_total{{outcome="{k}"}} {v}' for k, v in desk.counts.items() if k != "steps"]
        lines += [f"zaozi_steps_total {desk.counts['steps']}", f"zaozi_busy {desk.busy}"]
        return "\n".join(lines) + "\n"


def _progress(app: FastAPI, redraw: Redraw | None) -> None:
    @app.head("/api/redraw", include_in_schema=False)
    @app.get("/api/redraw", summary="Progress of redrawing the figures")
    async def progress() -> Drawn:
        if redraw is None:
            return Drawn()
        return Drawn(done=redraw.done, total=redraw.total, seconds_left=redraw.seconds_left, error=redraw.error)


def _docs(app: FastAPI) -> None:
    async def docs(request: Request) -> Response:
        return answer(request.scope, described(app.openapi()).encode(), "text/html; charset=utf-8")

    app.router.routes.append(Route("/docs", docs))  # GET and HEAD


def _pages(app: FastAPI, site: Path, *, api: bool, model: Later[Path] | None, redraw: Redraw | None) -> None:
    async def page(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2] or "index.html"
        html = (site / name).read_text(encoding="utf-8")  # computed now: the script names change with each build
        if api:
            html = html.replace('data-api=""', 'data-api="api"', 1)
        if redraw is not None and not redraw.folder:
            html = html.replace("data-api=", 'data-redraw="api/redraw" data-api=', 1)
        return answer(request.scope, html.encode(), "text/html; charset=utf-8")

    paths = ["/", *(f"/{name}" for name in PAGES if (site / name).is_file())]
    app.router.routes += [Route(path, page) for path in paths]  # GET and HEAD
    app.mount("/", _Site(site, model, redraw))


class _Site:
    """The files of a site; redrawn figures/ and data/ and the page's model take precedence over its own."""

    def __init__(self, site: Path, model: Later[Path] | None, redraw: Redraw | None) -> None:
        self.site = Files(directory=site)
        self.model = None if (site / "model" / "model.json").is_file() else model
        self.redraw = redraw
        self._opened: dict[Path, Files] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        files, path = self.site, Path(self.site.get_path(scope))
        if path.parts[:1] == ("model",) and self.model:
            try:
                folder = await self.model.wait()
            except Exception:
                raise HTTPException(503, "the page's model could not be created; see the server's output") from None
            files, scope = self._files(folder), {**scope, "root_path": scope.get("root_path", "") + "/model"}
        elif path.parts[:1] in (("figures",), ("data",)) and self.redraw and self.redraw.folder:
            again = self._files(self.redraw.folder)
            files = again if again.lookup_path(str(path))[1] else files
        await files(scope, receive, send)

    def _files(self, folder: Path) -> Files:
        if folder not in self._opened:
            self._opened[folder] = Files(directory=folder)
        return self._opened[folder]
