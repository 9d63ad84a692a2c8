"""The server: what it draws, what it refuses, that it stops, and that nothing a client sends breaks it."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import schemathesis
import uvicorn
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings

from zaozi.cli.main import main
from zaozi.core.config import Guidance
from zaozi.guide.serve import MAX_BODY, MAX_STEPS, Limits, make_app
from zaozi.pipeline import TextToImage, draw

PAGE = '<html data-api=""></html>'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(PAGE)
    (folder / "a.js").write_text("1")
    return folder


@pytest.fixture
def client(glyph_artist: TextToImage, site: Path) -> Iterator[TestClient]:
    with TestClient(make_app(glyph_artist, site), "http://localhost") as client:
        yield client


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_it_draws_what_the_pipeline_draws(client: TestClient, glyph_artist: TextToImage) -> None:
    answer = client.post("/api/generate", json={"prompt": "gold", "steps": 4, "seed": 3, "guidance": 2, "picture": 1})
    *steps, last = [json.loads(line) for line in answer.text.splitlines()]
    wanted = draw(
        glyph_artist.model, glyph_artist.encode(["gold"]), pictures=[1], num_steps=4, seed=3, guidance=Guidance(2.0)
    )
    assert floats(last["picture"]) == pytest.approx(wanted.numpy().ravel(), abs=1e-6)
    assert [s["t"] for s in steps] == [1000, 750, 500, 250]
    assert all(len(floats(s[view])) == np.prod(glyph_artist.model.shape) for s in steps for view in ("x", "x0", "eps"))


def test_pages_come_with_the_headers_that_threads_need(client: TestClient) -> None:
    page = client.get("/")
    assert 'data-api="api"' in page.text
    for answer in (page, client.get("/a.js"), client.get("/api/health"), client.get("/missing")):
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert client.get("/%2e%2e/%2e%2e/etc/passwd").status_code == 404
    assert client.get("/api/health").json()["status"] == "ok"
    assert "zaozi_busy 0" in client.get("/api/metrics").text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": ""},
        {"prompt": "   "},
        {"prompt": "x" * 301},
        {"prompt": "gold", "steps": 0},
        {"prompt": "gold", "steps": 121},
        {"prompt": "gold", "sampler": "../../x"},
        {"prompt": "gold", "guidance": -1},
        {"prompt": "gold", "seed": 2**32},
        {"prompt": "gold", "init": "/etc/passwd"},
        {"prompt": ["gold"]},
    ],
)
def test_what_is_out_of_range_is_refused(client: TestClient, body: object) -> None:
    assert client.post("/api/generate", json=body).status_code == 422


def test_hostile_bodies_are_refused(client: TestClient) -> None:
    assert client.post("/api/generate", content=b"{" * (MAX_BODY + 1)).status_code == 413
    for content in (b"", b"{", b"\xff\xfe", b'{"prompt": "gold", "guidance": NaN}', b"[" * 5000):
        assert client.post("/api/generate", content=content).status_code == 422
    assert client.get("/api/generate").status_code in (404, 405)


@pytest.fixture
def address(glyph_artist: TextToImage) -> Iterator[str]:
    """A real server with room for two requests."""
    config = uvicorn.Config(make_app(glyph_artist, None, Limits(room=2, seconds=20)), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


async def busy(client: httpx.AsyncClient) -> int:
    return int((await client.get("/api/health")).json()["busy"])


def test_a_full_queue_says_when_to_come_back_and_a_left_one_is_not_drawn(address: str) -> None:
    long = {"prompt": "gold", "steps": 120}

    async def crowd() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=20) as client:
            leaving = [client.stream("POST", "/api/generate", json=long) for _ in range(2)]
            for request in leaving:
                assert (await request.__aenter__()).status_code == 200
            refused = await client.post("/api/generate", json=long)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            for request in leaving:
                await request.__aexit__(None, None, None)
            for _ in range(500):
                if await busy(client) == 0:
                    break
                await asyncio.sleep(0.01)
            answer = await client.post("/api/generate", json=long | {"steps": 2})
            assert "picture" in answer.text.splitlines()[-1]
            counts = (await client.get("/api/metrics")).text
            assert 'outcome="stopped"} 2' in counts
            assert 'outcome="finished"} 1' in counts

    asyncio.run(crowd())


def test_a_drawing_that_takes_too_long_ends_with_a_word(glyph_artist: TextToImage) -> None:
    with TestClient(make_app(glyph_artist, None, Limits(seconds=0.0001)), "http://localhost") as client:
        answer = client.post("/api/generate", json={"prompt": "gold", "steps": 120})
        assert "longer than" in json.loads(answer.text.splitlines()[-1])["error"]
        for _ in range(500):
            counts = client.get("/api/metrics").text
            if 'outcome="timed_out"} 1' in counts:
                break
            time.sleep(0.01)
        assert 'outcome="timed_out"} 1' in counts
        assert 'outcome="stopped"} 0' in counts


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_no_request_that_the_schema_allows_or_forbids_breaks_it(
    glyph_artist: TextToImage, mode: schemathesis.GenerationMode
) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(glyph_artist, None))
    for found in schema.get_all_operations():
        if mode is schemathesis.GenerationMode.NEGATIVE and not found.ok().body:
            continue  # what takes nothing cannot be given anything wrong

        @given(case=found.ok().as_strategy(generation_mode=mode))
        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        def try_it(case: schemathesis.Case) -> None:
            steps = case.body.get("steps", 20) if isinstance(case.body, dict) else None
            if isinstance(steps, int) and 2 < steps <= MAX_STEPS:
                case.body["steps"] = 2  # as hostile, and sooner done
            assert case.call().status_code < 500

        try_it()


def test_serving_where_it_cannot_be_served(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["guide", "serve", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 2
    assert "choose another --port" in capsys.readouterr().err
    assert main(["guide", "serve", str(tmp_path), "--room", "0"]) == 2
    assert "room 0" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["guide", "build", str(tmp_path), "--no-figures"]) == 2
    assert "mine.txt" in capsys.readouterr().err
