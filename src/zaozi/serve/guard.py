"""Checks of every request before it reaches the application: host, origin, token and size; and security headers."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 2**19
"""Maximum body size in bytes; an initial picture is the largest part of a request."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

POLICY = "; ".join(
    (
        "default-src 'none'",
        # WebAssembly; the map's WebGL library and the runtime's WebGPU glue compile functions from strings of their own
        "script-src 'self' 'wasm-unsafe-eval' 'unsafe-eval'",
        "worker-src 'self' blob:",  # the worker that generates, and the map's index, which is built in a blob
        "style-src 'self' 'unsafe-inline'",  # formulas use style attributes
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),  # this and the next enable threads in browsers
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Headers of every response, including errors."""


@dataclass(frozen=True)
class Access:
    """Access rules."""

    hosts: frozenset[str] | None = LOOPBACK_NAMES
    """Allowed names in the Host header (without port, lower case), or None for any. A list prevents DNS rebinding, where
    another site points its own name at this machine."""
    token: str | None = None
    """Token required under /api, as `Authorization: Bearer TOKEN` or in the cookie set by /?token=TOKEN."""


class Guard:
    """ASGI middleware that checks requests before the application.

    Responds with 400 if the Host header is missing, 421 if it is not allowed, 403 for a cross-origin POST, 401 if a required
    token is missing, 413 for a body over `MAX_BODY` bytes; each with JSON {"detail"}. `close` ends the application's
    long-running responses; the server calls it first on shutdown.
    """

    def __init__(self, app: ASGIApp, access: Access, close: Callable[[], None]) -> None:
        self.app, self.access, self.close = app, access, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        headers = Headers(scope=scope)
        if answer := self._refusal(scope, headers) or self._token_to_cookie(scope):
            await answer(scope, receive, send_with_headers)
        elif scope["method"] in ("GET", "HEAD"):  # their bodies are ignored
            await self.app(scope, receive, send_with_headers)
        else:
            body = await _read(headers, receive)
            if body is None:
                return
            if len(body) > MAX_BODY:
                await _refuse(413, f"the request body is over {MAX_BODY} bytes")(scope, receive, send_with_headers)
                return
            await self.app(scope, _replay(body, receive), send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if self.access.hosts is not None:
            if not host:
                return _refuse(400, "the request has no Host header")
            if host_name(host) not in self.access.hosts:
                return _refuse(421, "this host name is not allowed; see --allowed-host")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _is_cross_origin(headers, host):
            return _refuse(403, "cross-origin requests are not allowed")
        if self.access.token and _is_api(scope["path"]) and not self._has_token(scope, headers):
            return _refuse(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        return None

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = cookie_parser(headers.get("cookie", "")).get(_cookie(scope), "")
        return self._is_token(given.strip())

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self.access.token or "").encode())

    def _token_to_cookie(self, scope: Scope) -> Response | None:
        """Redirect a page URL with a token to the URL without it, so that it does not stay in the browser history."""
        if not self.access.token or scope["path"] != "/" or b"token=" not in scope["query_string"]:
            return None
        if not self._is_token(QueryParams(scope["query_string"]).get("token", "")):
            return _refuse(401, "the token is wrong; use the address printed by zaozi guide serve")
        answer = RedirectResponse("./", 303, {"Cache-Control": "no-store"})
        answer.set_cookie(_cookie(scope), self.access.token, httponly=True, samesite="strict")
        return answer


def _refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def host_name(host: str) -> str:
    """Return the name in a Host header, without port, lower case; empty if it is invalid.

    >>> host_name("LocalHost:8000"), host_name("[::1]:8000"), host_name("a:b:c")
    ('localhost', '[::1]', '')
    """
    match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\[\]:@/?#\s]+)(:\d*)?", host.lower())
    return match[1] if match else ""


def _is_cross_origin(headers: Headers, host: str) -> bool:
    """Whether browser headers say that a page of another origin sent the request. Other clients send neither header."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:
        return True


def _is_api(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


def _cookie(scope: Scope) -> str:
    """Return the cookie name, which includes the port because all ports of a host share cookies."""
    server = scope.get("server")
    return f"zaozi_token_{server[1] if server else 0}"


async def _read(headers: Headers, receive: Receive) -> bytes | None:
    """Read the request body; None if the client disconnected. Stops once it is over `MAX_BODY` bytes."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > MAX_BODY:
        return bytes(MAX_BODY + 1)
    body, more = bytearray(), True
    while more and len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that replays the body already read, then passes on later messages."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
