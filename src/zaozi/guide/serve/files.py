"""Files of the page: their media types, compression and cache headers."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
from functools import lru_cache
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from zaozi.guide.shipped import COMPRESSED, LEAST, SMALL_ENOUGH

TYPES = {
    ".avif": "image/avif",
    ".css": "text/css; charset=utf-8",
    ".gz": "application/gzip",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp4": "video/mp4",
    ".onnx": "application/octet-stream",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
"""The machine's own table differs from one to the next, and may lack the newer ones."""
YEAR, DAY = 31_536_000, 86_400
OF_A_MODEL = ("model", "data", "figures")
"""Folders whose files are others under the same names when another model is served."""


def cache_control(path: str) -> str:
    """How long a browser may use a file without asking: for ever where its name holds a hash of its content.

    >>> cache_control("assets/index-BwXJ7joz.js"), cache_control("figures/01-gaussian.svg"), cache_control("ort/a.mjs")
    ('public, max-age=31536000, immutable', 'no-cache', 'public, max-age=86400')
    """
    first, _, name = path.lstrip("/").partition("/")
    if first == "assets" and "-" in name:
        return f"public, max-age={YEAR}, immutable"
    if first in OF_A_MODEL or not name:  # index.html, the service worker
        return "no-cache"
    return f"public, max-age={DAY}"


def accepts_gzip(headers: Headers) -> bool:
    """Whether a client takes answers compressed with gzip.

    >>> [accepts_gzip(Headers({"accept-encoding": v})) for v in ("br, gzip", "gzip;q=0", "*", "identity", "*;q=0, gzip;q=0.5")]
    [True, False, True, False, True]
    """
    found: dict[str, bool] = {}
    for part in headers.get("accept-encoding", "").lower().split(","):
        name, _, parameters = part.partition(";")
        weight = parameters.strip().removeprefix("q=")
        found[name.strip()] = not weight or weight.strip("0.") != ""
    return found.get("gzip", found.get("*", False))


def answer(scope: Scope, body: bytes, media_type: str) -> Response:
    """A page made on the spot, with an ETag, compressed where the client takes that."""
    headers = Headers(scope=scope)
    packed = accepts_gzip(headers) and len(body) >= LEAST
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}{"-gzip" if packed else ""}"'
    sent = {"cache-control": "no-cache", "etag": etag, "vary": "Accept-Encoding"}
    if packed:
        body, sent = gzip.compress(body, 6, mtime=0), {**sent, "content-encoding": "gzip"}
    response = Response(body, media_type=media_type, headers=sent)
    known = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
    return NotModifiedResponse(response.headers) if {"*", etag} & set(known) else response


class Files(StaticFiles):
    """Readable regular files inside the folder. What leads out of it, or is hidden (.NAME), is not there.

    NAME is sent from NAME.gz where that lies beside it or alone. Text without it is compressed here, once.
    """

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        found, status = self._inside(path)
        if status is None and Path(path).suffix in COMPRESSED:
            return self._inside(path + ".gz")
        return found, status

    def _inside(self, path: str) -> tuple[str, os.stat_result | None]:
        try:
            found, status = super().lookup_path(path)
        except (OSError, ValueError):  # names too long, loops of links, NUL
            return "", None
        if status is None or not stat.S_ISREG(status.st_mode) or not os.access(found, os.R_OK):
            return "", None
        inside = os.path.relpath(found, os.path.realpath(str(self.directory)))
        named = (*Path(path).parts, *Path(inside).parts)  # as asked for, and with all links followed
        return ("", None) if any(part.startswith(".") for part in named) else (found, status)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        path, headers = self.get_path(scope), Headers(scope=scope)
        file, suffix = os.fspath(full_path), Path(path).suffix
        media_type = TYPES.get(suffix, "application/octet-stream")
        sent = {"cache-control": cache_control(path)}
        if suffix in COMPRESSED:
            key = f"{stat_result.st_mtime_ns:x}-{stat_result.st_size:x}"
            packed = accepts_gzip(headers) and "range" not in headers
            sent |= {"vary": "Accept-Encoding", "etag": f'"{key}{"-gzip" if packed else ""}"'}
            alone = file.endswith(".gz")
            twin, status = (file, stat_result) if alone else self._inside(path + ".gz")
            is_fresh = status is not None and status.st_mtime_ns >= stat_result.st_mtime_ns
            body: bytes | None = None
            if packed and is_fresh:
                file, stat_result = twin, status or stat_result
                sent["content-encoding"] = "gzip"
            elif packed and LEAST <= stat_result.st_size <= SMALL_ENOUGH:
                body = _packed(file, key)
                sent["content-encoding"] = "gzip"
            elif alone:
                body = _unpacked(file, key)
        else:
            body = None
        response: Response = (
            FileResponse(file, status_code, sent, media_type, stat_result=stat_result)
            if body is None
            else Response(body, status_code, sent, media_type)
        )
        return NotModifiedResponse(response.headers) if self.is_not_modified(response.headers, headers) else response


@lru_cache(maxsize=64)
def _packed(path: str, key: str) -> bytes:
    """A text file, compressed; `key` changes with its content."""
    return gzip.compress(Path(path).read_bytes(), 6, mtime=0)


@lru_cache(maxsize=2)
def _unpacked(path: str, key: str) -> bytes:
    return gzip.decompress(Path(path).read_bytes())
