"""Connection deadlines and limits, which uvicorn lacks, and a shutdown that no client can delay."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import math
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from zaozi.core.errors import ZaoziError
from zaozi.serve.guard import HEADERS, LOOPBACK_NAMES, Access, Guard, host_name

Owed = Literal["headers", "body", "reading"]


def _plain(status: str, text: bytes) -> bytes:
    """Return a complete HTTP response, without the application."""
    head = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text)), *HEADERS]
    lines = [b"HTTP/1.1 " + status.encode(), *(b": ".join(pair) for pair in head), b"connection: close"]
    return b"\r\n".join([*lines, b"", text])


BUSY = _plain("503 Service Unavailable", b"too many connections; try again later\n")
INVALID = _plain("400 Bad Request", b"invalid HTTP request\n")


@dataclass(frozen=True)
class Deadlines:
    """Time limits for clients, in seconds, and the maximum number of connections."""

    headers: float = 10.0
    """From the connection, or the previous response, to the end of the request headers; includes idle time."""
    body: float = 10.0
    """From the headers to the end of the body."""
    reading: float = 20.0
    """For receiving data that the server is ready to send, about 64 KiB at a time."""
    stopping: float = 3.0
    """For responses in progress on shutdown. Drawings stop immediately, with an error line."""
    connections: int = 512
    """Maximum concurrent connections; fewer if the process cannot open that many files. One address may use half."""


class Protocol(H11Protocol):
    """A connection that tracks what it is waiting for from the client, and since when."""

    pauses = 0
    since = 0.0
    """When the current wait was first observed."""
    _key: tuple[object, ...] = ("headers", None, 0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = self.loop.time()

    @property
    def owed(self) -> Owed | None:
        """What the server is waiting for; None while the application is working."""
        if self.transport.is_closing():
            return "reading"  # unsent data
        if self.cycle is None:
            return "headers"
        if not self.cycle.response_complete:
            if self.cycle.more_body:
                return "body"
            return "reading" if self.flow.write_paused else None
        return "headers" if self.conn.their_state is h11.IDLE else "body"

    def is_overdue(self, now: float, deadlines: Deadlines) -> bool:
        """Whether the same wait has exceeded its deadline. Must be called regularly."""
        owed = self.owed
        key = (owed, self.cycle, self.pauses)  # occasional single bytes do not count as progress
        if key != self._key:
            self._key, self.since = key, now
        return owed is not None and now - self.since > getattr(deadlines, owed)

    def pause_writing(self) -> None:
        self.pauses += 1
        super().pause_writing()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:  # the application's response cannot be sent
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # no response in progress
            self.transport.write(INVALID)
            self.conn.send_failed()
            self.transport.close()
        else:
            self.transport.abort()

    def shutdown(self) -> None:
        if self.owed in ("headers", "body"):
            self.transport.abort()
        elif self.cycle is not None:
            self.cycle.keep_alive = False


class Server(uvicorn.Server):
    """uvicorn server with connection deadlines and limits, which stops within seconds whatever its clients do."""

    def __init__(self, app: Guard, listeners: Sequence[socket.socket], deadlines: Deadlines | None = None) -> None:
        deadlines = deadlines or Deadlines()
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="on",
            log_level="error",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=math.ceil(deadlines.headers),
            timeout_graceful_shutdown=math.ceil(deadlines.stopping) + 2,
            h11_max_incomplete_event_size=65536,
        )
        super().__init__(config)
        self.guard, self.listeners, self.deadlines = app, listeners, deadlines
        self.most = min(deadlines.connections, _descriptors() // 2)  # each may have a file open too
        self._accepting: list[asyncio.Task[None]] = []
        self._refused: set[socket.socket] = set()

    @property
    def protocols(self) -> list[Protocol]:
        """Return all connections."""
        return [c for c in self.server_state.connections if isinstance(c, Protocol)]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])  # the connections are accepted below
        self._accepting = [asyncio.create_task(self._accept(listener)) for listener in self.listeners]

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        for connection in self.protocols:
            if connection.is_overdue(now, self.deadlines):
                connection.transport.abort()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listener in self.listeners:
            listener.close()
        self.guard.close()
        asyncio.get_running_loop().call_later(self.deadlines.stopping, self._abort)
        await super().shutdown(sockets=[])

    def _abort(self) -> None:
        for connection in self.protocols:
            connection.transport.abort()

    async def _accept(self, listener: socket.socket) -> None:
        """Accept one connection at a time, so that the limit is never exceeded."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError:  # the client disconnected, or no file descriptor is left
                self._evict(self.protocols)
                await asyncio.sleep(0.1)
                continue
            if not self._make_room(address[0]):
                self._refuse(connection)
                await asyncio.sleep(0)
                continue
            try:
                await loop.connect_accepted_socket(self._protocol, connection)
            except OSError:
                connection.close()

    def _protocol(self) -> Protocol:
        return Protocol(self.config, self.server_state, self.lifespan.state)

    def _make_room(self, address: str) -> bool:
        """Return whether one more connection fits, evicting one that waits for its client if necessary."""
        connections = self.protocols
        own = [c for c in connections if c.client and c.client[0] == address]
        if len(own) >= max(1, self.most // 2):
            return self._evict(own)
        return len(connections) < self.most or self._evict(connections)

    def _evict(self, connections: Iterable[Protocol]) -> bool:
        """Close the oldest connection without a complete request."""
        waiting = [c for c in connections if c.owed in ("headers", "body")]
        if waiting:
            min(waiting, key=lambda c: c.since).transport.abort()
        return bool(waiting)

    def _refuse(self, connection: socket.socket) -> None:
        """Respond with 503 and close after a short delay, so that the client receives the response first."""
        with suppress(OSError):
            connection.send(BUSY)
            connection.shutdown(socket.SHUT_WR)
        if len(self._refused) >= 16:
            connection.close()
            return
        self._refused.add(connection)

        def close() -> None:
            self._refused.discard(connection)
            connection.close()

        asyncio.get_running_loop().call_later(1.0, close)


def _descriptors() -> int:
    """Return the number of file descriptors for connections: the soft limit of the process minus a reserve."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 2**16
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**16 if soft == resource.RLIM_INFINITY else max(8, soft - 64)


def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to every address of a host, not yet listening. Raises `ZaoziError` if binding fails."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ZaoziError(f"'{host}' is not an address of this machine ({why}); choose another --host") from None
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bound(family, kind, protocol, address))
        except OSError as error:
            failed = error
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break
    else:
        if sockets:
            return sockets
    for made in sockets:
        made.close()
    why = failed.strerror if failed else "it has no address"
    raise ZaoziError(f"cannot listen on {host}:{port} ({why}); choose another --port or --host")


def _bound(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it lets two processes share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def access(
    host: str,
    listeners: Iterable[socket.socket],
    *,
    api: bool = True,
    names: Iterable[str] = (),
    token: str | None = None,
) -> Access:
    """Return the access rules for sockets created by `bind` for `host`.

    On the loopback address, allow its own names and `names`, without a token unless one is given. On other addresses, the API
    requires a token (random by default), and any name is allowed unless `names` is given. Raises `ZaoziError` if a name is
    invalid, or if the token is empty, short, or needs quoting in a URL.
    """
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,256}", token):
        raise ZaoziError(
            "the token must consist of 16 to 256 letters, digits, - and _; omit --token for a random one (none on 127.0.0.1)"
        )
    wanted = {name.lower() for name in names}
    for name in wanted:
        if not name or host_name(name) != name:
            raise ZaoziError(
                f"'{name}' is not a host name; pass a name such as guide.example to --allowed-host, without a port"
            )
    addresses = [ipaddress.ip_address(s.getsockname()[0].partition("%")[0]) for s in listeners]
    loopback = all(address.is_loopback for address in addresses)
    if wanted or loopback:
        wanted.add(f"[{host.lower()}]" if ":" in host else host.lower())
    if api and token is None and not loopback:
        token = secrets.token_urlsafe(32)
    return Access(LOOPBACK_NAMES | wanted if wanted else None, token if api else None)


def serve(
    app: Guard,
    listeners: Sequence[socket.socket],
    url: str,
    deadlines: Deadlines | None = None,
    *,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Print `url`, call `then`, and serve on sockets from `bind` until Ctrl-C or SIGTERM; clients cannot delay the shutdown."""
    for listener in listeners:
        listener.listen(1024)
    print(f"{url}  (press Ctrl-C to stop)", flush=True)
    then()
    with suppress(KeyboardInterrupt):
        Server(app, listeners, deadlines).run()
