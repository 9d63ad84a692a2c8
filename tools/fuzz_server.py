"""Start `zaozi guide serve` on this machine's loopback address, send it malformed and hostile requests, and count the answers.

python tools/fuzz_server.py --count 20000 --model base
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import contextlib
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from zaozi.core.progress import progress

HOST = "127.0.0.1"
METHODS = [
    "GET",
    "GET",
    "GET",
    "HEAD",
    "POST",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "get",
    "G@T",
]
METHODS += ["X" * 99, ""]
PATHS = [
    "/", "/index.html", "/a.js", "/api/health", "/api/metrics", "/api/generate", "/openapi.json", "/docs",
    "/api/redraw", "/model/", "/model/model.json",
    "/redoc", "*", "", "/missing", "//", "/.", "/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
    "/..%2f..%2fetc/passwd", "/a.js/", "/a.js%00", "/%00", "/a.js\x00", "/%ff%fe", "/\xff\xfe", "/%ed%a0%80", "/%",
    "/%zz", "/.zaozi.json", "/%2ezaozi.json", "/a" * 5000, "/" + "a" * 300, "/" + "a" * 70000, "/..\\..\\x",
    "/C:/x", "http://evil.example/", "/?token=x", "/?" + "&" * 999, "/API/health", "/api", "/api/",
    "/api/generate/", "/api/../.zaozi.json", "/a b", "/\t", "/\u00e9",
]  # fmt: skip
VERSIONS = ["HTTP/1.1"] * 12 + ["HTTP/1.0", "HTTP/2.0", "HTTP/9", "http/1.1", ""]
HEADERS = [
    "Range: bytes=0-0", "Range: bytes=-1", "Range: bytes=9999-", "Range: bytes=5-1",
    "Range: bytes=" + "0-1," * 2000, "Range: lines=1-2", "Range: bytes=99999999999999999999999-", "If-Range: x",
    "If-None-Match: *", 'If-None-Match: "x", W/"y', "If-Modified-Since: yesterday",
    "If-Modified-Since: Thu, 01 Jan 99999 00:00:00 GMT", "Accept-Encoding: \xff",
    "Accept-Encoding: gzip", "Accept-Encoding: gzip;q=x, *;q=", "Cookie: =;;a",
    "Content-Length: -1", "Content-Length: x", "Content-Length: 99999999999999999999", "Content-Length: 5",
    "Content-Length: 0", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Expect: 100-continue",
    "Expect: x", "Upgrade: websocket", "Connection: Upgrade", "Connection: close", "Connection: \xff",
    "Host: evil.example", "Host: ", "Host: [", "Host: a:b:c", "Origin: null", "Origin: http://[",
    "Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: \xff", "Authorization: Bearer",
    "Authorization: \xff", "X: " + "y" * 70000, "X" * 300 + ": y", ": y", "X", "X : y", " folded: y",
    "Content-Type: application/json", "Content-Type: text/plain", "Content-Type: multipart/form-data",
    "Content-Type: \xff/;;=", "Content-Encoding: gzip", "Content-Type: application/json; charset=utf-7",
    "X-Forwarded-For: \xff", "X: a\x00b", "X: a\rb",
]  # fmt: skip
VALUES = [
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "9" * 400, "9" * 5000, "-1", "0", "1", "2", "1.5",
    "1.0", "30", "4294967295", "4294967296", "null", "true", "[]", "{}", "[" * 2000, '{"a":' * 2000, '"ddim"',
    '"../x"', '"2"', '""', '" "', '"gold"', r'"\ud800"', r'"\udfff\ud800"', r'"\u0000"', r'"\u200b"',
    r'"\ud83d\ude00"', f'"{"x" * 301}"', '"' + r"\u4e00" * 300 + '"',
]  # fmt: skip
FIELDS = [
    "prompt", "sampling", "picture", "properties", "to", "share", "edit", "quiet", "extra", "\\ud800", "",
]  # fmt: skip
ONES = {side: base64.b64encode(b"\0\0\x80?" * side**2).decode() for side in (1, 32, 128)}
OBJECTS = [
    '{"structure": %s}', '{"strokes": %s}', '{"radical": %s}', '{"radical": "\\u91d2"}', '{%s: 1}', '{"a": {"a": %s}}',
    '{"init": %s}', '{"init": "AACAPw==", "strength": %s}', '{"init": "AACAPw==", "keep": %s}',
    *(f'{{"init": "{ones}", "strength": 0.5{more}}}' for ones in ONES.values() for more in ("", ', "keep": "left"')),
    *(f'{{"steps": 2, "{name}": %s}}' for name in ("sampler", "guidance", "seed", "grid", "eta", "batch_size", "precision")),
    *(f'{{"steps": 2, "guidance": {{"{name}": %s}}}}' for name in ("scale", "low", "high", "curve", "rescale", "plus")),
    f'{{"init": "{base64.b64encode(bytes.fromhex("0000c07f") * 128**2).decode()}"}}',
]  # fmt: skip
"""Examples of properties, of a picture to start from, and of sampling settings."""


def body(chance: random.Random) -> bytes:
    """Return a request; most have an error, and those that have none request two steps."""
    fields = {"prompt": '"gold"', "sampling": '{"steps": 2}'}
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        value = chance.choice(VALUES)
        if chance.random() < 0.3:
            value = chance.choice(OBJECTS).replace("%s", value)
        fields[chance.choice(FIELDS)] = value
    text = "{" + ", ".join(f'"{k}": {v}' for k, v in fields.items()) + "}"
    data = text.encode()
    kind = chance.random()
    if kind < 0.1:
        data = data[: chance.randrange(len(data))]
    elif kind < 0.2:
        data = bytes(chance.randrange(256) for _ in range(chance.randrange(200)))
    elif kind < 0.25:
        data = data * max(1, 100_000 // len(data))
    elif kind < 0.3:
        data = text.encode(chance.choice(["utf-16", "utf-32", "utf-8-sig"]), "replace")
    return data


def request(chance: random.Random, host: str) -> bytes:
    """One request, from well-formed with an odd value to bytes that are none."""
    kind = chance.random()
    if kind < 0.03:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(1, 400)))
    drawing = kind < 0.45
    method, path = ("POST", "/api/generate") if drawing else (chance.choice(METHODS), chance.choice(PATHS))
    lines = [f"{method} {path} {'HTTP/1.1' if drawing else chance.choice(VERSIONS)}"]
    if chance.random() < 0.95:
        lines.append(f"Host: {host}")
    payload = body(chance) if drawing or chance.random() < 0.2 else b""
    if drawing and chance.random() < 0.9:
        lines.append("Content-Type: application/json")
    odd = [chance.choice(HEADERS) for _ in range(chance.choice([0, 0, 0, 0, 1, 1, 2, 4]))]
    if chance.random() < 0.03:
        odd *= chance.choice([2, 50, 300])
    lines += odd
    if payload:
        if chance.random() < 0.3:
            lines.append("Transfer-Encoding: chunked")
            size = chance.choice([b"%x" % len(payload)] * 16 + [b"-1", b"zz", b"fffffffffffffffff", b""])
            payload = (
                size
                + b"\r\n"
                + payload
                + b"\r\n"
                + chance.choice([b"0\r\n\r\n"] * 16 + [b"0\r\nX: y\r\n\r\n", b"x", b""])
            )
        elif chance.random() < 0.95:
            lines.append(f"Content-Length: {len(payload)}")
    whole = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + payload
    if chance.random() < 0.03:
        whole = whole[: chance.randrange(1, len(whole))]
    if chance.random() < 0.03:
        whole *= 2  # pipelined
    return whole


async def ask(port: int, sent: bytes, patience: float) -> tuple[str, bytes]:
    """The status of the answer to what is sent, and its head; or how the connection ended without one."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port, limit=2**23)
    except OSError:
        return "not connected", b""
    try:
        async with asyncio.timeout(patience):
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"HTTP/1.1 100 "):
                head = await reader.readuntil(b"\r\n\r\n")
        if b"x-ndjson" in head:  # to the end, so that it is drawn
            async with asyncio.timeout(60):
                await reader.readuntil(b"\r\n0\r\n\r\n")
        return head[9:12].decode("latin-1"), head
    except TimeoutError:
        return "no answer yet", b""
    except (OSError, asyncio.IncompleteReadError):
        return "closed", b""
    finally:
        writer.transport.abort()


async def fuzz(
    port: int,
    count: int,
    *,
    seed: int = 0,
    seconds: float = 600.0,
    clients: int = 8,
    patience: float = 0.5,
    watch: Callable[[bytes, str, bytes], None] = lambda sent, status, head: None,
) -> collections.Counter[str]:
    """Send `count` requests, or as many as `seconds` allow, and count the statuses; `watch` is called with each."""
    found: collections.Counter[str] = collections.Counter()
    numbers, until = iter(range(count)), time.monotonic() + seconds

    async def client() -> None:
        for number in numbers:
            if time.monotonic() > until:
                return
            sent = request(random.Random(f"{seed} {number}"), f"{HOST}:{port}")
            status, head = await ask(port, sent, patience)
            found[status] += 1
            watch(sent, status, head)

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


async def until_ready(port: int) -> None:
    """Wait for the server, at most two minutes."""
    health = f"GET /api/health HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()
    async with asyncio.timeout(120):
        while (await ask(port, health, 5))[0] != "200":
            await asyncio.sleep(0.2)


async def metrics(port: int) -> str:
    """The server's counters."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(f"GET /api/metrics HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer.partition("\r\n\r\n")[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="base")
    given = parser.parse_args()
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        (Path(folder) / "index.html").write_text('<html data-api=""></html>')
        (Path(folder) / "a.js").write_text("1")
        (Path(folder) / ".zaozi.json").write_text("{}")
        command = [sys.executable, "-m", "zaozi", "guide", "serve", folder, "--model", given.model, "--port", str(port)]
        server = subprocess.Popen(command, stderr=errors)
        try:
            asyncio.run(until_ready(port))
            failures: list[bytes] = []
            with progress(total=given.count, desc="requests") as bar:

                def watch(sent: bytes, status: str, _: bytes) -> None:
                    bar.update()
                    if status.startswith("5"):
                        failures.append(sent)

                found = asyncio.run(fuzz(port, given.count, seed=given.seed, seconds=given.seconds, watch=watch))
            asyncio.run(until_ready(port))
            counters = asyncio.run(metrics(port))
        finally:
            start = time.monotonic()
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(15)
            server.kill()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip()
    print(json.dumps(dict(sorted(found.items()))))
    print(counters, end="")
    print(f"stopped in {time.monotonic() - start:.1f} s")
    for sent in failures[:5]:
        print("failed:", sent[:300])
    if said:
        print(f"the server's last errors:\n{said[-2000:]}")
    return 1 if failures or said or 'outcome="failed"} 0\n' not in counters else 0


if __name__ == "__main__":
    sys.exit(main())
