"""ONNX Runtime draws what PyTorch draws, through the same functions on NumPy arrays, and without PyTorch in the process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zaozi import Guidance, Sampling, TextToImage, ZaoziError
from zaozi.cli.main import main
from zaozi.core.arrays import averaged, bilinear, lerp
from zaozi.pipeline import Edit, onnx
from zaozi.pipeline.likelihood import likelihood
from zaozi.pipeline.onnx import cache_folder, is_exported

ARGUMENTS = ["generate", "gold", "--count", "2", "--steps", "3", "--guidance", "2", "--strokes", "8"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture
def exports(cache: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The exports made during a test; each is a copy of the files of `zaozi export`."""
    made: list[Path] = []

    def export(model: Path, work: Path) -> None:
        made.append(model)
        for file in (path for path in exported.iterdir() if not path.name.startswith(".")):
            shutil.copyfile(file, work / file.name)

    monkeypatch.setenv("ZAOZI_HOME", str(cache))
    monkeypatch.setattr(onnx, "export", export)
    return made


@pytest.fixture
def folder(exported: Path, exports: list[Path]) -> str:
    return str(exported.parent / "model")


@pytest.fixture
def both(folder: str, halved: TextToImage, monkeypatch: pytest.MonkeyPatch) -> tuple[TextToImage, TextToImage]:
    """The same model in ONNX Runtime and in PyTorch, which reads the text states of the former: their weights are in half
    precision, and this random network amplifies the difference of 1e-3.
    """
    artist = TextToImage.from_pretrained(folder, engine="onnx")
    monkeypatch.setattr(halved.encoder, "encode", lambda texts: artist.encoder.encode(texts).to("cpu"))
    return artist, halved


def apart(a: list[Image.Image], b: list[Image.Image]) -> int:
    """The largest difference, in grey levels."""
    return max(int(np.abs(np.asarray(x, int) - np.asarray(y, int)).max()) for x, y in zip(a, b, strict=True))


HOW = Sampling(6, guidance=Guidance(3.0, low=0.1, rescale=0.3, threshold="dynamic"), seed=3)


@pytest.mark.parametrize(
    "sampler", ["dpmpp-2m", "ddim", "euler", "heun", "unipc", "ddpm", "dpmpp-2m-sde", "consistency"]
)
def test_both_engines_draw_the_same(sampler: str, both: tuple[TextToImage, TextToImage]) -> None:
    given = {"strokes": 8.0, "structure": "single"}
    one, other = (
        each("a small bird", HOW, count=2, sampler=sampler, properties=given, negative="water") for each in both
    )
    assert apart(one, other) <= 1
    assert len({picture.tobytes() for picture in one}) == 2


def test_both_engines_edit_the_same(both: tuple[TextToImage, TextToImage]) -> None:
    """A composition with properties, towards another seed, from a picture of which a half is kept."""
    init = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8))
    mask = Image.fromarray(np.repeat(np.uint8([[255] * 16 + [0] * 16]), 32, 0))
    seen: list[float] = []
    one, other = (
        each(
            {"fire": 1.0, "gold": 0.5},
            HOW,
            count=2,
            properties={"tone": "2"},
            edit=Edit(toward_seed=(9, 0.3)),
            init=init,
            mask=mask,
            strength=0.7,
            on_step=lambda t, x, x0, eps: seen.append(t),
        )
        for each in both
    )
    assert apart(one, other) <= 1
    assert np.array_equal(np.asarray(one[0])[:, :16], np.asarray(init)[:, :16])
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]


def test_it_knows_no_likelihood(folder: str) -> None:
    artist = TextToImage.from_pretrained(folder, engine="onnx")
    with pytest.raises(ZaoziError, match="computes no gradients; use engine='torch'"):
        likelihood(artist, [Image.new("L", (32, 32))])


def test_pictures_are_enlarged_and_averaged_as_by_pytorch() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    tensor, share = torch.from_numpy(x), np.float32([[0.0, 0.3], [0.7, 1.0]]).repeat(4, 0).repeat(4, 1)
    for found, wanted in (
        (bilinear(x, 3), torch.nn.functional.interpolate(tensor, scale_factor=3, mode="bilinear")),  # type: ignore[arg-type]
        (averaged(x, 2), torch.nn.functional.avg_pool2d(tensor, 4)),  # type: ignore[arg-type]
        (lerp(x, -x, share), torch.lerp(tensor, -tensor, torch.from_numpy(share))),  # type: ignore[arg-type]
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_the_command_draws_without_pytorch_and_again_the_same(
    folder: str, exports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` draws with PyTorch until a model has been exported; a run is redone by the engine that drew it."""
    words = [*ARGUMENTS, "--model", folder]
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("ZAOZI_HOME", str(tmp_path / "empty"))
        assert main([*words, "--out", str(tmp_path / "torch")]) == 0
    assert exports == []
    TextToImage.from_pretrained(folder, engine="onnx")
    redo = ["generate", "--redo", str(tmp_path / "a" / "run.json"), "--out", str(tmp_path / "b")]
    code = (
        "import json, sys; from zaozi.cli.main import main; runs = json.loads(sys.argv[1]);"
        "done = [main(run) for run in runs]; sys.exit(any(done) or 'torch' in sys.modules)"
    )
    runs = json.dumps([[*words, "--out", str(tmp_path / "a")], redo])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, runs], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    engines = {
        name: json.loads((tmp_path / name / "run.json").read_text())["settings"]["engine"] for name in ("torch", "a")
    }
    assert engines == {"torch": "torch", "a": "onnx"}
    for picture in ("0.png", "1.png"):
        a, b, c = (tmp_path / name / "000-gold" / picture for name in ("a", "b", "torch"))
        assert a.read_bytes() == b.read_bytes()
        assert apart([Image.open(a)], [Image.open(c)]) <= 8  # the encoder's weights are in half precision
    assert main(["generate", "--redo", str(tmp_path / "torch" / "run.json"), "--out", str(tmp_path / "again")]) == 0
    names = [tmp_path / name / "000-gold" / "0.png" for name in ("torch", "again")]
    assert names[0].read_bytes() == names[1].read_bytes()


@pytest.mark.parametrize(
    "words", [["--weak", "base"], ["--stage", "base"], ["--device", "cuda"], ["--precision", "bf16"]]
)
def test_what_the_engine_cannot_do_is_refused(
    words: list[str], folder: str, exports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*ARGUMENTS, "--model", folder, "--engine", "onnx", "--out", str(tmp_path / "o"), *words]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words[0] in said
    assert "use --engine torch" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_damaged_cache_is_made_again(folder: str, exports: list[Path]) -> None:
    place = cache_folder(Path(folder))
    TextToImage.from_pretrained(folder, engine="onnx")
    before = len(exports)
    with (place / "denoiser.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    assert not is_exported(Path(folder))
    with pytest.warns(UserWarning, match="made again"):
        TextToImage.from_pretrained(folder, engine="onnx")
    assert len(exports) == before + 1
    assert is_exported(Path(folder))


def test_an_export_that_fails_says_why(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(ZaoziError, match=r"cannot be exported \(.*model.*\); use --engine torch"):
        onnx.export(tmp_path / "model", tmp_path)
    assert "half a minute" in capsys.readouterr().out
