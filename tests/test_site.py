"""The page that ships: it is complete, it is there at once, and it is sent as browsers like it."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from zaozi.cli.main import main
from zaozi.guide import build as building
from zaozi.guide import redraw as redrawing
from zaozi.guide import shipped
from zaozi.guide.build import address_pages, web_address
from zaozi.guide.figures import figures
from zaozi.guide.figures.source import Source
from zaozi.guide.figures.vector import for_pages
from zaozi.guide.shipped import BASE, COMPRESSED, PAGES, SITE
from zaozi.model.checkpoint import SHIPPED, WEIGHTS
from zaozi.pipeline import TextToImage
from zaozi.serve import Later, Redraw, background, make_app

INDEX = json.loads((SITE / shipped.INDEX).read_text(encoding="utf-8"))


# -- what ships


def test_the_package_holds_all_that_the_page_shows() -> None:
    """Every figure, film, poster and sheet, drawn with the model that ships; and what index.html names."""
    assert shipped.shows(BASE), "the figures are of another model; run: make figures"
    assert BASE == SHIPPED / "base" / WEIGHTS
    assert INDEX.keys() == {*figures, *redrawing.FILMED}
    for name, entry in INDEX.items():
        for file in (entry["file"], *([entry["poster"]] if "poster" in entry else [])):
            assert (SITE / "figures" / file).stat().st_size > 500, name
        assert entry["title"]
        assert entry["caption"]
        if entry["file"].endswith(".svg"):
            box = ElementTree.parse(SITE / "figures" / entry["file"]).getroot().attrib["viewBox"].split()
            assert (entry["width"], entry["height"]) == tuple(round(float(v) * 4 / 3) for v in box[2:])
        else:
            with Image.open(SITE / "figures" / entry["poster"]) as poster:
                assert poster.size == (entry["width"], entry["height"])
    batch = json.loads((SITE / "data" / "loop.json").read_text(encoding="utf-8"))["batch"]
    assert {"text", "time", "x0", "eps", "x_t", "output", "error", "loss"} == set(batch[0])
    atlas = json.loads((SITE / "data" / "atlas.json").read_text(encoding="utf-8"))
    sheet = atlas["sheet"]
    assert len(atlas["points"]) == len(atlas["texts"]) == len(atlas["characters"])
    for i in range(-(-len(atlas["points"]) // (sheet["rows"] * sheet["columns"]))):
        with Image.open(SITE / "data" / f"atlas-{i}.webp") as picture:
            assert picture.size == (sheet["columns"] * sheet["side"], sheet["rows"] * sheet["side"])
    page = (SITE / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page)
    assert named
    assert all((SITE / name).is_file() for name in named)


def test_no_figure_fetches_runs_or_names_anything_outside_of_itself() -> None:
    for file in (SITE / "figures").glob("*.svg"):
        text = file.read_text(encoding="utf-8")
        assert "<script" not in text
        assert not re.search(r"\son\w+=", text)
        for target in re.findall(r'(?:xlink:)?href="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text):
            assert target.startswith(("#", "data:image/png;base64,")), f"{file.name} refers to {target[:50]}"


def test_figures_follow_the_readers_scheme_and_pictures_stay() -> None:
    svg = (
        '<svg viewBox="0 0 1 1"><defs></defs><path d="M 1.23456 2\n L -3.999 4.0" style="fill: #222222; stroke: #f0f0f0"/>'
        '<path d="" style="fill: #ffffff"/><path d="" style="fill: #111111"/><path d="" style="stroke: #c8442b"/></svg>'
    )
    made = for_pages(svg)
    assert '[style*="fill: #222222"]{fill:#ece8df!important}' in made
    assert '[style*="stroke: #f0f0f0"]{stroke:#232323!important}' in made
    assert '[style*="stroke: #c8442b"]{stroke:#' in made
    assert '[style*="fill: #ffffff"]' not in made
    assert '[style*="fill: #111111"]' not in made
    assert 'd="M 1.23 2 L -3.99 4.0"' in made
    for name in figures:
        text = (SITE / "figures" / INDEX[name]["file"]).read_text(encoding="utf-8")
        assert "prefers-color-scheme: dark" in text, name
        first = text.index('<g id="figure_1">')
        assert "fill: #ffffff" not in text[first : first + 400], f"{name} stands on a white slab"


# -- the addresses of a site


def test_a_site_with_an_address_names_it_in_every_language(tmp_path: Path) -> None:
    for name in PAGES:
        shutil.copy(SITE / name, tmp_path / name)
    before = {name: (tmp_path / name).read_text(encoding="utf-8") for name in PAGES}
    address_pages(tmp_path, web_address("https://guide.example/zaozi"))
    for name, path in zip(PAGES, ("", "zh.html"), strict=True):
        head = (tmp_path / name).read_text(encoding="utf-8").split("</head>")[0]
        assert f'<link rel="canonical" href="https://guide.example/zaozi/{path}" />' in head
        assert '<link rel="alternate" hreflang="zh-Hans" href="https://guide.example/zaozi/zh.html" />' in head
        assert '<link rel="alternate" hreflang="en" href="https://guide.example/zaozi/" />' in head
        assert '<meta property="og:image" content="https://guide.example/zaozi/share.png" />' in head
        assert (tmp_path / name).read_text(encoding="utf-8").split("</head>")[1] == before[name].split("</head>")[1]
    listed = ElementTree.parse(tmp_path / "sitemap.xml").getroot()
    assert [one.text for one in listed.findall(".//{*}loc")] == [
        "https://guide.example/zaozi/",
        "https://guide.example/zaozi/zh.html",
    ]


@pytest.mark.parametrize("url", ["guide.example", "ftp://guide.example", "https://", "https://guide.example/?a=b"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "build", str(tmp_path / "site"), "--no-figures", "--url", url]) == 2
    assert "is not the address of a site" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_the_page_is_served_in_chinese_too() -> None:
    client = TestClient(make_app(None, SITE), "http://localhost")
    assert '<html lang="zh-Hans" data-api="">' in client.get("/zh.html").text
    assert client.head("/zh.html").headers["content-type"] == "text/html; charset=utf-8"


# -- the first minute


@pytest.mark.skipif(os.name != "posix", reason="the server is stopped by a signal")
def test_serving_from_a_cold_home_is_as_quick_as_importing_torch_and_writes_nothing(tmp_path: Path) -> None:
    """The first byte comes within six times what importing PyTorch takes here and now; the page is whole without it."""
    home, folder = tmp_path / "home", tmp_path / "empty"
    folder.mkdir()
    source = Path(shipped.__file__).parents[2]
    environment = {**os.environ, "ZAOZI_HOME": str(home), "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch"], check=True, env=environment)
    torch_takes = time.monotonic() - start
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, "-m", "zaozi", "guide", "serve", "--port", str(port)],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout
        said = server.stdout.readline()
        assert said.startswith(f"http://127.0.0.1:{port}/ ")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            assert "<html" in http.get("/").text
            took = time.monotonic() - start
            assert http.get("/figures/01-gaussian.svg").headers["content-type"] == "image/svg+xml"
            assert http.get("/data/atlas-0.webp").headers["content-type"] == "image/webp"
        assert took < 6 * torch_takes, f"{took:.1f} s, and torch {torch_takes:.1f} s"
    finally:
        server.terminate()
        _, complaints = server.communicate(timeout=30)
    assert complaints == ""
    assert not home.exists()
    assert not list(folder.iterdir())


def test_the_server_starts_without_pytorch() -> None:
    code = "import sys, zaozi.cli.guide, zaozi.guide.build, zaozi.serve; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(shipped.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize(("terminal", "words", "wanted"), [(True, [], 1), (True, ["--no-browser"], 0), (False, [], 0)])
def test_the_browser_opens_the_page_from_a_terminal(
    terminal: bool, words: list[str], wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("zaozi.serve.serve", lambda app, listeners, url, then: then() or listeners[0].close())
    monkeypatch.setattr("zaozi.cli.guide._open", opened.append)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert main(["guide", "serve", "--no-api", "--port", str(port), *words]) == 0
    assert opened == [f"http://127.0.0.1:{port}/"] * wanted


def test_a_folder_without_a_page_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert main(["guide", "serve", str(tmp_path), "--port", str(port)]) == 2
    assert f"zaozi guide build {tmp_path}" in capsys.readouterr().err


# -- how it is sent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    files = {
        "index.html": b'<html data-api=""></html>' + b" " * 2000,
        "assets/index-BwXJ7joz.js": b"let a = 1;" * 1000,
        "assets/licenses.txt": b"free" * 1000,
        "figures/a.svg": b"<svg/>" * 1000,
        "figures/a.webp": b"RIFF" * 1000,
        "data/a.json": b"[1,2]" * 1000,
        "data/a.avif": b"avif" * 1000,
        "data/tiny.json": b"{}",
        "ort/a.mjs": b"1;" * 1000,
        "assets/a-12345678.woff2": b"wOF2" * 500,
        "films.mp4": b"mp4 " * 500,
    }
    for name, content in files.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_bytes(content)
    (made / "ort" / "a.wasm.gz").write_bytes(gzip.compress(b"\0asm" * 1000, mtime=0))
    (made / "ort" / "b.wasm.xz").write_bytes(lzma.compress(b"\0asm" * 1000))
    (made / "ort" / "a.mjs.gz").write_bytes(gzip.compress(b"1;" * 1000, 1, mtime=0))
    return made


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(make_app(None, folder), "http://localhost") as client:
        yield client


TYPES = {
    "/": "text/html; charset=utf-8",
    "/assets/index-BwXJ7joz.js": "text/javascript; charset=utf-8",
    "/assets/licenses.txt": "text/plain; charset=utf-8",
    "/figures/a.svg": "image/svg+xml",
    "/figures/a.webp": "image/webp",
    "/data/a.json": "application/json",
    "/data/a.avif": "image/avif",
    "/ort/a.mjs": "text/javascript; charset=utf-8",
    "/ort/a.wasm": "application/wasm",
    "/ort/b.wasm": "application/wasm",
    "/assets/a-12345678.woff2": "font/woff2",
    "/films.mp4": "video/mp4",
}


@pytest.mark.parametrize("path", TYPES)
def test_text_travels_compressed_with_its_type_an_etag_and_head(client: TestClient, path: str) -> None:
    plain = client.get(path, headers={"accept-encoding": "identity"})
    packed = client.get(path, headers={"accept-encoding": "br, gzip"})
    is_text = Path(path).suffix in COMPRESSED or path == "/"
    assert plain.status_code == packed.status_code == 200
    assert plain.content == packed.content
    assert plain.headers["content-type"] == packed.headers["content-type"] == TYPES[path]
    assert "content-encoding" not in plain.headers
    assert packed.headers.get("content-encoding") == ("gzip" if is_text else None)
    assert plain.headers.get("vary") == packed.headers.get("vary") == ("Accept-Encoding" if is_text else None)
    assert (int(packed.headers["content-length"]) < len(plain.content)) == is_text
    assert (plain.headers["etag"] != packed.headers["etag"]) == is_text
    for answer, encoding in ((plain, "identity"), (packed, "br, gzip")):
        head = client.head(path, headers={"accept-encoding": encoding})
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "content-type", "etag", "cache-control"):
            assert head.headers[name] == answer.headers[name]
        asked = {"accept-encoding": encoding, "if-none-match": answer.headers["etag"]}
        assert client.get(path, headers=asked).status_code == 304


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/", "no-cache"),
        ("/index.html", "no-cache"),
        ("/assets/index-BwXJ7joz.js", "public, max-age=31536000, immutable"),
        ("/assets/licenses.txt", "public, max-age=86400"),
        ("/ort/a.wasm", "public, max-age=86400"),
        ("/ort/a.wasm.gz", "public, max-age=86400"),
        ("/figures/a.svg", "no-cache"),  # another model's have the same names
        ("/data/a.json", "no-cache"),
    ],
)
def test_only_what_never_changes_is_kept_without_asking(client: TestClient, path: str, wanted: str) -> None:
    assert client.get(path).headers["cache-control"] == wanted


def test_packed_files_are_sent_as_they_are_and_parts_of_files_plain(client: TestClient, folder: Path) -> None:
    packed = client.get("/ort/a.wasm.gz")
    assert packed.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in packed.headers
    assert packed.content == (folder / "ort" / "a.wasm.gz").read_bytes()
    packed = client.get("/ort/b.wasm.gz")
    assert packed.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in packed.headers
    assert gzip.decompress(packed.content) == client.get("/ort/b.wasm").content == b"\0asm" * 1000
    assert client.head("/ort/b.wasm.gz").headers["content-length"] == packed.headers["content-length"]
    part = client.get("/assets/index-BwXJ7joz.js", headers={"accept-encoding": "gzip", "range": "bytes=4-4"})
    assert (part.status_code, part.content) == (206, b"a")
    assert "content-encoding" not in client.get("/data/tiny.json").headers
    length = int(client.get("/ort/a.mjs").headers["content-length"])
    assert length == (folder / "ort" / "a.mjs.gz").stat().st_size, "the twin made when the page was packed"


def test_the_docs_describe_every_field_without_a_script(glyph_artist: TextToImage) -> None:
    client = TestClient(make_app(glyph_artist, None), "http://localhost")
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in page.text
    assert not re.search(r'(?:src|href)="(?!openapi\.json|data:,)', page.text)
    document = client.get("/openapi.json").json()
    for name in (*document["paths"], *document["components"]["schemas"]["Ask"]["properties"], "strength"):
        assert name in page.text


# -- what is made while it is served


def test_the_pages_model_is_made_when_it_is_first_asked_for(folder: Path, tmp_path: Path) -> None:
    made = []

    def make() -> Path:
        made.append(1)
        (tmp_path / "model.json").write_text("{}")
        return tmp_path

    client = TestClient(make_app(None, folder, model=Later(make, "model")), "http://localhost")
    assert client.get("/").status_code == 200
    assert not made
    assert client.get("/model/model.json").json() == client.get("/model/../model/model.json").json() == {}
    assert client.get("/model/missing.onnx").status_code == client.get("/model/../../x").status_code == 404
    assert made == [1]

    def fail() -> Path:
        raise OSError("the disk is full")

    client = TestClient(make_app(None, folder, model=Later(fail, "model")), "http://localhost")
    assert client.get("/model/model.json").status_code == 503


def test_figures_that_are_drawn_anew_take_the_place_of_the_shipped_ones(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The progress is told while they are drawn; what was not drawn comes from the site as before."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.svg").write_text("<svg>anew</svg>")
    lines = [{"done": 20, "total": 20, "seconds_left": 100}, {"folder": str(tmp_path)}]
    go_on = tmp_path / "go"
    code = (
        f"import os, time; print('''{json.dumps(lines[0])}''', flush=True)\n"
        f"while not os.path.exists({str(go_on)!r}): time.sleep(0.01)\n"
        f"print('''{json.dumps(lines[1])}''')"
    )
    monkeypatch.setattr(background, "command", lambda model: [sys.executable, "-c", code])
    redraw = Redraw("base")
    client = TestClient(make_app(None, folder, redraw=redraw), "http://localhost")
    assert 'data-redraw="api/redraw"' in client.get("/").text
    assert client.get("/api/redraw").json() == {"done": 0, "total": 0, "seconds_left": None, "error": None}
    redraw.start()
    while not (told := client.get("/api/redraw").json())["total"]:
        time.sleep(0.01)
    assert (told["done"], told["total"]) == (19, 20), "not done before they are there"
    assert 90 <= told["seconds_left"] <= 100
    assert client.get("/figures/a.svg").text.startswith("<svg/>")
    go_on.touch()
    while client.get("/api/redraw").json()["seconds_left"]:
        time.sleep(0.01)
    assert client.get("/api/redraw").json()["done"] == 20
    assert "data-redraw" not in client.get("/").text
    assert client.get("/figures/a.svg").text == "<svg>anew</svg>"
    assert client.get("/figures/a.webp").content.startswith(b"RIFF")
    assert client.get("/data/a.json").status_code == 200


def test_a_redraw_that_fails_is_told_and_one_that_is_not_wanted_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background, "command", lambda model: [sys.executable, "-c", "raise OSError('no room')"])
    redraw = Redraw("base")
    redraw.start()
    while not redraw.error:
        time.sleep(0.01)
    assert "no room" in redraw.error
    monkeypatch.setattr(background, "command", lambda model: [sys.executable, "-c", "import time; time.sleep(60)"])
    before = set(threading.enumerate())
    redraw = Redraw("base")
    redraw.start()
    (thread,) = {t for t in threading.enumerate() if t.name == "redraw"} - before  # beside it runs the reader of errors
    redraw.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert redraw.error is None
    capfd.readouterr()


def test_a_model_of_ones_own_is_drawn_with(glyph_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zaozi.data.glyphs import build_glyphs

    build_glyphs(tmp_path / "data", limit=300, size=32)
    monkeypatch.setattr(redrawing, "figures", dict.fromkeys(("01-gaussian", "06-one-step"), ""))
    monkeypatch.setattr("zaozi.guide.figures.atlas.plane", lambda source: redrawing.np.zeros((300, 2), "float32"))
    told: list[tuple[int, int]] = []
    source = Source(glyph_model, tmp_path / "data")
    folder = redrawing.drawn_folder(source, lambda done, total, left: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert {"01-gaussian.svg", "06-one-step.svg", "index.json"} <= {p.name for p in (folder / "figures").iterdir()}
    assert {"atlas.json", "atlas-0.webp", "glyphs.json"} <= {p.name for p in (folder / "data").iterdir()}
    assert redrawing.drawn_folder(source, lambda *_: pytest.fail("they are kept")) == folder


# -- the site as a folder


def test_a_built_site_is_the_shipped_page_with_its_model_and_compressed_twins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text(json.dumps({"files": "none" * 1000}))
    monkeypatch.setattr(building, "browser_model", lambda name: model)
    monkeypatch.setattr(building, "_drawn", lambda *_: pytest.fail("nothing is to be drawn"))
    out = tmp_path / "site"
    assert main(["guide", "build", str(out)]) == 0
    assert "zaozi guide serve" in capsys.readouterr().out
    for file in (p for p in SITE.rglob("*") if p.is_file()):
        to = out / file.relative_to(SITE)
        if file.suffix == ".xz":
            assert not to.exists()
            assert not to.with_suffix("").exists()
            assert gzip.decompress(to.with_suffix(".gz").read_bytes()) == lzma.decompress(file.read_bytes())
        else:
            assert to.read_bytes() == file.read_bytes()
    twins = [p for p in out.rglob("*.gz") if p.with_suffix("").exists()]
    names = {p.relative_to(out).as_posix() for p in twins}
    assert {"index.html.gz", "data/atlas.json.gz", "figures/07-fields.svg.gz", "model/model.json.gz"} <= names
    assert all(gzip.decompress(p.read_bytes()) == p.with_suffix("").read_bytes() for p in twins)
    (out / "figures" / "mine.svg").write_text("mine")
    assert main(["guide", "build", str(out)]) == 2
    assert "mine.svg" in capsys.readouterr().err
