"""The quick model of the page: a student's denoiser beside the model's, and what keeps one from it."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import fill_randomly
from zaozi import TextToImage, ZaoziError
from zaozi.cli.main import main
from zaozi.core.files import sha256
from zaozi.export.onnx import parts
from zaozi.guide import build as building
from zaozi.guide import compact, quick
from zaozi.model import checkpoint
from zaozi.model.checkpoint import CONFIG, SHIPPED, WEIGHTS

DISTILLED = {"steps": 2, "guidance": 4.0, "model": "base"}


def made(folder: Path, name: str = "fast", distilled: dict[str, Any] = DISTILLED, **other: Any) -> Path:
    """A copy of the bundled model that says it was distilled, with other weights in its network."""
    folder.mkdir(parents=True)
    config = json.loads((SHIPPED / "base" / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"name": name, "distilled": distilled} | other))
    weights = load_file(SHIPPED / "base" / WEIGHTS)
    weights["network.last.bias"] = weights["network.last.bias"] + 0.25
    save_file(weights, folder / WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("student") / "fast")


def card(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / compact.CARD).read_text())
    return read


def test_the_bundled_graph_with_other_weights_answers_as_pytorch_does() -> None:
    from onnxruntime import InferenceSession

    artist = TextToImage.from_pretrained("base", device="cpu")
    fill_randomly(artist.model.network, 0.05)
    state = {name: w.numpy() for name, w in artist.model.state_dict().items()}
    session = InferenceSession(quick.filled(state))
    compact.use_compact_weights(artist.model)
    name, module, arguments, inputs, _ = parts(artist)[0]
    assert name == "denoiser"
    flat = [v for a in arguments for v in (a if isinstance(a, list) else [a])]
    found = session.run(None, {n: v.numpy() for n, v in zip(inputs, flat, strict=True)})
    with torch.no_grad():
        wanted = module(*arguments)
    for a, b in zip(found, wanted, strict=True):
        assert np.abs(a - b.numpy()).max() < 2e-3
    del state["network.last.bias"]
    with pytest.raises(ValueError, match=r"network\.last\.bias is missing"):
        quick.filled(state)


def test_a_page_with_a_student_has_its_denoiser_and_says_so(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = compact.compact_model("base")
    monkeypatch.setattr(compact, "packed", lambda data: gzip.compress(data, 1, mtime=0))  # which takes less time
    assert main(["guide", "build", str(tmp_path / "site"), "--quick", str(student), "--no-figures"]) == 0
    folder = tmp_path / "site" / "model"
    told = card(folder)
    about = told.pop("quick")
    extra = told["files"].pop(about["file"])
    assert told == card(plain)
    assert about["name"] == "fast"
    assert {key: about["distilled"][key] for key in DISTILLED} == DISTILLED
    assert extra == {"bytes": (folder / about["file"]).stat().st_size, "sha256": sha256(folder / about["file"])}
    assert about["file"] == f"fast-{extra['sha256'][:12]}.onnx.gz"
    names = {p.name for p in folder.iterdir()} - {"model.json.gz"}
    assert names == {p.name for p in plain.iterdir() if not p.name.startswith(".")} | {about["file"]}
    for name in told["files"]:
        assert (folder / name).read_bytes() == (plain / name).read_bytes()


def test_a_page_without_a_student_is_as_it_was() -> None:
    assert quick.page_model("base", "none") == compact.compact_model("base")
    told = card(compact.compact_model("base"))
    assert not {"quick", "distilled"} & told.keys()
    first, *_ = sorted(told["files"])
    assert first == "decoder.onnx.gz"


def test_the_packaged_student_goes_with_the_model_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(SHIPPED / "base", weights / "base")
    monkeypatch.setattr(checkpoint, "SHIPPED", weights)
    assert quick.find_student("base") is None, "there is none"
    packaged = made(weights / "fast")
    other = made(tmp_path / "other", "other", {})
    assert quick.find_student("base") == packaged
    assert quick.find_student("base", "none") is None
    assert quick.find_student(str(other)) is None, "it was made from another model"
    assert quick.find_student(str(packaged)) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distilled": {}}, "is not distilled, so it is not quick"),
        ({"text": {"encoder": "minilm", "max_tokens": 16, "width": 384}}, "differ in text"),
        ({"properties": []}, "differ in properties"),
    ],
)
def test_a_student_that_cannot_share_is_refused_in_one_line(
    changes: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "fast", **changes)
    assert main(["guide", "build", str(tmp_path / "site"), "--quick", str(folder), "--no-figures"]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
    assert not (tmp_path / "site").exists()


def test_a_student_with_another_decoder_is_refused(student: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fast"
    shutil.copytree(student, folder)
    weights = load_file(folder / WEIGHTS)
    name = next(name for name in weights if name.startswith("space."))
    weights[name] = weights[name] + 0.1
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ZaoziError, match="differ in the weights of the space"):
        quick.find_student("base", str(folder))


def test_a_student_may_snap_further(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sketches are decoded as the model's pictures; on a page of its own it has its own decoder."""
    folder = tmp_path / "fast"
    shutil.copytree(student, folder)
    config = json.loads((folder / CONFIG).read_text())
    config["space"]["snap"] = 0.3
    (folder / CONFIG).write_text(json.dumps(config))
    assert quick.find_student("base", str(folder)) == folder

    crisp = tmp_path / "crisp"
    shutil.copytree(SHIPPED / "base", crisp)
    (crisp / ".zaozi.json").unlink()
    (crisp / CONFIG).write_text(json.dumps(config))

    def others(_: TextToImage) -> None:
        raise ZaoziError("exported, not taken from the bundle")

    monkeypatch.setattr("zaozi.guide.skeletons.skeletons", others)
    with pytest.raises(ZaoziError, match="exported"):
        compact.compact_model(str(crisp))


def test_the_page_of_a_student_knows_how_it_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fast"
    shutil.copytree(SHIPPED / "base", folder)
    config = json.loads((folder / CONFIG).read_text())
    (folder / ".zaozi.json").unlink()
    (folder / CONFIG).write_text(json.dumps(config | {"distilled": DISTILLED}))
    monkeypatch.setenv("ZAOZI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(compact, "packed", lambda data: gzip.compress(data, 1, mtime=0))  # which takes less time
    told = card(compact.compact_model(str(folder)))
    assert {key: told["distilled"][key] for key in DISTILLED} == DISTILLED
    monkeypatch.setattr(
        building, "_drawn", lambda *_: pytest.fail("figures show guidance, which a student does not take")
    )
    monkeypatch.setattr(building, "browser_model", compact.compact_model)
    monkeypatch.setattr(building, "compress", lambda folder: None)
    building.build(tmp_path / "site", str(folder), pictures=building.Pictures(redraw=True))
    assert (tmp_path / "site" / "figures" / "01-gaussian.svg").is_file()
