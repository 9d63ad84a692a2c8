"""Static files of the page: media types, compression and cache headers."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import stat
from functools import lru_cache
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
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
"""Media types by suffix. The system's table varies between machines and may lack newer types."""
YEAR, DAY = 31_536_000, 86_400
OF_A_MODEL = ("model", "data", "figures")
"""Folders whose files depend on the served model but keep their names."""


def cache_control(path: str) -> str:
    """Return the Cache-Control header of a file; files with a content hash in their name are immutable.

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
    """Whether a client accepts gzip responses.

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
    """Return a response for a generated page, with an ETag, compressed if the client accepts it."""
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
    """Serves readable regular files inside the folder. Paths that lead outside and hidden files (.NAME) are not found.

    NAME and NAME.gz can be stored only as NAME.gz or NAME.xz. Text without NAME.gz is compressed on first use.
    """

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405)
        return await run_in_threadpool(self._response, path, scope)

    def _response(self, path: str, scope: Scope) -> Response:
        file, status = self.lookup_path(path)
        if status is None:
            raise HTTPException(404)
        return self.file_response(file, status, scope)

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        suffixes = Path(path).suffixes
        names = [path]
        if suffixes[-1:] == [".gz"]:
            names.append(path.removesuffix(".gz") + ".xz")
        elif suffixes and suffixes[-1] in COMPRESSED:
            names += [path + ".gz", path + ".xz"]
        found: tuple[str, os.stat_result | None] = "", None
        for name in names:
            found = self._inside(name)
            if found[1]:
                break
        return found

    def _inside(self, path: str) -> tuple[str, os.stat_result | None]:
        try:
            found, status = super().lookup_path(path)
        except (OSError, ValueError):  # long names, symlink loops, NUL
            return "", None
        if status is None or not stat.S_ISREG(status.st_mode) or not os.access(found, os.R_OK):
            return "", None
        inside = os.path.relpath(found, os.path.realpath(str(self.directory)))
        named = (*Path(path).parts, *Path(inside).parts)  # as requested, and with all symlinks resolved
        return ("", None) if any(part.startswith(".") for part in named) else (found, status)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        path, headers = self.get_path(scope), Headers(scope=scope)
        file, suffix = os.fspath(full_path), Path(path).suffix
        kind = Path(file).suffix if Path(file).suffix in (".gz", ".xz") else ""
        key = f"{stat_result.st_mtime_ns:x}-{stat_result.st_size:x}"
        sent = {"cache-control": cache_control(path)}
        body: bytes | None = None
        if suffix in COMPRESSED:
            packed = accepts_gzip(headers) and "range" not in headers
            sent |= {"vary": "Accept-Encoding", "etag": f'"{key}{"-gzip" if packed else ""}"'}
            twin, status = (file, stat_result) if kind == ".gz" else self._inside(path + ".gz")
            if packed and status and (kind or status.st_mtime_ns >= stat_result.st_mtime_ns):
                file, stat_result = twin, status
                sent["content-encoding"] = "gzip"
            elif packed and (kind == ".xz" or LEAST <= stat_result.st_size <= SMALL_ENOUGH):
                body = _packed(file, kind, key)
                sent["content-encoding"] = "gzip"
            elif kind:
                body = _plain(file, kind, key)
        elif suffix == ".gz" and kind == ".xz":
            body = _packed(file, kind, key)
            sent["etag"] = f'"{key}"'
        media_type = TYPES.get(suffix, "application/octet-stream")
        response: Response = (
            FileResponse(file, status_code, sent, media_type, stat_result=stat_result)
            if body is None
            else Response(body, status_code, sent, media_type)
        )
        return NotModifiedResponse(response.headers) if self.is_not_modified(response.headers, headers) else response


@lru_cache(maxsize=64)
def _packed(path: str, kind: str, key: str) -> bytes:
    """Return a file's content as gzip; `key` changes with the content."""
    return gzip.compress(_plain(path, kind, key), 6, mtime=0)


@lru_cache(maxsize=2)
def _plain(path: str, kind: str, key: str) -> bytes:
    """Return a file's content, decompressed by its kind: .gz, .xz or neither."""
    content = Path(path).read_bytes()
    return {".gz": gzip.decompress, ".xz": lzma.decompress}[kind](content) if kind else content
