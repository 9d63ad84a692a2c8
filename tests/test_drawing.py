"""The pipeline and the command line, on a tiny trained model and on the one that ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import fill_randomly
from zaozi import TextToImage, ZaoziError
from zaozi.cli.generate import folder_name
from zaozi.cli.main import main
from zaozi.data.sheet import contact_sheet
from zaozi.model.checkpoint import find_model, load_model, save_model, shipped
from zaozi.model.denoiser import ModelConfig
from zaozi.pipeline import to_pictures

BASE = "base" in shipped()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A tiny training run, made by the command itself."""
    out = tmp_path_factory.mktemp("runs") / "run"
    recipe = out.parent / "tiny.toml"
    recipe.write_text(
        f"""
name = "tiny"
[data]
path = "{tiny_data}"
[network]
width = 32
depth = 2
head_width = 16
patch = 4
[space]
kind = "halved"
width = 4
steps = 3
[train]
batch_size = 8
sample_steps = 0
validate_steps = 0
self_check = false
"""
    )
    assert main(["train", str(recipe), "--out", str(out), "--train.steps", "4"]) == 0
    return out


@pytest.fixture(scope="module")
def artist(run: Path) -> TextToImage:
    """The tiny model with louder weights, so that everything it is told matters."""
    made = TextToImage.from_pretrained(run)
    fill_randomly(made.model.network, 0.2)
    return made


def pixels(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(p) for p in pictures]).astype(int)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp-2m"])
def test_a_picture_depends_on_seed_index_and_prompt_alone(artist: TextToImage, sampler: str) -> None:
    arguments = {"num_steps": 4, "sampler": sampler, "seed": 5}
    together = pixels(artist("gold", count=5, batch_size=5, **arguments))
    pairs = pixels(artist("gold", count=5, batch_size=2, **arguments))
    assert np.abs(together - pairs).max() <= 1
    stream = artist.pictures(["a small song bird that lives in a tree", "gold"], count=2, batch_size=3, **arguments)
    mixed = {(p, i): np.asarray(picture).astype(int) for p, i, picture in stream}
    assert list(mixed) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert np.abs(mixed[1, 1] - together[1]).max() <= 1
    other = pixels(artist("gold", count=1, num_steps=4, sampler=sampler, seed=6))
    assert np.abs(other[0] - together[0]).max() > 1


def test_on_step_sees_consistent_tensors(artist: TextToImage) -> None:
    seen = []
    artist("gold", count=2, num_steps=3, guidance_scale=3.0, on_step=lambda *step: seen.append(step))
    assert [t for t, *_ in seen] == [1000.0, pytest.approx(2000 / 3), pytest.approx(1000 / 3)]
    for t, x, x0, eps in seen:
        level = artist.model.schedule.level(t)
        assert torch.allclose(level.alpha * x0 + level.sigma * eps, x, atol=1e-4)
        assert x0.abs().max() <= 1


def test_pictures_are_brightness() -> None:
    grey, colour = to_pictures(torch.tensor([[[[-1.0, 0.0, 1.0, 3.0]]]])), to_pictures(torch.ones(1, 3, 2, 2))
    assert np.asarray(grey[0]).tolist() == [[0, 128, 255, 255]]
    assert (grey[0].mode, colour[0].mode) == ("L", "RGB")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prompt": " "}, "prompt 0 is empty"),
        ({"count": 0}, "count 0"),
        ({"num_steps": 0}, "0 steps are out of range"),
        ({"num_steps": 1001}, "use 1 to 1000"),
        ({"sampler": "ddmp"}, "did you mean 'ddpm'"),
        ({"grid": "uniforn"}, "did you mean 'uniform'"),
        ({"guidance_scale": -1.0}, "guidance scale"),
        ({"eta": 0.5}, "use it with ddim"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"properties": {"structure": "left-right"}}, "unknown property 'structure'"),
    ],
)
def test_mistakes_are_one_line(artist: TextToImage, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ZaoziError) as error:
        artist(**({"prompt": "gold", "num_steps": 2} | arguments))  # type: ignore[arg-type]
    assert says in str(error.value)
    assert "\n" not in str(error.value)


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_generate_writes_what_it_says(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "prompts.txt").write_text("fish\n\n 魚 \n")
    command = ["generate", "a small, song bird!", "--prompts", "prompts.txt", "--model", str(run), "--count", "3"]
    assert main([*command, "--steps", "2", "--out", "o"]) == 0
    names = sorted(p.relative_to(here / "o").as_posix() for p in (here / "o").rglob("*.png"))
    folders = ["000-a-small-song-bird", "001-fish", "002-魚"]
    assert names == sorted([*(f"{f}/{i}.png" for f in folders for i in range(3)), "sheet.png"])
    record = json.loads((here / "o" / "run.json").read_text())
    assert record["prompts"] == ["a small, song bird!", "fish", "魚"]
    assert len(record["weights"]) == 64
    assert (record["steps"], record["count"], record["seed"]) == (2, 3, 0)
    out = capsys.readouterr().out
    assert "9 pictures in" in out
    assert "sheet.png" in out
    first = (here / "o" / "001-fish" / "0.png").read_bytes()
    assert main(["generate", "fish", "--model", str(run), "--count", "1", "--steps", "2", "--out", "o"]) == 0
    assert sorted(p.name for p in (here / "o").iterdir()) == ["000-fish", "run.json", "sheet.png"]
    assert (here / "o" / "000-fish" / "0.png").read_bytes() == first


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp"])
def test_generate_films(run: Path, here: Path, suffix: str) -> None:
    command = ["generate", "gold", "--model", str(run), "--count", "3", "--steps", "4", "--batch-size", "2"]
    assert main([*command, "--video", f"film.{suffix}"]) == 0
    if suffix == "mp4":
        import av

        with av.open("film.mp4") as film:
            frames = sum(1 for _ in film.decode(video=0))
    else:
        with Image.open(f"film.{suffix}") as film:
            frames = film.n_frames
    assert frames >= 5


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["generate"], 'no prompt was given; try: zaozi generate "gold"'),
        (["generate", "gold", "--model", "bsae"], "unknown model 'bsae'"),
        (["generate", "gold", "--step", "3"], "Unrecognized options"),
        (["generate", "gold", "--count", "many"], "--count"),
        (["generate", "gold", "--video", "x.avi"], "a video's name ends in .mp4"),
        (["generate", "gold", "--prompts", "none.txt"], "cannot read prompts"),
        (["generate", "gold", "--property", "strokes"], "is not NAME=VALUE"),
        (["genrate", "gold"], "did you mean 'generate'"),
        (["data", "biuld"], "did you mean 'data build'"),
        (["data", "build", "--images", "nowhere", "--out", "d"], "nowhere is not a folder"),
        (["data", "build", "--images", "nowhere"], "add --out DIR"),
        (["data", "show", "nowhere"], "nowhere is not a dataset"),
        (["train", "nowhere.toml"], "nowhere.toml is missing"),
        (["train", "bad.toml"], "bad.toml is not TOML"),
        (["train", "misspelt.toml"], "unknown key 'network.widht'; did you mean 'network.width'"),
        (["train", "wrong.toml"], "'train.steps' is 'ten'; it must be int"),
        (["train", "choice.toml"], "did you mean 'unet'"),
        (["train", "good.toml", "--train.stesp", "4"], "--train.steps"),
        (["model", "info", "nowhere"], "unknown model 'nowhere'"),
    ],
)
def test_every_mistake_is_one_line_with_exit_code_2(
    here: Path, capsys: pytest.CaptureFixture[str], command: list[str], says: str
) -> None:
    for name, text in {
        "bad": "[",
        "misspelt": "[network]\nwidht = 3",
        "wrong": '[train]\nsteps = "ten"',
        "choice": '[network]\nkind = "unte"',
        "good": "",
    }.items():
        (here / f"{name}.toml").write_text(text)
    assert main(command) == 2
    caught = capsys.readouterr()
    assert says in caught.err
    assert caught.err.startswith("zaozi: ")
    assert caught.err.count("\n") == 1
    assert caught.out == ""


def test_damaged_models_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model(find_model(str(run)))
    for name, spoil, says in (
        (
            "cut",
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-999]),
            "cut short",
        ),
        ("gone", lambda f: (f / "model.safetensors").unlink(), "is missing"),
        ("config", lambda f: (f / "config.json").write_text("{"), "cannot be read"),
        ("other", lambda f: save_other(f, model.config), "belongs to another network"),
    ):
        save_model(tmp_path / name, model)
        spoil(tmp_path / name)
        assert main(["generate", "gold", "--model", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


def save_other(folder: Path, config: ModelConfig) -> None:
    """Weights of a narrower network beside the old configuration."""
    from dataclasses import replace

    from zaozi.model.denoiser import make_denoiser

    text = (folder / "config.json").read_text()
    save_model(folder, make_denoiser(replace(config, network=replace(config.network, width=16))))
    (folder / "config.json").write_text(text)


def test_a_long_prompt_warns_and_draws(run: Path, here: Path) -> None:
    """A whole process: the warning is one line on stderr, and the exit code is 0."""
    command = [
        sys.executable,
        "-m",
        "zaozi",
        "generate",
        "gold " * 90,
        "--model",
        str(run),
        "--count",
        "1",
        "--steps",
        "1",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("zaozi: warning: the prompt 'gold gold")
    assert "only the first 64 are read" in done.stderr
    assert done.stderr.count("\n") == 1


def test_half_precision_weights_draw_nearly_the_same(run: Path, tmp_path: Path) -> None:
    assert main(["model", "release", str(run), str(tmp_path / "released"), "--name", "small"]) == 0
    small = TextToImage.from_pretrained(tmp_path / "released")
    a, b = (pixels(m("gold", count=2, num_steps=4)) for m in (TextToImage.from_pretrained(run), small))
    assert np.abs(a - b).mean() < 1.0
    assert {p.name for p in (tmp_path / "released").iterdir()} == {
        "card.md",
        "config.json",
        "model.safetensors",
        "recipe.json",
        "training.json",
    }


def test_info_and_help(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "info", str(run)]) == 0
    assert main(["model", "info", "unet-tiny"]) == 0
    assert main(["--help"]) == main(["--version"]) == main([]) == main(["data"]) == 0
    assert main(["generate", "--help"]) == main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "GFLOP a call" in out
    assert "zaozi COMMAND" in out


def test_data_commands(tiny_data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "build", "--limit", "40", "--size", "16", "--out", "g"]) == 0
    assert main(["data", "show", "g", "--count", "5", "--out", "sheet.png"]) == 0
    contact_sheet([[Image.new("L", (16, 16))]], ["two\nlines"])
    assert Image.open("sheet.png").width > 300
    assert "40 pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prompt", "name"),
    [("gold", "003-gold"), ("../../etc", "003-etc"), ("?!", "003-prompt"), ("a" * 90, "003-" + "a" * 40)],
)
def test_folder_names(prompt: str, name: str) -> None:
    assert folder_name(3, prompt) == name


@pytest.mark.skipif(not BASE, reason="no shipped model")
def test_the_shipped_model_is_within_its_budget_and_draws_ink_on_paper() -> None:
    from zaozi.model.info import gflops

    artist = TextToImage.from_pretrained("base")
    assert gflops(artist.model) <= 1.3
    assert sum(p.stat().st_size for p in find_model("base").iterdir()) < 40e6
    made = pixels(artist("gold", count=4, num_steps=12))
    assert made.shape[1:] == (128, 128)
    ink = (made < 128).mean((1, 2))
    assert np.all((ink > 0.05) & (ink < 0.6))
    assert (np.abs(made - 127) > 100).mean() > 0.7  # clean strokes, little grey
    assert np.abs(made[0] - made[1]).mean() > 5
