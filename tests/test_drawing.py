"""The pipeline and the command line, on a tiny trained model and on the one that ships."""

from __future__ import annotations

import copy
import json
import os
import platform
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import fill_randomly
from zaozi import TextToImage, ZaoziError
from zaozi.cli.asked import composition, mask_of, syllable
from zaozi.cli.generate import Drawing
from zaozi.cli.main import main
from zaozi.cli.record import folder_name, nested
from zaozi.core.components import samplers
from zaozi.core.config import from_dict, to_dict
from zaozi.core.recipe import ModelConfig
from zaozi.core.sampling import Editing, Guidance, Sampling
from zaozi.data.sheet import contact_sheet
from zaozi.model.checkpoint import find_model, load_model, save_model, shipped
from zaozi.model.denoiser import make_denoiser
from zaozi.pipeline import Edit, draw, from_picture, to_pictures

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
sample_every = 0
validate_every = 0
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


@pytest.mark.parametrize("sampler", sorted(samplers))
def test_a_picture_depends_on_seed_index_and_prompt_alone(artist: TextToImage, sampler: str) -> None:
    how = Sampling(4, sampler, Guidance(1.5), seed=5)
    together = pixels(artist("gold", how, count=5, batch_size=5))
    pairs = pixels(artist("gold", how, count=5, batch_size=2))
    assert np.abs(together - pairs).max() <= 1
    prompts = ["a small song bird that lives in a tree", "gold"]
    stream = artist.pictures(prompts, replace(how, batch_size=3), count=2)
    mixed = {(p, i): np.asarray(picture).astype(int) for p, i, picture in stream}
    assert list(mixed) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert np.abs(mixed[1, 1] - together[1]).max() <= 1
    other = pixels(artist("gold", how, count=1, seed=6))
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


@pytest.mark.filterwarnings("default:Chinese is read by definition")
def test_generate_writes_what_it_says(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "prompts.txt").write_text("fish\n\n 魚 \n")
    command = ["generate", "a small, song bird!", "--prompts", "prompts.txt", "--model", str(run), "--count", "3"]
    assert main([*command, "--steps", "2", "--out", "o"]) == 0
    names = sorted(p.relative_to(here / "o").as_posix() for p in (here / "o").rglob("*.png"))
    folders = ["000-a-small-song-bird", "001-fish", "002-魚"]
    assert names == sorted([*(f"{f}/{i}.png" for f in folders for i in range(3)), "sheet.png"])
    record = json.loads((here / "o" / "run.json").read_text())
    assert record["prompts"] == ["a small, song bird!", "fish", "魚"]
    assert [len(digest) for digest in record["sha256"].values()] == [64]
    settings = record["settings"]
    assert (settings["sampling"]["steps"], settings["count"], settings["sampling"]["seed"]) == (2, 3, 0)
    assert record["complete"]
    out = capsys.readouterr().out
    assert "9 pictures in" in out
    assert "sheet.png" in out
    first = (here / "o" / "001-fish" / "0.png").read_bytes()
    assert main(["generate", "fish", "--model", str(run), "--count", "1", "--steps", "2", "--out", "o"]) == 0
    assert sorted(p.name for p in (here / "o").iterdir()) == [".zaozi.json", "000-fish", "run.json", "sheet.png"]
    assert (here / "o" / "000-fish" / "0.png").read_bytes() == first
    capsys.readouterr()
    again = ["generate", "bird", "--model", str(run), "--steps", "2", "--init", "o/000-fish/0.png", "--strength", "0.5"]
    assert main([*again, "--out", "o"]) == 2
    assert (
        "o/000-fish/0.png is an input of this command and would be replaced; give another output"
        in capsys.readouterr().err
    )
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
        (["generate", "gold", "--device", "gpu"], "device 'gpu' cannot be used"),
        (["guide", "serve", "--host", "no.such.host.invalid"], "choose another --host"),
        (["data", "show", "--seed", "-1"], "seed -1 is out of range"),
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
        if name in ("cut", "config", "other"):
            assert main(["generate", "gold", "--model", str(tmp_path / name)]) == 2
            assert "is damaged: it is not what zaozi wrote" in capsys.readouterr().err
            (tmp_path / name / ".zaozi.json").unlink()  # as older versions wrote models
        assert main(["generate", "gold", "--model", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


def save_other(folder: Path, config: ModelConfig) -> None:
    """Weights of a narrower network beside the old configuration."""
    from dataclasses import replace

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
        ".zaozi.json",
        "card.md",
        "config.json",
        "history.json",
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


# -- control -------------------------------------------------------------------------------------------------------


def close(a: list[Image.Image], b: list[Image.Image]) -> bool:
    return bool(np.abs(pixels(a) - pixels(b)).max() <= 1)


@pytest.mark.parametrize("page", ["docs/write-a-sampler.md"])
def test_a_new_sampler_is_a_function_and_a_line(
    page: str, glyph_artist: TextToImage, monkeypatch: pytest.MonkeyPatch, glyph_model: str, here: Path
) -> None:
    """The example of the pages that show it, run as it stands."""
    text = (Path(__file__).parent.parent / page).read_text(encoding="utf-8")
    example = textwrap.dedent(text.split("```python")[1].split("```")[0])
    monkeypatch.setattr(samplers, "_known", known := dict(samplers))
    exec(example, {})
    assert "restart" in known
    made = glyph_artist("gold", num_steps=3, sampler="restart", count=2)
    assert not close(made[:1], made[1:])
    assert main(["generate", "gold", "--sampler", "restart", "--model", glyph_model, "--steps", "2"]) == 0


@pytest.mark.parametrize("sampler", list(samplers))
def test_every_sampler_goes_with_every_guidance_and_control(glyph_artist: TextToImage, sampler: str) -> None:
    picture = Image.new("L", (32, 32), "white")
    ways: list[dict[str, object]] = [
        {"guidance": Guidance(4.0, low=0.2, high=0.8)},
        {"guidance": Guidance(4.0, curve="rising", rescale=0.5, threshold="dynamic")},
        {"guidance": Guidance(0.6, plus=True)},
        {"negative": "fish"},
        {"weak": glyph_artist.model},
        {"prompt": {"fire": 1.0, "water": -0.5}},
        {"prompt": "", "properties": {"radical": "167"}},
        {"init": picture, "strength": 0.6},
        {"init": picture, "mask": picture},
        {"toward_seed": (4, 0.5)},
    ]
    for way in ways:
        made = glyph_artist(**({"prompt": "gold", "num_steps": 3, "sampler": sampler} | way))  # type: ignore[arg-type]
        assert made[0].size == (32, 32), way


def test_guidance_applies_in_the_noisier_half_and_scale_0_ignores_the_prompt_everywhere(
    glyph_artist: TextToImage,
) -> None:
    rows: list[int] = []
    count = glyph_artist.model.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    plain = glyph_artist("gold", num_steps=10, count=2)
    unguided = glyph_artist("gold", num_steps=10, count=2, guidance_scale=0)
    count.remove()
    assert rows == [4] * 6 + [2] * 4 + [2] * 10, "the levels 1, 0.9, ... 0.5 are guided"
    assert close(glyph_artist("gold", num_steps=10, count=2, guidance=Guidance(5.0, low=0.5, high=1.0)), plain)
    assert not close(glyph_artist("gold", num_steps=10, count=2, guidance=Guidance(5.0, low=0.0)), plain)
    assert close(glyph_artist("fish", num_steps=10, count=2, guidance_scale=0), unguided)


def test_compositions_of_one_are_the_prompt_itself(glyph_artist: TextToImage) -> None:
    plain = glyph_artist("fire", num_steps=4, count=2)
    assert close(glyph_artist({"fire": 1.0}, num_steps=4, count=2), plain)
    assert close(glyph_artist({"fire": 1.0, "water": 0.0}, num_steps=4, count=2), plain)
    assert not close(glyph_artist({"fire": 1.0, "water": 1.0}, num_steps=4, count=2), plain)
    way = glyph_artist.interpolate("fire", "water", frames=3, num_steps=4)
    assert close(way[:1], plain[:1])
    assert close(way[2:], glyph_artist("water", num_steps=4))
    path = [
        picture
        for _, _, picture in glyph_artist.pictures(
            ["fire"] * 3, Sampling(4), edit=Edit(toward_seed=(5, [0.0, 0.4, 1.0]))
        )
    ]
    assert close(path, [glyph_artist("fire", toward_seed=(5, share), num_steps=4)[0] for share in (0.0, 0.4, 1.0)])
    assert close(path[:1], plain[:1])
    assert close(path[2:], glyph_artist("fire", seed=5, num_steps=4))
    weighted = {"fire": 1.0, "gold": 1.0}
    given = {"structure": "left-right"}
    assert not close(glyph_artist(weighted, num_steps=4, properties=given), glyph_artist(weighted, num_steps=4)), (
        "properties are a direction of their own"
    )


def test_a_list_of_prompts_is_refused_with_one_line(glyph_artist: TextToImage) -> None:
    for prompt in (["fire", "water"], None, 3):
        with pytest.raises(ZaoziError, match="give one text, or texts with weights"):
            glyph_artist(prompt, num_steps=1)


def test_composed_and_plain_prompts_share_a_batch(glyph_artist: TextToImage) -> None:
    prompts = ["gold", {"fire": 1.0, "water": -1.0}]
    together = {p: picture for p, _, picture in glyph_artist.pictures(prompts, Sampling(4))}
    assert close([together[0]], glyph_artist("gold", num_steps=4))
    assert close([together[1]], glyph_artist(prompts[1], num_steps=4))  # type: ignore[arg-type]


def test_what_a_mask_keeps_is_kept(glyph_artist: TextToImage) -> None:
    rng = np.random.Generator(np.random.Philox(0))
    picture = Image.fromarray(rng.integers(0, 256, (32, 32)).astype(np.uint8))
    mask = Image.new("L", (32, 32), "black")
    mask.paste("white", (0, 0, 16, 32))
    made = pixels(glyph_artist("gold", num_steps=5, init=picture, mask=mask, count=2))
    assert np.abs(made[:, :, :16] - np.asarray(picture)[:, :16].astype(int)).max() <= 1
    assert np.abs(made[0, :, 16:] - made[1, :, 16:]).max() > 5


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_of_a_mask_are_not_kept(glyph_artist: TextToImage, tmp_path: Path, mode: str) -> None:
    """White and opaque is kept; black, and transparent whatever its colour, is drawn."""
    mask = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    mask.paste("white", (0, 0, 16, 32))
    mask.paste("black", (0, 0, 16, 4))
    if mode == "LA":
        mask = mask.convert("LA")
    elif mode == "P":
        mask = mask.quantize(4)
    mask.save(tmp_path / "mask.png")
    picture = Image.fromarray(np.random.Generator(np.random.Philox(0)).integers(0, 256, (32, 32)).astype(np.uint8))
    read = mask_of(str(tmp_path / "mask.png"), 32)
    made = pixels(glyph_artist("gold", num_steps=5, init=picture, mask=read))[0]
    same = np.abs(made - np.asarray(picture).astype(int)) <= 1
    assert same[4:, :16].all()
    assert same[:, 16:].mean() < 0.2
    assert same[:4].mean() < 0.2


@pytest.mark.parametrize("sampler", list(samplers))
def test_inpainting_walks_the_known_part_along_its_path(artist: TextToImage, sampler: str) -> None:
    """In the halved space, at every step, before anything is pasted."""
    size = artist.model.config.size
    picture = Image.fromarray(np.random.Generator(np.random.Philox(0)).integers(0, 256, (size, size)).astype(np.uint8))
    mask = Image.new("L", (size, size), "black")
    mask.paste("white", (0, 0, size // 2, size))
    known = artist.model.space.encode(from_picture(picture, size, 1))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    options = {"init": picture, "mask": mask, "sampler": sampler, "num_steps": 4}
    artist("gold", **options, on_step=lambda t, x, x0, eps: seen.append((x, x0)))
    for _, x0 in seen:
        assert torch.allclose(x0[..., : size // 4], known[..., : size // 4], atol=1e-5)


@pytest.mark.parametrize(
    "sampler",
    [name for name in samplers if name not in ("ddpm", "dpmpp-sde", "dpmpp-2m-sde", "heun", "consistency")],
)
def test_cfg_plus_takes_the_guided_picture_and_the_base_noise(glyph_artist: TextToImage, sampler: str) -> None:
    seen: list[tuple[torch.Tensor, ...]] = []
    plus = Guidance(0.7, plus=True)
    glyph_artist("gold", num_steps=4, sampler=sampler, guidance=plus, on_step=lambda *step: seen.append(step))
    (t0, _, x0, eps), (t1, x1, *_) = seen[0], seen[1]
    level = glyph_artist.model.schedule.level(float(t1))
    assert torch.allclose(x1, level.alpha * x0 + level.sigma * eps, atol=1e-4)
    start = glyph_artist.model.schedule.level(float(t0))
    plain = seen[0][1] - start.alpha * x0 - start.sigma * eps
    assert plain.abs().max() > 1e-4 or start.alpha == 0, "the two views are parted"


def test_a_start_is_given_to_every_batch(glyph_artist: TextToImage) -> None:
    noise = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    together = glyph_artist("gold", count=3, num_steps=3, start=noise)
    assert close(glyph_artist("gold", count=3, num_steps=3, start=noise, batch_size=2), together)
    assert close(glyph_artist("gold", count=2, num_steps=3, start=noise[:1])[1:], together[:1])
    with pytest.raises(ZaoziError, match="the start is"):
        glyph_artist("gold", start=noise[..., :16])


def test_mistakes_in_guidance_are_named(glyph_artist: TextToImage, artist: TextToImage) -> None:
    for options, says in (
        ({"guidance": Guidance(5.0, plus=True)}, "CFG"),
        ({"guidance": Guidance(0.4, curve="rising")}, "use 1 or more"),
        ({"guidance": Guidance(-1.0), "init": Image.new("L", (32, 32)), "strength": 0.3}, "scale -1.0 is out of range"),
        ({"guidance": Guidance(5.0, low=0.8, high=0.3)}, "guidance interval"),
        ({"weak": glyph_artist.model, "negative": "fish"}, "choose one"),
        ({"weak": artist.model}, "the weak model has other"),
        ({"properties": {"strokes": "inf"}}, "is not a number"),
    ):
        with pytest.raises(ZaoziError, match=says):
            glyph_artist("gold", num_steps=2, **options)  # type: ignore[arg-type]
    for values, says in (({"curve": "risng"}, "did you mean 'rising'"), ({"threshold": "clmp"}, "mean 'clamp'")):
        with pytest.raises(ZaoziError, match=says):
            Guidance(**values)  # type: ignore[arg-type]


def test_a_weak_model_may_have_been_told_less(glyph_artist: TextToImage) -> None:
    weak = copy.deepcopy(glyph_artist.model)
    weak.config = replace(weak.config, properties=tuple(replace(p, dropout=0.9) for p in weak.config.properties))
    assert close(
        glyph_artist("gold", num_steps=2, weak=weak), glyph_artist("gold", num_steps=2, weak=glyph_artist.model)
    )


def test_little_strength_leaves_much_of_the_picture(glyph_artist: TextToImage) -> None:
    picture = Image.new("L", (32, 32), 64)
    far = [
        np.abs(pixels(glyph_artist("gold", num_steps=20, init=picture, strength=s, guidance_scale=1.0)) - 64).mean()
        for s in (0.05, 0.5, 1.0)
    ]
    assert far[0] < min(far[1:])


@pytest.mark.parametrize("scale", [0.0, 30.0, 100.0])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_nothing_is_ever_not_a_number(glyph_artist: TextToImage, scale: float, steps: int) -> None:
    cond = glyph_artist.encode(["gold", "fish"])
    for name in samplers:
        for threshold in ("clamp", "dynamic", "none"):
            guidance = Guidance(scale, threshold=threshold)  # type: ignore[arg-type]
            x = draw(glyph_artist.model, cond, Sampling(steps, name, guidance), pictures=[0, 1])
            assert torch.isfinite(x).all(), (name, threshold)


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp-sde", "unipc"])
def test_a_thousand_steps_stay_numbers(glyph_artist: TextToImage, sampler: str) -> None:
    cond = glyph_artist.encode(["gold"])
    how = Sampling(1000, sampler, Guidance(100.0, threshold="none"))
    x = draw(glyph_artist.model, cond, how, pictures=[0])
    assert torch.isfinite(x).all()


@pytest.mark.skipif(not BASE, reason="no shipped model")
def test_a_glyph_is_drawn_again_from_its_noise() -> None:
    artist = TextToImage.from_pretrained("base")
    picture = artist("gold", num_steps=10)[0]
    start = artist.invert(picture, "gold", num_steps=25)
    plain = Guidance(1.0, threshold="none")
    again = artist("gold", num_steps=25, sampler="ddim", guidance=plain, start=start)
    assert np.abs(pixels([picture]) - pixels(again)).mean() < 4
    # shorter than N(0, I): where a picture is flat and the model sure of it, nothing is left of the noise to be found
    assert 0.4 < float(start.std()) < 1.1


def test_generate_with_properties_and_weights(glyph_model: str, here: Path) -> None:
    base = ["generate", "--model", glyph_model, "--steps", "2", "--count", "2"]
    assert main([*base, "--compose", "fire", "--compose", "sickness=0.7", "--out", "a"]) == 0
    assert json.loads((here / "a" / "run.json").read_text())["prompts"] == ["fire + 0.7 sickness"]
    asked = ["--structure", "left-right", "--strokes", "12", "--radical", "钅", "--pinyin", "yáng"]
    assert main([*base, *asked, "--out", "b"]) == 0
    label = json.loads((here / "b" / "run.json").read_text())["prompts"][0]
    assert label == "structure left-right, strokes 12.0, radical 167, pinyin_final ang, tone 2, pinyin_initial y"
    assert main([*base, "fire", "--guidance.plus", "--guidance=0.6", "--to-seed", "1", "--video", "way.gif"]) == 0
    assert main([*base, "fire", "--to", "water", "--out", "c"]) == 0
    assert main([*base, "fire", "gold", "--to-seed", "3", "--out", "d"]) == 0
    assert len(list((here / "d").rglob("?.png"))) == 4
    assert main([*base, "fire", "--init", "明", "--strength", "0.5", "--keep", "left", "--out", "e"]) == 0
    guide = ["--guidance.low", "0.1", "--guidance.rescale", "0.3", "--negative", "fish"]
    assert main([*base, "fire", *guide, "--out", "f"]) == 0
    assert main([*base, "fire", "--weak", glyph_model, "--out", "f"]) == 0
    assert syllable("lv4") == syllable("lǜ") == {"pinyin_initial": "l", "pinyin_final": "ü", "tone": "4"}
    assert syllable("yang") == {"pinyin_initial": "y", "pinyin_final": "ang"}
    assert composition(("a=b=0.5", "c", "c=0.5")) == {"a=b": 0.5, "c": 1.5}


def test_a_run_is_redrawn_to_the_same_bytes(glyph_model: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (32, 32), 90).save("start.png")
    (here / "prompts.txt").write_text("fish\ngold\n")
    command = ["generate", "--prompts", "prompts.txt", "--model", glyph_model, "--steps", "3", "--count", "3"]
    options = ["--sampler", "dpmpp-sde", "--init", "start.png", "--strength", "0.7", "--guide.rescale", "0.2"]
    assert main([*command, *options, "--out", "a"]) == 0
    (here / "prompts.txt").unlink()
    assert main(["generate", "--redo", "a/run.json", "--out", "b"]) == 0
    names = sorted(p.relative_to("a") for p in Path("a").rglob("*.png"))
    assert len(names) == 7
    assert all((Path("a") / n).read_bytes() == (Path("b") / n).read_bytes() for n in names)
    assert main(["generate", "--redo=a/run.json", "--init", "明", "--compose", "bird", "--out", "d"]) == 0
    assert json.loads((here / "d" / "run.json").read_text())["prompts"] == ["bird"]
    Image.new("L", (32, 32), 91).save("start.png")
    assert main(["generate", "--redo", "a/run.json", "--out", "c"]) == 2
    assert "start.png is not what it was" in capsys.readouterr().err


def test_every_setting_survives_its_record() -> None:
    changed = Drawing(
        prompt=("a", "b"), compose=("c=0.5",), negative="d", to="e", count=3, weak="w", to_seed=6, model="m", out="o",
        sampling=Sampling(4, "heun", Guidance(0.5, low=0.1, plus=True), 5, "karras", 0.1, batch_size=2, precision="auto"),
        property=("x=y",), structure="s", strokes=7, radical="r", pinyin="p", edit=Editing("i", 0.3, "k"),
        video="v.gif", svg=True, columns=3, device="cpu",
    )  # fmt: skip
    values = json.loads(json.dumps(to_dict(changed)))
    assert from_dict(Drawing, values) == changed
    flat = {key: value for key, value in values.items() if key not in ("sampling", "edit")} | values["edit"]
    flat |= values["sampling"] | {"guidance": 0.5, "guide": {**values["sampling"]["guidance"], "scale": 5.0}}
    assert from_dict(Drawing, nested(flat)) == changed, "as records were written before"


def test_stopped_it_keeps_what_is_drawn(
    glyph_model: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def tired(*arguments: object, **options: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return draw(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("zaozi.pipeline.model.draw", tired)
    assert (
        main(["generate", "gold", "--model", glyph_model, "--steps", "1", "--batch-size", "2", "--count", "9"]) == 130
    )
    record = json.loads((here / "out" / "run.json").read_text())
    assert not record["complete"]
    assert record["files"] == [*(f"000-gold/{i}.png" for i in range(4)), "sheet.png"]
    assert all((here / "out" / name).is_file() for name in record["files"])
    assert "stopped after 4 of 9 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["--compose", "fire=hot"], "has no number after '='"),
        (["fire", "--compose", "water"], "do not go together"),
        (["--compose", "a", "--to", "b"], "--compose and --to do not go together"),
        (["a", "b", "--to", "c"], "--to needs one prompt"),
        (["a", "--to", "c", "--count", "1"], "too few for a way"),
        (["a", "--keep", "left"], "give it with --init"),
        (["a", "--init", "gone.png"], "it is not there"),
        (["a", "--init", "明", "--keep", "lefft"], "neither a side nor a file"),
        (["a", "--init", "明", "--strength", "0"], "strength 0.0 is out of range"),
        (["a", "--init", "明", "--strength", "nan"], "strength nan is out of range"),
        (["a", "--init", "明", "--strength", "inf"], "strength inf is out of range"),
        (["--radical", "清"], "is not a radical"),
        (["--pinyin", "12"], "is not a reading"),
        (["--structure", "left-rihgt"], "did you mean 'left-right'"),
        (["--redo", "gone.json"], "not a record of a run"),
        (["a", "--guide.low", "0.9", "--guide.high", "0.1"], "guidance interval"),
        (["a", "--guide.rescale", "3"], "guidance rescale"),
    ],
)
def test_mistakes_in_control_are_one_line(
    glyph_model: str, here: Path, capsys: pytest.CaptureFixture[str], command: list[str], says: str
) -> None:
    assert main(["generate", *command, "--model", glyph_model, "--steps", "1"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="freed memory is kept with glibc only")
def test_freed_memory_serves_the_next_tensor() -> None:
    script = """
import resource, torch
from zaozi.core.heap import keep_freed_memory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24).sum()  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
assert keep_freed_memory()
faults()
print(usual, faults())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split())
    assert kept < usual / 4, "hardly a page is cleared anew"


def test_without_an_output_folder_the_first_free_one_is_used(run: Path, here: Path) -> None:
    draw = ["generate", "gold", "--model", str(run), "--count", "1", "--steps", "2"]
    assert main(draw) == 0
    assert main(draw) == 0  # replaces its own
    assert sorted(p.name for p in here.iterdir() if p.name.startswith("out")) == ["out"]
    (here / "out" / "sheet.png").write_text("mine")
    (here / "out-2").write_text("mine")
    assert main(draw) == 0
    assert (here / "out" / "sheet.png").read_text() == "mine"
    assert (here / "out-3" / "sheet.png").is_file()


def test_a_strangers_record_decides_nothing_about_where_is_written(run: Path, here: Path) -> None:
    draw = ["generate", "gold", "--model", str(run), "--count", "1", "--steps", "2"]
    assert main([*draw, "--out", "a"]) == 0
    record = json.loads((here / "a" / "run.json").read_text())
    record["settings"] |= {"out": str(here / "stolen"), "video": str(here / "stolen.gif"), "overwrite": True}
    (here / "run.json").write_text(json.dumps(record))
    assert main(["generate", "--redo", "run.json"]) == 0
    assert not list(here.glob("stolen*"))
    assert (here / "out" / "sheet.png").read_bytes() == (here / "a" / "sheet.png").read_bytes()


def test_names_from_strangers_are_only_text_in_a_card(run: Path, here: Path) -> None:
    name = "[x](evil) <img src=x> | `a`\n# big \x1b[31m"
    assert main(["model", "release", str(run), "m", "--name", name]) == 0
    card = (here / "m" / "card.md").read_text()
    assert card.splitlines()[0] == r"# \[x\](evil) \<img src=x\> \| \`a\`\\n# big \\x1b\[31m"
    assert "\x1b" not in card
    assert card.count("\n# ") == 0


def test_precision_is_chosen_and_recorded(glyph_model: str, tmp_path: Path) -> None:
    arguments = ["generate", "gold", "--model", glyph_model, "--steps", "2", "--count", "1"]
    for precision in ("fp32", "bf16"):
        assert main([*arguments, "--precision", precision, "--out", str(tmp_path / precision)]) == 0
    plain, half = (np.asarray(Image.open(tmp_path / p / "000-gold" / "0.png"), float) for p in ("fp32", "bf16"))
    assert np.abs(plain - half).max() > 0
    assert np.abs(plain - half).mean() < 8
    record = json.loads((tmp_path / "bf16" / "run.json").read_text())
    assert record["settings"]["sampling"]["precision"] == "bf16"
    assert main(["generate", "--redo", str(tmp_path / "bf16" / "run.json"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "000-gold" / "0.png").read_bytes() == (
        tmp_path / "bf16" / "000-gold" / "0.png"
    ).read_bytes()
