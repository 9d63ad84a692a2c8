"""Models on the hub, by name: the client itself, against a small hub on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from test_diffusers_import import glyphs, imported  # noqa: F401
from zaozi import TextToImage, ZaoziError
from zaozi.cli.main import main
from zaozi.core.record import RECORD, read_record
from zaozi.model.checkpoint import CONFIG, STATE, WEIGHTS, find_model, model_output, save_folder
from zaozi.model.hub import hub_name
from zaozi.model.push import README, Push, push

TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """Commits, each a map from files to their content, and names of some of them."""

    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    refuses: int = 0
    """A status to answer every write with."""

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        listed = sorted((name, hashlib.sha1(content).hexdigest()) for name, content in files.items())
        sha = hashlib.sha1(repr([self.refs.get(ref), listed]).encode()).hexdigest()
        self.commits[sha], self.refs[ref] = dict(files), sha
        return sha


class Hub(ThreadingHTTPServer):
    """A hub: it knows repositories, one token, and what was asked of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[tuple[str, str, bool]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files_asked(self) -> set[str]:
        return {path.split("/", 5)[5] for method, path, _ in self.asked if method == "GET" and "/resolve/" in path}


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        known = self.headers.get("authorization") == f"Bearer {TOKEN}"
        self.server.asked.append((self.command, path, "authorization" in self.headers))
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                sent += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if path == "/api/repos/create":
            return self.create(json.loads(sent))
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repository = self.server.repositories.get("/".join(parts[:2]))
        if repository is None or (repository.private and not known):
            return self.answer({}, 404 if known else 401, {"X-Error-Code": "RepoNotFound"})
        if self.command == "POST":
            return self.write(repository, "/".join(parts[:2]), parts[2:], sent)
        what, ref = (parts[2], parts[3]) if len(parts) > 3 else ("revision", "main")
        sha = repository.refs.get(ref, ref)
        if sha not in repository.commits:
            return self.answer({}, 404, {"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[sha]
        if what == "revision":
            siblings = [{"rfilename": name, **described(name, content)} for name, content in files.items()]
            siblings = [{**one, "blobId": one["oid"]} for one in siblings]
            return self.answer({"id": "x/y", "sha": sha, "private": repository.private, "siblings": siblings})
        if what == "tree":
            return self.answer([{"type": "file", "path": name, **described(name, files[name])} for name in files])
        if repository.gated and not known:
            return self.answer({}, 401, {"X-Error-Code": "GatedRepo"})
        name = "/".join(parts[4:])
        if name not in files:
            return self.answer({}, 404, {"X-Error-Code": "EntryNotFound"})
        etag = described(name, files[name])["oid"]
        return self.answer(files[name], 200, {"ETag": f'"{etag}"', "X-Repo-Commit": sha})

    do_HEAD = do_POST = do_GET

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.server.repositories:
            return self.answer({"url": f"{self.server.address}/{name}"}, 409)
        self.server.repositories[name] = Repository(private=wanted.get("visibility") == "private")
        self.server.repositories[name].commit({".gitattributes": b""})
        return self.answer({"url": f"{self.server.address}/{name}"})

    def write(self, repository: Repository, name: str, parts: list[str], sent: bytes) -> None:
        what, ref = parts
        if repository.refuses:
            return self.answer({"error": "no"}, repository.refuses)
        if what == "branch":
            start = json.loads(sent).get("startingPoint") or repository.refs["main"]
            if ref in repository.refs:
                return self.answer({}, 409)
            repository.refs[ref] = start
            return self.answer({})
        if what == "preupload":
            held = repository.commits[repository.refs[ref]]
            names = [one["path"] for one in json.loads(sent)["files"]]
            found = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            for one in found:
                if one["path"] in held:
                    one["oid"] = git_id(held[str(one["path"])])
            return self.answer({"files": found})
        files = dict(repository.commits[repository.refs[ref]])
        for line in map(json.loads, sent.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            elif value.get("parentCommit", repository.refs[ref]) != repository.refs[ref]:
                return self.answer({"error": "the head has moved"}, 412)
        sha = repository.commit(files, ref)
        url = f"{self.server.address}/{name}/commit/{sha}"
        return self.answer({"success": True, "commitUrl": url, "commitOid": sha})

    def answer(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def described(name: str, content: bytes) -> dict[str, Any]:
    """Size and hashes of a file as the hub gives them: weights lie in large-file storage."""
    found: dict[str, Any] = {"size": len(content), "oid": git_id(content)}
    if name.endswith(".safetensors"):
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"size": len(content), "sha256": digest, "oid": digest, "pointerSize": 134}
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The client's hub is on this machine, its cache empty, and nobody is logged in."""
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


CARD = "# tiny\n\nThe weights are licensed under Apache-2.0.\n"


@pytest.fixture
def model(glyph_artist: TextToImage, tmp_path: Path) -> Path:
    """A released model with a card."""
    return released(glyph_artist, tmp_path / "model", {"card.md": CARD})


def released(artist: TextToImage, folder: Path, texts: dict[str, Any]) -> Path:
    from zaozi.core import schema

    weights = artist.model.state_dict()
    save_folder(model_output(folder), {WEIGHTS: weights}, {CONFIG: schema.written(artist.model.config), **texts})
    return folder


def drawn(name: str | Path, **options: Any) -> bytes:
    return TextToImage.from_pretrained(name, **options)("gold", num_steps=1, seed=3)[0].tobytes()


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_pushed_draws_the_same_pictures_from_any_pinned_revision(
    hub: Hub, token: None, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["push", str(model), "someone/glyphs", "--private", "--message", "the first"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("5 files, ")
    assert said.out.endswith(f" MB: {hub.address}/someone/glyphs\n")
    assert said.err == ""
    there = hub.repositories["someone/glyphs"]
    assert there.private
    first, files = there.refs["main"], there.commits[there.refs["main"]]
    assert files.keys() == {".gitattributes", CONFIG, WEIGHTS, "card.md", README, RECORD}
    metadata, _, card = files[README].decode().removeprefix("---\n").partition("\n---\n")
    assert metadata.splitlines()[:3] == ["library_name: zaozi", "pipeline_tag: text-to-image", "license: apache-2.0"]
    assert card.strip() == CARD.strip()
    assert TOKEN not in json.dumps({k: v.decode("latin-1") for k, v in files.items()})
    there.private = False
    weights = bytearray(files[WEIGHTS])
    weights[-4:] = b"\0\0\0\0"
    there.commit({**{k: v for k, v in files.items() if k != RECORD}, WEIGHTS: bytes(weights)})
    same = drawn(model)
    hub.asked.clear()
    assert drawn(f"someone/glyphs@{first}", allow_download=True) == same
    assert not any(sent for _, _, sent in hub.asked), "the token is for those who need it"
    hub.asked.clear()
    assert drawn(f"someone/glyphs@{first}") == drawn(f"someone/glyphs@{first}", allow_download=True) == same
    assert hub.asked == [], "a commit that is in the cache needs no network"
    there.refs["v1"] = first
    assert find_model("someone/glyphs@v1", allow_download=True).name == first
    assert find_model("someone/glyphs", allow_download=True).name == there.refs["main"] != first


def test_a_command_looks_a_name_up_once_and_a_folder_wins(
    hub: Hub, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = hub.repositories["someone/glyphs"] = Repository()
    repository.commit(files_of(model))
    draw = ["generate", "gold", "--model", "someone/glyphs", "--count", "1", "--steps", "1", "--out", "o"]
    assert main([*draw, "--allow-download"]) == 0
    assert len([path for _, path, _ in hub.asked if "/revision/" in path]) == 1
    used = json.loads((tmp_path / "o" / "run.json").read_text())["sha256"]
    assert list(used.values()) == [read_record(model)[WEIGHTS].sha256]
    assert capsys.readouterr().err == "", "no bar where nobody looks"
    hub.asked.clear()
    assert main(draw) == 0
    assert hub.asked == []
    model.rename(tmp_path / "moved")
    (tmp_path / "someone").mkdir()
    (tmp_path / "moved").rename(tmp_path / "someone" / "glyphs")
    assert find_model("someone/glyphs", allow_download=True) == Path("someone/glyphs")
    assert hub.asked == []


def test_only_a_models_own_files_are_fetched(hub: Hub, model: Path) -> None:
    strange = {
        "model.py": b"1/0",
        "stages/2/evil.py": b"1/0",
        "x.bin": b"",
        "optimizer.pt": b"",
        "unet/w.safetensors": b"",
    }
    repository = hub.repositories["someone/glyphs"] = Repository()
    own = files_of(model)
    record = json.loads(own[RECORD])
    record["files"] |= {name: {"kind": "model", "bytes": 0, "sha256": ""} for name in strange if name.endswith(".py")}
    for listed in (json.dumps(record).encode(), None):
        files = {**own, **strange, RECORD: listed} if listed else {**own, **strange, RECORD: b""}
        if not listed:
            del files[RECORD]
        repository.commit(files)
        hub.asked.clear()
        folder = find_model("someone/glyphs", allow_download=True)
        assert {CONFIG, WEIGHTS} <= hub.files_asked() | {p.name for p in folder.iterdir()}
        assert files_of(folder).keys() == (own.keys() if listed else own.keys() - {RECORD})


def test_every_error_is_one_line_that_says_what_to_do(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = files_of(model)
    for name in ("glyphs", "gated", "private"):
        hub.repositories[f"someone/{name}"] = Repository(gated=name == "gated", private=name == "private")
        hub.repositories[f"someone/{name}"].commit(own)
    hub.repositories["someone/pipeline"] = Repository()
    hub.repositories["someone/pipeline"].commit({"model_index.json": b"{}", "unet/config.json": b"{}"})
    hub.repositories["someone/other"] = Repository()
    hub.repositories["someone/other"].commit({CONFIG: b'{"architectures": ["Bert"]}', WEIGHTS: own[WEIGHTS]})
    hub.repositories["someone/cut"] = Repository()
    hub.repositories["someone/cut"].commit({**own, WEIGHTS: own[WEIGHTS][:-9]})

    def said(name: str, *more: str) -> str:
        assert main(["model", "info", name, *more]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert TOKEN not in line
        return line

    fetch = "--allow-download"
    assert "is no folder here" in (line := said("someone/glyphs"))
    assert fetch in line
    assert hub.asked == []
    assert "there is no 'someone/nothing' on the hub, or it is private" in said("someone/nothing", fetch)
    assert "`hf auth login`" in said("someone/private", fetch)
    assert "there is no revision 'v9' of someone/glyphs" in said("someone/glyphs@v9", fetch)
    assert "someone/gated is gated; ask for access" in (line := said("someone/gated", fetch))
    assert "`hf auth login`" in line
    assert "zaozi import diffusers:someone/pipeline --out MODEL" in said("someone/pipeline", fetch)
    assert hub.files_asked().isdisjoint({"unet/config.json"})
    assert "'someone/other' on the hub is not a model that this zaozi reads" in said("someone/other", fetch)
    assert "damaged on the hub itself: model.safetensors" in said("someone/cut", fetch)
    assert find_model("someone/glyphs", allow_download=True)
    cached = find_model("someone/glyphs") / WEIGHTS
    cached.resolve().write_bytes(own[WEIGHTS][:-9])
    assert "model.safetensors is damaged or cut short; fetch it again with --allow-download" in said("someone/glyphs")
    assert find_model("someone/glyphs", allow_download=True) == cached.parent, "it is fetched again"
    assert cached.read_bytes() == own[WEIGHTS]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in ("gated", "private"):
        assert files_of(find_model(f"someone/{name}", allow_download=True)) == own
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert "there is no 'someone/nothing'" in said("someone/nothing", fetch)
    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE is set" in said("someone/elsewhere", fetch)
        assert find_model("someone/glyphs", allow_download=True) == cached.parent
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the hub cannot be reached" in said("someone/elsewhere", fetch)
    for wrong in ("a/b/c", "a/..", "../b", "a/b@", "a/b@../c", "a b/c", "a@b"):
        assert hub_name(wrong) is None


def test_a_push_replaces_only_what_zaozi_pushed(
    hub: Hub, token: None, model: Path, glyph_artist: TextToImage, tmp_path: Path
) -> None:
    mine = hub.repositories["someone/mine"] = Repository()
    mine.commit({".gitattributes": b"", README: b"my own", "notes.txt": b"mine"})
    with pytest.raises(ZaoziError, match=r"README\.md of someone/mine is not from zaozi; .* --overwrite"):
        push(str(model), "someone/mine", Push())
    with pytest.raises(ZaoziError, match="is public; make it private on its page, or leave out --private"):
        push(str(model), "someone/mine", Push(private=True))
    assert len(mine.commits) == 1
    push(str(model), "someone/mine", Push(overwrite=True))
    head = mine.commits[mine.refs["main"]]
    assert head["notes.txt"] == b"mine"
    bigger = released(glyph_artist, tmp_path / "bigger", {"card.md": CARD + "more", "training.json": []})
    push(str(bigger), "someone/mine", Push())
    assert "training.json" in mine.commits[mine.refs["main"]]
    push(str(model), "someone/mine", Push())  # ours are replaced, and those that are no more are removed
    assert mine.commits[mine.refs["main"]] == head
    count = len(mine.commits)
    push(str(model), "someone/mine", Push())
    assert len(mine.commits) == count, "nothing changed, so there is no commit"
    mine.commit({**head, README: head[README] + b"edited on its page"})
    with pytest.raises(ZaoziError, match=r"README\.md of someone/mine was changed since zaozi wrote it"):
        push(str(model), "someone/mine", Push())
    assert len(mine.commits) == count + 1
    assert "v2" not in mine.refs
    address = push(str(model), "someone/mine", Push(revision="v2", overwrite=True))
    assert address.endswith(f"{hub.address}/someone/mine/commit/{mine.refs['v2']}")
    assert mine.commits[mine.refs["v2"]] == head
    assert mine.commits[mine.refs["main"]] != head


def test_what_cannot_be_pushed_is_named(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        assert main(["push", *words]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert TOKEN not in line
        return line

    assert "there is no token for the hub; run `hf auth login`" in said(str(model), "someone/glyphs")
    assert hub.asked == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "'glyphs' is not a name on the hub" in said(str(model), "glyphs")
    assert "a branch with --revision" in said(str(model), "someone/glyphs@v2")
    repository = hub.repositories["someone/glyphs"] = Repository(refuses=403)
    repository.commit({})
    assert "the token gives no access to someone/glyphs" in said(str(model), "someone/glyphs")
    (model / "card.md").write_text("# edited by hand\n")  # a card may be
    repository.refuses = 412  # somebody else pushed between the check and the commit
    assert "was changed meanwhile; push again" in said(str(model), "someone/glyphs")
    repository.refuses = 0
    assert main(["push", str(model), "someone/glyphs"]) == 0
    assert find_model("someone/glyphs", allow_download=True).name == repository.refs["main"]
    assert b"license" not in repository.commits[repository.refs["main"]][README]
    capsys.readouterr()
    (model / STATE).write_text("{}")
    assert "is a checkpoint of a training run; release it first" in said(str(model), "someone/glyphs")
    (model / STATE).unlink()
    (model / CONFIG).write_text((model / CONFIG).read_text() + " ")
    assert "is damaged" in said(str(model), "someone/glyphs")
    (model / RECORD).unlink()
    assert "has no record of config.json" in said(str(model), "someone/glyphs")


def test_without_the_option_a_name_calls_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any) -> None:
        pytest.fail("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", nobody)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(ZaoziError, match="--allow-download"):
        TextToImage.from_pretrained("someone/glyphs@main")


def test_a_text_encoder_in_the_models_folder_is_pushed_with_it(
    hub: Hub,
    token: None,
    imported: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    push(str(imported), "someone/words", Push())
    there = hub.repositories["someone/words"]
    assert {"text/config.json", "text/model.safetensors", "text/tokenizer.json"} <= there.commits[
        there.refs["main"]
    ].keys()
    assert drawn("someone/words", allow_download=True) == drawn(imported)
    shutil.copytree(imported, tmp_path / "loose")
    record = json.loads((tmp_path / "loose" / RECORD).read_text())
    del record["files"]["text/config.json"]
    (tmp_path / "loose" / RECORD).write_text(json.dumps(record))
    with pytest.raises(ZaoziError, match="reads texts with the folder text, which is not pushed"):
        push(str(tmp_path / "loose"), "someone/words", Push())
