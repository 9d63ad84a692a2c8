"""The server: what it draws, what it refuses, that it stops, and that nothing a client sends breaks it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import schemathesis
import torch
import uvicorn
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings

from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import Recipe
from zaozi.core.sampling import Guidance, Sampling
from zaozi.model.spaces.autoencoder import AutoencoderConfig
from zaozi.pipeline import Edit, TextToImage, draw
from zaozi.serve import (
    MAX_BODY,
    MAX_STEPS,
    Access,
    Ask,
    Deadlines,
    Guard,
    Later,
    Limits,
    Server,
    access,
    bind,
    make_app,
    serve,
)
from zaozi.serve.desk import STOPPING, Desk
from zaozi.serve.guard import HEADERS
from zaozi.train.loop import train as train_run
from zaozi.train.prepare import prepare

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import fuzz_server

PAGE = '<html data-api=""></html>'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(PAGE)
    (folder / "a.js").write_text("1")
    (folder / "large.bin").write_bytes(bytes(2**25))  # more than the kernel holds for a reader that has stopped
    return folder


@pytest.fixture
def client(glyph_artist: TextToImage, site: Path) -> Iterator[TestClient]:
    with TestClient(make_app(glyph_artist, site), "http://localhost") as client:
        yield client


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def start(side: int = 32, value: float = 1.0, **more: object) -> dict[str, object]:
    """A picture to start from, as it is sent."""
    pixels = np.full((1, side, side), value, "<f4")
    return {"init": base64.b64encode(pixels.tobytes()).decode(), **more}


def test_it_draws_what_the_pipeline_draws(client: TestClient, glyph_artist: TextToImage) -> None:
    answer = client.post(
        "/api/generate",
        json={"prompt": "gold", "sampling": {"steps": 4, "seed": 3, "guidance": {"scale": 2}}, "picture": 1},
    )
    *steps, last = [json.loads(line) for line in answer.text.splitlines()]
    wanted = draw(
        glyph_artist.model,
        glyph_artist.encode(["gold"]),
        Sampling(4, seed=3, guidance=Guidance(2.0)),
        pictures=[1],
    )
    assert floats(last["picture"]) == pytest.approx(wanted.numpy().ravel(), abs=1e-6)
    assert [s["t"] for s in steps] == [1000, 750, 500, 250]
    assert all(len(floats(s[view])) == np.prod(glyph_artist.model.shape) for s in steps for view in ("x", "x0", "eps"))


def test_steps_in_latents_are_sent_as_pictures(tiny_recipe: Recipe, site: Path) -> None:
    recipe = replace(tiny_recipe, space=AutoencoderConfig(factor=4, latent_channels=3, width=8, blocks=1, steps=2))
    artist = TextToImage.from_pretrained(train_run(prepare(recipe, say=lambda _: None)))
    with TestClient(make_app(artist, site), "http://localhost") as client:
        answer = client.post("/api/generate", json={"prompt": "a disc", "sampling": {"steps": 2}})
    *steps, last = [json.loads(line) for line in answer.text.splitlines()]
    assert len(floats(last["picture"])) == 32 * 32
    assert [[len(floats(step[view])) for view in ("x", "x0", "eps")] for step in steps] == [
        [32 * 32, 32 * 32, 8 * 8]
    ] * 2


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_draws_without_text(client: TestClient, glyph_artist: TextToImage, prompt: str) -> None:
    answer = client.post("/api/generate", json={"prompt": prompt, "sampling": {"steps": 2}})
    wanted = draw(glyph_artist.model, glyph_artist.encode([""]), Sampling(2), pictures=[0])
    assert floats(json.loads(answer.text.splitlines()[-1])["picture"]) == pytest.approx(
        wanted.numpy().ravel(), abs=1e-6
    )


def asked(client: TestClient, **body: object) -> np.ndarray:
    """The picture that comes for a request, which is all that comes."""
    (line,) = client.post(
        "/api/generate", json={"prompt": "gold", "sampling": {"steps": 3}, "quiet": True, **body}
    ).text.splitlines()
    return floats(json.loads(line)["picture"])


def test_properties_a_way_and_a_start_draw_what_the_pipeline_draws(
    client: TestClient, glyph_artist: TextToImage
) -> None:
    def wanted(cond: object, edit: Edit = Edit()) -> object:
        made = draw(glyph_artist.model, cond, Sampling(3), pictures=[0], edit=edit)  # type: ignore[arg-type]
        return pytest.approx(made.numpy().ravel(), abs=1e-6)

    properties: dict[str, str | float] = {"structure": "left-right", "strokes": 9, "radical": "167"}
    cond = glyph_artist.encode(["gold"], properties)
    assert asked(client, properties=properties) == wanted(cond)
    assert asked(client, properties={**properties, "radical": "\u91d2"}) == wanted(cond), "a form of the radical"
    assert asked(client, properties={**properties, "radical": 167}) == wanted(cond)

    assert asked(client, to="fire", share=0.25) == wanted(glyph_artist.conditions([{"gold": 0.75, "fire": 0.25}]))
    assert asked(client, to="fire", share=0.0) == wanted(glyph_artist.encode(["gold"]))

    picture, cond = torch.linspace(-1, 1, 32 * 32).reshape(1, 1, 32, 32), glyph_artist.encode(["gold"])
    sent = {"init": base64.b64encode(picture.numpy().astype("<f4").tobytes()).decode()}
    assert asked(client, edit={**sent, "strength": 0.5}) == wanted(cond, Edit(picture, 0.5))
    for side, rows, columns in (("top", slice(0, 16), slice(None)), ("right", slice(None), slice(16, 32))):
        mask = torch.zeros(1, 1, 32, 32)
        mask[..., rows, columns] = 1
        found = asked(client, edit={**sent, "keep": side})
        assert found == wanted(cond, Edit(picture, mask=mask))
        assert np.array_equal(found.reshape(32, 32)[rows, columns], picture[0, 0, rows, columns].numpy())


def test_what_needs_the_model_waits_until_it_is_loaded(glyph_artist: TextToImage, site: Path) -> None:
    loading = threading.Event()

    def load() -> TextToImage:
        assert loading.wait(20)
        return glyph_artist

    with running(make_app(Later(load, "loading"), site)) as (_, port), httpx.Client() as http:
        address = f"http://127.0.0.1:{port}"
        assert http.get(f"{address}/").status_code == http.get(f"{address}/openapi.json").status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            http.get(f"{address}/api/health", timeout=0.3)
        loading.set()
        assert http.get(f"{address}/api/health").json()["model"] == "tiny"
        assert "picture" in http.post(f"{address}/api/generate", json={"prompt": "gold", "sampling": {"steps": 1}}).text


def test_a_model_that_cannot_be_loaded_is_a_503_that_says_where_to_look(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> TextToImage:
        raise ZaoziError("the weights are damaged; copy them again")

    with running(make_app(Later(load, "loading the model"), site)) as (_, port):
        answer = httpx.get(f"http://127.0.0.1:{port}/api/health")
        assert answer.status_code == 503
        assert "see the server's output" in answer.json()["detail"]
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    assert capsys.readouterr().err == "zaozi: loading the model: the weights are damaged; copy them again\n"


def test_the_end_does_not_wait_for_a_model_that_is_loading(site: Path) -> None:
    never = threading.Event()
    app = make_app(Later(lambda: never.wait(60), "loading"), site)  # type: ignore[arg-type]
    with running(app, Deadlines(stopping=0.5), grace=5) as (server, port), connect(port, GET.format("/api/health")):
        until(lambda: server.protocols)
    never.set()


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
        {"prompt": "x" * 301},
        {"prompt": "gold", "sampling": {"steps": 0}},
        {"prompt": "gold", "sampling": {"steps": 121}},
        {"prompt": "gold", "sampling": {"sampler": "../../x"}},
        {"prompt": "gold", "sampling": {"guidance": {"scale": -1}}},
        {"prompt": "gold", "sampling": {"guidance": {"low": 0.9, "high": 0.1}}},
        {"prompt": "gold", "sampling": {"guidance": {"rescale": 3}}},
        {"prompt": "gold", "sampling": {"grid": "no grid"}},
        {"prompt": "gold", "sampling": {"size": 64}},
        {"prompt": "gold", "sampling": {"eta": 0.5}},
        {"prompt": "gold", "sampling": {"stepz": 5}},
        {"prompt": "gold", "sampling": {"steps": "5"}},
        {"prompt": "gold", "sampling": None},
        {"prompt": "gold", "steps": 5},
        {"prompt": "gold", "sampling": {"seed": 2**32}},
        {"prompt": "gold", "edit": "/etc/passwd"},
        {"prompt": "gold", "to": "x" * 301},
        {"prompt": "gold", "to": "fire", "share": 1.1},
        {"prompt": "gold", "properties": {"colour": "red"}},
        {"prompt": "gold", "properties": {"structure": "upside-down"}},
        {"prompt": "gold", "properties": {"radical": "no radical"}},
        {"prompt": "gold", "properties": {"strokes": 1e9}},
        {"prompt": "gold", "properties": {"strokes": "many"}},
        {"prompt": "gold", "properties": {"strokes": None}},
        {"prompt": "gold", "properties": {f"{i}": 1 for i in range(17)}},
        {"prompt": "gold", "edit": {"init": "AAAA"}},
        {"prompt": "gold", "edit": {"strength": 0.5}},
        {"prompt": "gold", "edit": {"keep": "left"}},
        {"prompt": "gold", "edit": {"init": "/etc/passwd"}},
        {"prompt": "gold", "edit": start(keep="middle")},
        {"prompt": "gold", "edit": start(strength=0)},
        {"prompt": "gold", "edit": start(value=1.5)},
        {"prompt": "gold", "edit": start(value=float("nan"))},
        {"prompt": "gold", "edit": start(side=31)},
        {"prompt": ["gold"]},
    ],
)
def test_what_is_out_of_range_is_refused(client: TestClient, body: object) -> None:
    assert client.post("/api/generate", json=body).status_code == 422


def test_hostile_bodies_are_refused(client: TestClient) -> None:
    assert client.post("/api/generate", content=b"{" * (MAX_BODY + 1)).status_code == 413
    for content in (
        b"",
        b"{",
        b"\xff\xfe",
        b'{"prompt": "gold", "sampling": {"guidance": {"scale": NaN}}}',
        b"[" * 5000,
    ):
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
    long = {"prompt": "gold", "sampling": {"steps": 120}}

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
            answer = await client.post("/api/generate", json=long | {"sampling": {"steps": 2}})
            assert "picture" in answer.text.splitlines()[-1]
            counts = (await client.get("/api/metrics")).text
            assert 'outcome="stopped"} 2' in counts
            assert 'outcome="finished"} 1' in counts

    asyncio.run(crowd())


def test_a_drawing_that_takes_too_long_ends_with_a_word(glyph_artist: TextToImage) -> None:
    with TestClient(make_app(glyph_artist, None, Limits(seconds=0.0001)), "http://localhost") as client:
        answer = client.post("/api/generate", json={"prompt": "gold", "sampling": {"steps": 120}})
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
    schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(glyph_artist, None, access=Access(hosts=None)))
    for found in schema.get_all_operations():
        if mode is schemathesis.GenerationMode.NEGATIVE and not found.ok().body:
            continue  # what takes nothing cannot be given anything wrong

        @given(case=found.ok().as_strategy(generation_mode=mode))
        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        def try_it(case: schemathesis.Case) -> None:
            if isinstance(case.body, dict):
                how = case.body.setdefault("sampling", {})
                if isinstance(how, dict) and isinstance(steps := how.get("steps", 20), int) and 2 < steps <= MAX_STEPS:
                    how["steps"] = 2  # as hostile, and sooner done
            assert case.call().status_code < 500

        try_it()


def test_serving_where_it_cannot_be_served(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["guide", "serve", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 2
    assert "choose another --port" in capsys.readouterr().err
    for option, value in {
        "--token": "",
        "--allowed-host": "guide.example:80",
        "--host": "no.such.host.invalid",
    }.items():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        assert main(["guide", "serve", str(tmp_path), "--port", str(port), option, value]) == 2
        assert option in capsys.readouterr().err
    assert main(["guide", "serve", str(tmp_path), "--room", "0"]) == 2
    assert "room 0" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["guide", "build", str(tmp_path), "--no-figures"]) == 2
    assert "mine.txt" in capsys.readouterr().err


# -- who is answered, and how


def test_every_answer_has_the_security_headers_once(client: TestClient) -> None:
    answers = {
        200: client.get("/"),
        206: client.get("/a.js", headers={"range": "bytes=0-0"}),
        304: client.get("/a.js", headers={"if-none-match": "*"}),
        400: client.get("/", headers={"host": ""}),
        403: client.post("/api/generate", headers={"origin": "http://evil.example"}),
        404: client.get("/missing"),
        405: client.put("/"),
        413: client.post("/api/generate", content=bytes(MAX_BODY + 1)),
        421: client.get("/", headers={"host": "evil.example"}),
        422: client.post("/api/generate", json={}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        for name, value in HEADERS:
            assert answer.headers.get_list(name.decode()) == [value.decode()]
    assert "frame-ancestors 'none'" in answers[200].headers["content-security-policy"]
    assert "not found; " in answers[404].json()["detail"]


@pytest.mark.parametrize(
    "path", ["/", "/index.html", "/a.js", "/api/health", "/api/metrics", "/api/redraw", "/openapi.json", "/docs"]
)
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    whole, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *[(name, 200) for name in ("localhost", "LOCALHOST:9", "127.0.0.1:8000", "[::1]", "[::1]:8000", "guide.example")],
        *[(name, 421) for name in ("evil.example", "localhost.evil.example", "evil.localhost", "127.0.0.1.nip.example")],
        *[(name, 421) for name in ("localhost@evil.example", "evil.example:localhost", "[::1", "::1", "a b", "localhost/x")],
        ("", 400),
    ],
)  # fmt: skip
def test_only_known_hosts_are_answered(glyph_artist: TextToImage, site: Path, host: str, status: int) -> None:
    known = access("127.0.0.1", bound := bind("127.0.0.1", 0), names=["Guide.example"])
    client = TestClient(make_app(glyph_artist, site, access=known), "http://localhost")
    for path in ("/", "/a.js", "/api/health", "/missing"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == (404 if status == 200 and "missing" in path else status)
    bound[0].close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 422),
        ({"origin": "http://localhost"}, 422),
        ({"sec-fetch-site": "same-origin"}, 422),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://localhost"}, 403),
        ({"origin": "http://localhost:8001"}, 403),
        ({"origin": "http://localhost.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": ""}, 403),
    ],
)
def test_posts_of_other_origins_are_refused(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/api/generate", json={}, headers=headers).status_code == status


def test_a_token_opens_the_api_as_a_header_or_as_a_cookie(glyph_artist: TextToImage, site: Path) -> None:
    token = "a-token_of-16-or-more"
    app = make_app(glyph_artist, site, access=Access(None, token))
    client = TestClient(app, "http://guide.example:8000", follow_redirects=False)
    assert client.get("/").status_code == 200
    for wrong in ("", "x", token[:-1], token + "x", "\u00e9", "Bearer"):
        refused = client.get("/api/health", headers={"authorization": f"Bearer {wrong}".encode("latin-1", "replace")})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/api/generate").status_code == 401
        assert client.get("/api/health", params={"token": token}).status_code == 401
        assert client.get("/", params={"token": wrong}).status_code == 401
    assert client.get("/api/health", headers={"authorization": f"bearer {token}"}).status_code == 200
    assert not client.cookies

    sent = client.get("/", params={"token": token})
    assert (sent.status_code, sent.headers["location"]) == (303, "./")
    assert {"HttpOnly", "SameSite=strict"} <= set(sent.headers["set-cookie"].split("; "))
    assert client.get("/api/health").status_code == 200
    (name,) = client.cookies
    client.cookies.clear()
    assert client.get("/api/health", headers={"cookie": f"{name}={token}"}).status_code == 200
    assert client.get("/api/health", headers={"cookie": f"{name}={token}x"}).status_code == 401


def test_who_is_answered_follows_from_the_address() -> None:
    for host in ("127.0.0.1", "127.0.0.2", "localhost"):
        sockets = bind(host, 0)
        assert access(host, sockets).token is None
        assert host in (access(host, sockets).hosts or ())
        for made in sockets:
            made.close()
    (everywhere,) = bind("0.0.0.0", 0)
    first, second = access("0.0.0.0", [everywhere]), access("0.0.0.0", [everywhere])
    assert first.hosts is None
    assert first.token != second.token
    assert len(first.token or "") >= 32
    assert "guide.example" in (access("0.0.0.0", [everywhere], names=["guide.example"]).hosts or ())
    assert access("0.0.0.0", [everywhere], token="x" * 16).token == "x" * 16
    assert access("0.0.0.0", [everywhere], api=False).token is None
    for token in ("", " ", "short", "x" * 15, "x y" * 9, "\u4e00" * 20):
        with pytest.raises(ZaoziError, match="token"):
            access("127.0.0.1", [everywhere], token=token)
    for name in ("", "guide.example:80", "http://guide.example", "a b"):
        with pytest.raises(ZaoziError, match="--allowed-host"):
            access("127.0.0.1", [everywhere], names=[name])
    everywhere.close()


def test_only_files_of_the_site_are_served(tmp_path: Path) -> None:
    site, outside = tmp_path / "site", tmp_path / "site-2"
    (site / ".git").mkdir(parents=True)
    (site / "data").mkdir()
    outside.mkdir()
    secret = "nobody may read this"
    for file in (site / ".zaozi.json", site / ".git" / "config", site / "data" / ".env", outside / "x", tmp_path / "y"):
        file.write_text(secret)
    (site / "index.html").write_text(PAGE)
    (site / "data" / "a.json").write_text("1")
    (site / "to-file").symlink_to(outside / "x")
    (site / "to-folder").symlink_to(outside)
    (site / "to-root").symlink_to("/")
    (site / "to-hidden").symlink_to(site / ".zaozi.json")
    (site / "to-hidden-folder").symlink_to(site / ".git")
    (site / "to-nothing").symlink_to(site / "nothing")
    (site / "round").symlink_to(site / "round")
    (site / "inside").symlink_to(site / "data")
    os.mkfifo(site / "pipe")
    client = TestClient(make_app(None, site), "http://localhost")
    paths = [
        *("/to-file", "/to-folder/x", f"/to-root{tmp_path}/y", "/to-hidden", "/to-hidden-folder/config", "/to-nothing"),
        *("/round", "/round/x", "/pipe", "/data", "/data/", "/", "/data/a.json/x", "/" + "a" * 300),
        *("/.zaozi.json", "/.git/config", "/data/.env", "/data/../.zaozi.json", "/%2ezaozi.json", "/data/%2e%2e/.git/config"),
        *("/../y", "/%2e%2e/y", "/..%2fy", "/../site-2/x", "/%2e%2e/site-2/x", f"/{tmp_path}/y", f"//{tmp_path}/y", "/..%5cy"),
        *("/%00", "/index.html%00", "/%ff", "/%ed%a0%80", "/" + "a/" * 3000),
    ]  # fmt: skip
    for path in paths:
        for method in ("GET", "HEAD"):
            answer = client.request(method, path)
            assert answer.status_code == (200 if path == "/" else 404), path
            assert secret not in answer.text
    assert client.get("/inside/a.json").text == client.get("/data/a.json").text == "1"


@pytest.mark.parametrize(
    "value",
    ["NaN", "-Infinity", "1e999", "9" * 400, "9" * 5000, '"\\ud800"', '"\\udfff\\ud800"', '""', '" "', "[" * 9000, "null"],
    ids=lambda v: v[:9],
)  # fmt: skip
def test_odd_values_in_json_are_refused_in_every_field(client: TestClient, value: str) -> None:
    for name in Ask.model_fields:
        if name in ("prompt", "to") and value in ('""', '" "'):
            continue  # no text
        body = '{"prompt": "gold", "' + name + '": ' + value + "}"
        answer = client.post("/api/generate", content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, name
        answer.json()["detail"].encode()


# -- connections


@contextlib.contextmanager
def running(app: Guard, deadlines: Deadlines | None = None, *, grace: float = 10.0) -> Iterator[tuple[Server, int]]:
    """The server on a free port, which must stop within `grace` seconds at the end."""
    (listener,) = bind("127.0.0.1", 0)
    listener.listen(128)
    server, port = Server(app, [listener], deadlines), listener.getsockname()[1]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server, port
    finally:
        server.should_exit = True
        thread.join(grace)
    assert not thread.is_alive(), f"the server was still running {grace} s after it was told to stop"


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for something that happens in another thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.01)


def connect(port: int, sent: str = "", receive: int = 0) -> socket.socket:
    """A connection that has sent this, with a receive buffer of `receive` bytes."""
    made = socket.socket()
    if receive:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    made.settimeout(5)
    made.connect(("127.0.0.1", port))
    made.sendall(sent.encode())
    return made


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    got = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            got += part
    return bytes(got)


GET = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = (
    "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
)
STALLED = {
    "connected": "",
    "half of the headers": "GET / HTTP/1.1\r\nHost: localhost\r\n",
    "half of the second headers": GET.format("/a.js") + "GET /",
    "half of the body": POST.format(100, "{"),
    "half of an unwanted body": POST.replace("POST", "GET").format(100, "{"),
    "too long a body": POST.format(10 * MAX_BODY, " " * MAX_BODY),
    "half of a chunk": POST.replace("Content-Length: {}", "Transfer-Encoding: chunked{}").format("", "5\r\n{"),
    "idle": GET.format("/a.js"),
    "not reading": GET.format("/large.bin"),
}


@pytest.mark.parametrize("kind", STALLED)
def test_a_stalled_client_is_dropped_at_its_deadline(glyph_artist: TextToImage, site: Path, kind: str) -> None:
    deadlines = Deadlines(headers=0.3, body=0.3, reading=0.3)
    with (
        running(make_app(glyph_artist, site), deadlines) as (server, port),
        connect(port, STALLED[kind], 4096) as stalled,
    ):
        until(lambda: server.protocols)
        until(lambda: not server.protocols)
        assert httpx.get(f"http://127.0.0.1:{port}/api/health").json()["busy"] == 0
        if kind != "not reading":
            rest(stalled)  # ends


def test_a_byte_now_and_then_does_not_hold_a_connection(site: Path) -> None:
    with (
        running(make_app(None, site), Deadlines(headers=0.3)) as (server, port),
        connect(port, "GET / HTTP/1.1\r\n") as slow,
    ):
        until(lambda: server.protocols)
        for _ in range(200):
            try:
                slow.sendall(b"X")
            except ConnectionError:
                break
            time.sleep(0.02)
        assert not server.protocols


def endless(steps: int = 10_000) -> Callable[..., object]:
    """A `draw` that takes longer than any test."""

    def drawing(model: object, *_: object, on_step: Callable[..., None], **__: object) -> object:
        for _ in range(steps):
            time.sleep(0.01)
            on_step(0.0, *[torch.zeros(1)] * 3)
        return torch.zeros(1)

    return drawing


def test_a_drawing_may_take_longer_than_the_deadlines(
    glyph_artist: TextToImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zaozi.serve.desk.draw", endless(60))
    with running(make_app(glyph_artist, None), Deadlines(headers=0.2, body=0.2, reading=0.2)) as (_, port):
        answer = httpx.post(f"http://127.0.0.1:{port}/api/generate", json={"prompt": "gold"})
        assert "picture" in json.loads(answer.text.splitlines()[-1])
        assert answer.elapsed.total_seconds() > 0.4


def test_the_time_limit_of_a_drawing_also_ends_one_whose_reader_is_slow(
    glyph_artist: TextToImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zaozi.serve.desk.draw", endless())

    async def read_slowly() -> list[str]:
        desk = Desk(glyph_artist, Limits(seconds=0.1))
        job = desk.take(Ask(prompt="gold"))
        lines = []
        async for line in desk.stream(job):
            lines.append(line)
            await asyncio.sleep(0.2)
        desk.release(job)
        assert desk.busy == 0
        desk.close()
        await asyncio.to_thread(desk.join, 5)
        assert desk.counts["timed_out"] == 1
        return lines

    *_, last = asyncio.run(read_slowly())
    assert "longer than" in json.loads(last)["error"]


def test_connections_above_the_cap_take_the_place_of_waiting_ones(site: Path) -> None:
    with running(make_app(None, site), Deadlines(connections=8)) as (server, port), contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(connect(port, STALLED["half of the headers"])) for _ in range(30)]
        until(lambda: len(server.protocols) == 4)  # half of the cap: they all come from one address
        assert httpx.get(f"http://127.0.0.1:{port}/a.js").status_code == 200
        assert rest(waiting[0]) == b""
        waiting[-1].sendall(b"\r\n")  # the latest are still served
        assert waiting[-1].recv(65536).startswith(b"HTTP/1.1 200")


def test_connections_above_the_cap_are_refused_while_all_others_are_served(site: Path) -> None:
    with running(make_app(None, site), Deadlines(connections=4)) as (server, port), contextlib.ExitStack() as stack:
        readers = [stack.enter_context(connect(port, STALLED["not reading"], 4096)) for _ in range(2)]
        until(lambda: [c.owed for c in server.protocols] == ["reading", "reading"])
        for _ in range(40):
            with connect(port, GET.format("/a.js")) as more:
                answer = rest(more)
                assert not answer or answer.startswith(b"HTTP/1.1 503")
        assert answer.split(b"\r\n\r\n")[1].startswith(b"too many connections")
        assert all(b"%b: %b" % header in answer for header in HEADERS)
        readers.pop().close()
        until(lambda: len(server.protocols) == 1)
        assert httpx.get(f"http://127.0.0.1:{port}/a.js").status_code == 200


def test_invalid_requests_are_answered_400_with_the_security_headers(site: Path) -> None:
    with running(make_app(None, site)) as (_, port):
        for sent in ("nothing\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", GET.format("/" + "a" * 200_000)):
            with connect(port) as client:
                with contextlib.suppress(ConnectionError):
                    client.sendall(sent.encode())
                answer = rest(client)
            if len(sent) < 1000:  # of a longer one the server closes with a part unread, so its answer may be lost
                assert answer.startswith(b"HTTP/1.1 400 ")
                assert all(b"%b: %b" % header in answer for header in HEADERS)


def test_stopping_ends_drawings_with_a_word_and_waits_for_no_client(
    glyph_artist: TextToImage, site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zaozi.serve.desk.draw", endless())
    app = make_app(glyph_artist, site)
    wanted, before = json.dumps({"prompt": "gold"}), {*threading.enumerate()}
    with contextlib.ExitStack() as stack:
        with running(app, Deadlines(stopping=0.5), grace=5) as (server, port):
            for sent in STALLED.values():
                stack.enter_context(connect(port, sent, 4096))
            drawings = [stack.enter_context(connect(port, POST.format(len(wanted), wanted))) for _ in range(2)]
            assert b"200 OK" in drawings[0].recv(17)
            until(lambda: len(server.protocols) == len(STALLED) + 2)
        for drawing in drawings:
            assert STOPPING.encode() in rest(drawing)
        until(lambda: not any(thread.name == "draw" for thread in {*threading.enumerate()} - before))
    assert capsys.readouterr().err == ""


def serve_with_few_descriptors(site: Path, listeners: list[socket.socket], errors: Path) -> None:
    """In a process of its own: 96 file descriptors, and its errors in a file."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    serve(make_app(None, site), listeners, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_half_sent_requests_and_few_descriptors_neither_take_it_down_nor_keep_it_up(
    site: Path, tmp_path: Path, number: int, code: int
) -> None:
    listeners, errors = bind("127.0.0.1", 0), tmp_path / "errors"
    listeners[0].listen(512)
    port = listeners[0].getsockname()[1]
    process = multiprocessing.get_context("fork").Process(
        target=serve_with_few_descriptors, args=(site, listeners, errors), daemon=True
    )
    process.start()
    listeners[0].close()
    with contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        for _ in range(150):
            stack.enter_context(connect(port, STALLED["half of the headers"]))
        stack.enter_context(connect(port, STALLED["not reading"], 4096))
        assert httpx.get(f"http://127.0.0.1:{port}/a.js").status_code == 200
        os.kill(process.pid or 0, number)
        process.join(10)
        assert process.exitcode == code
        assert errors.read_text() == ""


def test_malformed_requests_get_no_5xx_and_leave_no_trace(
    glyph_artist: TextToImage, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(make_app(glyph_artist, site)) as (server, port):
        found = asyncio.run(fuzz_server.fuzz(port, 400, seed=1, clients=16, patience=0.1))
        assert not [status for status in found if status.startswith("5")], found
        assert {"200", "400", "404", "422"} <= set(found)
        assert 'outcome="failed"} 0' in httpx.get(f"http://127.0.0.1:{port}/api/metrics").text
        until(lambda: len(server.protocols) == 0)
    assert capsys.readouterr().err == ""
