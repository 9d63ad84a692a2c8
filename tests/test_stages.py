"""Super-resolution stages: from a small picture to a large one, in training, sampling and export."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from conftest import draw_folder, with_train
from zaozi import TextToImage
from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError
from zaozi.core.noise import lent_generator, training_generator
from zaozi.core.recipe import DataConfig, ModelConfig, Recipe, StageConfig
from zaozi.core.sampling import Sampling
from zaozi.core.types import Cond
from zaozi.data.folder import Square, build_folder
from zaozi.data.font import default_font, glyph
from zaozi.export.onnx import export_onnx
from zaozi.model.checkpoint import find_model, load_model, newest, read_config, read_tensors
from zaozi.model.denoiser import make_denoiser
from zaozi.model.fitted import read_space, save_space, space_output
from zaozi.model.info import describe, gflops
from zaozi.model.snap import snapped
from zaozi.model.spaces.autoencoder import AutoencoderConfig
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.model.stage import augmented, check_stage, cropped, enlarged, lowered
from zaozi.nn.dit import DiTConfig
from zaozi.nn.unet import UNetConfig
from zaozi.pipeline import enlarge, from_picture
from zaozi.train.loop import train as train_run
from zaozi.train.prepare import prepare
from zaozi.train.recipes import read_recipe

PLAIN = UNetConfig(
    width=8, depth=1, head_width=8, patch=2, multipliers=(1, 2), attention_levels=(), middle_attention=False,
    cross_attention=False, pooled_text=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def large_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    build_folder(draw_folder(root / "p", 24, size=64), root / "data", Square(64), processes=1)
    return root / "data"


@pytest.fixture
def stage_recipe(tiny_recipe: Recipe, large_data: Path, tmp_path: Path) -> Recipe:
    """A stage from 32 to 64 pixels, of seconds."""
    recipe = replace(
        tiny_recipe,
        name="larger",
        data=DataConfig(path=str(large_data)),
        network=PLAIN,
        space=PixelsConfig(),
        stage=StageConfig(factor=2, crop=32, steps=2),
    )
    return with_train(recipe, out=str(tmp_path / "stage"), save_every=3)


def test_a_smaller_picture_is_the_mean_of_its_pixels_enlarged() -> None:
    x = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    assert torch.allclose(lowered(x, 2), enlarged(torch.nn.functional.avg_pool2d(x, 2), 2))
    assert torch.allclose(lowered(torch.full((1, 1, 8, 8), 0.3), 4), torch.full((1, 1, 8, 8), 0.3))
    noise = torch.ones_like(x)
    lower = augmented(x.repeat(2, 1, 1, 1), torch.tensor([0.0, 0.25]), noise)
    assert torch.equal(lower.picture[0], x[0])
    assert torch.allclose(lower.picture[1], 0.75 * x[0] + 0.25)


def test_crops_lie_on_the_grid_of_the_smaller_picture() -> None:
    x = torch.arange(16.0).repeat(16, 1)[None, None]
    for step in range(6):
        part = cropped(x, 8, 2, training_generator(step))
        assert part.shape == (1, 1, 8, 8)
        assert int(part[0, 0, 0, 0]) % 2 == 0
    assert cropped(x, 0, 2, training_generator(0)) is x


def test_a_condition_takes_its_smaller_picture_along() -> None:
    plain = Cond(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 4))
    cond = replace(
        plain,
        lower=augmented(
            torch.rand(2, 1, 8, 8, generator=training_generator(0)), torch.tensor([0.1, 0.2]), torch.zeros(2, 1, 8, 8)
        ),
    )
    assert cond.lower is not None
    twice = Cond.cat(cond, cond.null())
    assert twice.lower is not None
    assert torch.equal(twice.lower.picture[2:], cond.lower.picture)
    one = cond.take(torch.tensor([1]))
    assert one.lower is not None
    assert torch.equal(one.lower.share, torch.tensor([0.2]))
    assert Cond.cat(plain, plain).lower is None


def test_a_stage_resumes_bit_for_bit_and_enlarges(
    stage_recipe: Recipe, tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    whole = train_run(prepare(stage_recipe, say=said.append))
    assert f"--size 64 --stage {stage_recipe.train.out} --model" in said[-1], "how to draw with it"
    stopped = with_train(stage_recipe, out=str(tmp_path / "stopped"))
    shutil.copytree(stage_recipe.train.out, stopped.train.out)
    shutil.rmtree(tmp_path / "stopped" / "step-00000006")
    again = train_run(prepare(stopped, resume=True, say=lambda _: None))
    a, b = read_tensors(whole / "model.safetensors"), read_tensors(again / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(v, b[k]) for k, v in a.items())

    base = train_run(prepare(tiny_recipe, say=lambda _: None))
    artist = TextToImage.from_pretrained(base, stages=[whole])
    small, large = artist("a disc", num_steps=2), artist("a disc", num_steps=2, size=64)
    assert (small[0].size, large[0].size) == ((32, 32), (64, 64))
    few = artist("a disc", num_steps=2, size=64, count=3, batch_size=1)
    assert np.array_equal(np.asarray(few[2]), np.asarray(artist("a disc", num_steps=2, size=64, count=3)[2])), (
        "as alone"
    )
    command = ["generate", "a disc", "--model", str(base), "--steps", "2", "--count", "2", "--out", str(tmp_path / "o")]
    assert main([*command, "--size", "64", "--stage", str(whole)]) == 0
    assert Image.open(tmp_path / "o" / "000-a-disc" / "0.png").size == (64, 64)
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    assert record["settings"]["stage"] == [str(whole)]
    assert str(whole) in record["sha256"]
    assert main(["generate", "--redo", str(tmp_path / "o" / "run.json"), "--out", str(tmp_path / "again")]) == 0
    names = ["000-a-disc/0.png", "000-a-disc/1.png"]
    assert all((tmp_path / "o" / n).read_bytes() == (tmp_path / "again" / n).read_bytes() for n in names)
    capsys.readouterr()
    assert main([*command, "--size", "64"]) == 2
    assert "pictures of 64 pixels need a stage" in capsys.readouterr().err
    assert main([*command, "--size", "64", "--stage", str(base)]) == 2
    assert "GFLOP" in describe(load_model(whole))


@pytest.fixture
def parts(stage_recipe: Recipe, tiny_recipe: Recipe, tiny_data: Path, tmp_path: Path) -> Path:
    """A released model, a fitted space and a stage, in three folders."""
    train_run(prepare(stage_recipe, say=lambda _: None))
    run = train_run(prepare(tiny_recipe, say=lambda _: None))
    assert main(["model", "release", str(run), str(tmp_path / "released"), "--name", "tiny"]) == 0
    options = ["--space.width", "8", "--space.blocks", "1", "--space.steps", "3", "--data.path", str(tiny_data)]
    assert main(["space", "fit", "test", *options, "--out", str(tmp_path / "space")]) == 0
    return tmp_path


def test_a_model_is_assembled_of_parts(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, stage, space, out = (parts / name for name in ("released", "stage", "space", "whole"))
    options = ["--space-from", str(space), "--stage", str(stage), "--name", "whole"]
    assert main(["model", "assemble", str(base), str(out), *options]) == 0

    artist = TextToImage.from_pretrained(out)
    assert artist("a disc", num_steps=2, size=64)[0].size == (64, 64)
    assert not len(TextToImage.from_pretrained(out, stages=()).stages)
    export_onnx(artist, parts / "onnx")  # raises if a part is off by 1e-3
    about = json.loads((parts / "onnx" / "model.json").read_text())
    assert [one["size"] for one in about["stages"]] == [64]
    assert "stage-64.onnx" in about["files"]
    before, after = read_tensors(base / "model.safetensors"), read_tensors(out / "model.safetensors")
    fitted = read_tensors(space / "space.safetensors")
    assert all(torch.equal(v, after[k]) for k, v in before.items() if not k.startswith("space."))
    assert all(torch.equal(v.half(), after[f"space.{k}"]) for k, v in fitted.items())
    card = (out / "card.md").read_text()
    assert card.startswith("# whole\n")
    assert "The decoder of the space, `halved`, was fitted afterwards: 3 steps" in card
    assert "draws pictures of 64 pixels" in card

    command = ["generate", "a disc", "--model", str(out), "--steps", "2", "--count", "1", "--size", "64"]
    assert main([*command, "--out", str(parts / "o")]) == 0
    record = parts / "o" / "run.json"
    assert f"{out}, stages/64" in json.loads(record.read_text())["sha256"]
    assert main(["generate", "--redo", str(record), "--out", str(parts / "again")]) == 0
    picture = Path("000-a-disc", "0.png")
    assert (parts / "o" / picture).read_bytes() == (parts / "again" / picture).read_bytes()

    assert main(["model", "assemble", str(out), str(parts / "kept")]) == 0
    assert (parts / "kept" / "card.md").read_text() == card
    assert (parts / "kept" / "stages" / "64" / "model.safetensors").is_file()
    again = ["model", "assemble", str(base), str(parts / "third"), "--space-from", str(out), "--name", "whole"]
    assert main(again) == 0, "the space of an assembled model"
    assert "draws pictures of 64" not in (parts / "third" / "card.md").read_text()
    capsys.readouterr()
    weights = out / "stages" / "64" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main([*command, "--out", str(parts / "damaged")]) == 2
    assert "model.safetensors is damaged" in capsys.readouterr().err


def test_the_space_that_ships_belongs_to_the_recipe_and_to_the_model(tmp_path: Path) -> None:
    recipe = read_recipe(Path("base"))
    read_space(recipe.train.space_from, recipe.space)  # raises if its settings differ
    out = tmp_path / "sharp"
    assert main(["model", "assemble", "base", str(out), "--space-from", recipe.train.space_from]) == 0
    picture = glyph("龜", default_font(), 128)
    x = from_picture(picture, 128, 1)
    errors = []
    for name in ("base", str(out)):
        space = load_model(find_model(name)).space
        errors.append(float((space.decode(space.encode(x)) - x).abs().mean()) / 2)
    assert errors[0] == errors[1] < 0.004, "of the range: the model has this decoder already"
    assert not (out / "report.json").exists()
    assert (out / "stages" / "256" / "model.safetensors").is_file()


def test_an_assembled_model_can_snap_further(parts: Path) -> None:
    base, out = parts / "released", parts / "crisp"
    (base / "report.json").write_text("{}")
    assert main(["model", "assemble", str(base), str(out), "--snap", "0.3"]) == 0
    assert not (out / "report.json").exists(), "its pictures are others"
    before, after = load_model(base), load_model(out)
    assert read_config(out).space == replace(before.config.space, snap=0.3)
    x0 = torch.linspace(-1, 1, 256).view(1, 1, 16, 16)
    assert not torch.equal(before.space.decode(x0), after.space.decode(x0))
    assert torch.equal(before.space.decode(snapped(x0, 0.3)), after.space.decode(x0))
    assert main(["model", "assemble", str(out), str(parts / "kept")]) == 0
    assert read_config(parts / "kept").space.snap == 0.3


def test_parts_that_do_not_fit_are_one_line(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, stage, out = (str(parts / name) for name in ("released", "stage", "out"))

    def says(words: str, *arguments: str) -> None:
        capsys.readouterr()
        assert main(["model", "assemble", *arguments]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1

    run = str(next(parts.glob("run/step-*")))
    says("release it first", run, out)
    says("is no super-resolution stage", base, out, "--stage", base)
    says("space.snap", base, out, "--snap", "0.7")
    says("is an input of this command", base, base)
    says("is an input of this command", base, str(parts / "space"), "--space-from", str(parts / "space"), "--overwrite")
    assert main(["model", "assemble", base, out, "--stage", stage]) == 0
    says(
        "enlarges 32 to 64 pixels with 1 channels, and there are 64",
        out,
        str(parts / "two"),
        "--stage",
        stage,
        "--stage",
        stage,
    )
    says("is an input of this command", base, out, "--stage", str(Path(out) / "stages" / "64"))
    config = AutoencoderConfig(factor=2, latent_channels=1, width=8, blocks=1)
    with lent_generator(0):
        other = config.build(1)
    save_space(space_output(parts / "other"), other, config, {"seconds": 0.0}, Image.new("L", (8, 8)))
    says("does not encode pictures as the model's does", base, str(parts / "x"), "--space-from", str(parts / "other"))


def test_a_stage_learns_to_sharpen(stage_recipe: Recipe) -> None:
    """After some seconds of training it is closer to the real pictures than interpolation."""
    recipe = with_train(stage_recipe, steps=400, save_every=0, save_minutes=0.0, batch_size=16)
    recipe = replace(recipe, network=replace(PLAIN, width=16), optim=replace(recipe.optim, warmup=20))  # type: ignore[call-arg]
    run = prepare(recipe, say=lambda _: None)
    stage = load_model(train_run(run))
    real = run.batches.pairs.batch(np.arange(8))
    small = torch.nn.functional.avg_pool2d(real, 2)
    nothing = run.encoder.encode([""] * 8)
    made = enlarge(stage, small, nothing, Sampling(), pictures=range(8), number=1)
    assert (made - real).square().mean() < 0.8 * (enlarged(small, 2) - real).square().mean()


def test_a_stage_is_exported_with_its_smaller_picture(stage_recipe: Recipe, tmp_path: Path) -> None:
    folder = train_run(prepare(stage_recipe, say=lambda _: None))
    export_onnx(TextToImage.from_pretrained(folder), tmp_path / "onnx")  # raises if a part is off by 1e-3
    card = json.loads((tmp_path / "onnx" / "model.json").read_text())
    assert card["stage"]["factor"] == 2
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "denoiser.onnx"), providers=["CPUExecutionProvider"])
    assert {"lower", "lower_share"} <= {given.name for given in session.get_inputs()}


def test_stages_that_do_not_fit_are_one_line(stage_recipe: Recipe, tiny_recipe: Recipe) -> None:
    def says(recipe: Recipe, text: str) -> None:
        with pytest.raises(ZaoziError, match=text):
            prepare(recipe, say=lambda _: None)

    says(
        replace(stage_recipe, network=replace(PLAIN, pooled_text=True)),
        "a stage sees only the smaller picture; remove its properties",
    )
    says(replace(stage_recipe, space=tiny_recipe.space), "a stage draws pixels, not 'halved'")
    says(replace(stage_recipe, stage=StageConfig(factor=3, crop=33)), "pictures of 64 pixels do not divide by")
    says(replace(stage_recipe, stage=StageConfig(factor=2, crop=31)), "stage.crop 31 pixels do not divide by")
    says(
        replace(
            stage_recipe,
            network=DiTConfig(width=32, depth=2, head_width=16, patch=4, cross_attention=False, pooled_text=False),
        ),
        "use network.kind = 'unet'",
    )
    folder = train_run(prepare(stage_recipe, say=lambda _: None))
    artist = TextToImage.from_pretrained(folder)
    with pytest.raises(ZaoziError, match="needs a picture to enlarge"):
        artist("a disc", num_steps=1)
    assert newest(Path(stage_recipe.train.out)) == folder


def test_the_packaged_stage_is_cheap() -> None:
    recipe = read_recipe(Path("upscale"))
    config = ModelConfig("up", 128, 1, recipe.network, recipe.space, recipe.diffusion, recipe.text, (), recipe.stage)
    check_stage(config)
    assert gflops(make_denoiser(config).eval()) < 1.5
    assert recipe.stage.steps <= 4
