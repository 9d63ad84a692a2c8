"""The guide's figures: what they show is what the library computes."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zaozi.cli.main import main
from zaozi.core.components import NetworkConfig
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import DiffusionConfig, ModelConfig, TextConfig
from zaozi.core.sampling import Guidance, Sampling
from zaozi.data.glyphs import build_glyphs
from zaozi.diffusion.prediction import score
from zaozi.diffusion.process import add_noise
from zaozi.diffusion.schedules import schedule
from zaozi.guide.figures import chosen, draw_all, figure, figures
from zaozi.guide.figures.atlas import agreement, nearest
from zaozi.guide.figures.back import candidates, clean_glyphs
from zaozi.guide.figures.forward import learned_score, shape
from zaozi.guide.figures.live import SIDE
from zaozi.guide.figures.paper import as_url
from zaozi.guide.figures.source import Source
from zaozi.model.checkpoint import save_model
from zaozi.model.denoiser import make_denoiser
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.nn.dit import DiTConfig
from zaozi.nn.unet import UNetConfig
from zaozi.pipeline import draw
from zaozi.pipeline.likelihood import likelihood


def test_every_figure_has_a_function_and_a_number() -> None:
    assert sorted({int(name.split("-")[0]) for name in figures}) == list(range(1, 25))
    assert all(callable(figure(name)) for name in figures)
    assert chosen(["15"]) == ["15-guidance-and-steps", "15-radicals"]
    with pytest.raises(ZaoziError, match="unknown figure '25'"):
        chosen(["25"])


def test_figures_without_a_model(tmp_path: Path) -> None:
    for name, files in draw_all(Source(), ["1", "3", "11", "18"], tmp_path):
        assert [path.suffix for path in files] == [".png", ".svg", ".json"], name
    gaussian = json.loads((tmp_path / "01-gaussian.json").read_text())["data"]
    samples = np.array(gaussian["samples"])
    assert gaussian["fit"]["mean"] == pytest.approx(samples.mean(), rel=1e-3)
    joint = json.loads((tmp_path / "11-joint-density.json").read_text())["data"]
    step = joint["grid"][1] - joint["grid"][0]
    for slice_ in [*(s["density"] for s in joint["slices"]), joint["marginal_c"], joint["marginal_x"]]:
        assert sum(slice_) * step == pytest.approx(1.0, abs=1e-3)
    noise = json.loads((tmp_path / "18-independent-noise.json").read_text())["data"]
    covariance = np.array(noise["covariance_independent"])
    assert np.abs(covariance - np.eye(len(covariance))).max() < 0.1
    assert np.diag(np.array(noise["covariance_correlated"]), 1).min() > 0.5


def test_the_score_is_the_gradient_of_the_log_density() -> None:
    density, level = shape(Source(), 60), schedule("cosine").level(200.0)
    x = torch.tensor([[0.3, -0.4], [1.5, 1.5]], dtype=torch.float64).reshape(-1, 1, 1, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_density(x, level).sum(), x)
    assert torch.allclose(gradient, score(density.denoise(x.detach(), level), level), atol=1e-8)


def test_a_small_network_learns_the_score_where_it_was_trained() -> None:
    source = Source()
    network, density = learned_score(source, steps=1500), shape(source, 400)
    level = schedule("cosine").level(600.0)
    x = float(level.alpha) * source.points(300) + float(level.sigma) * source.noise((300, 2), 99).double()
    exact = score(density.denoise(x.reshape(-1, 1, 1, 2), level), level).reshape(-1, 2)
    learned = -network(x.float(), level.noise_share(300)).double() / float(level.sigma)
    assert float((exact - learned).square().mean().sqrt() / exact.square().mean().sqrt()) < 0.3


def test_nearest_is_exact_and_agreement_is_a_share() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    points = torch.from_numpy(rng.standard_normal((300, 5)))
    distance, rows = nearest(points, points, 3)
    assert torch.equal(rows[:, 0], torch.arange(300))
    assert torch.allclose(distance[:, 1], torch.cdist(points, points).sort(1).values[:, 1], atol=1e-6)
    plane = np.concatenate([rng.standard_normal((50, 2)), rng.standard_normal((50, 2)) + 100]).astype(np.float32)
    near, chance = agreement(["a"] * 50 + ["b"] * 50, plane)
    assert near == 1.0
    assert math.isclose(chance, 0.5)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "figures", str(tmp_path), "--only", "1", "--only", "17"]) == 0
    assert "2 figures" in capsys.readouterr().out
    network = json.loads((tmp_path / "17-network.json").read_text())["data"]
    assert sum(block["cross"] for block in network["blocks"]) == 4
    assert main(["guide", "figures", str(tmp_path), "--only", "gaussain"]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.fixture(scope="module")
def live(glyph_model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, dict[str, Any]]:
    """The figures that need a model, drawn with a tiny one, and what their JSON says."""
    folder = tmp_path_factory.mktemp("data") / "glyphs"
    build_glyphs(folder, limit=300, size=32)
    source, out = Source(glyph_model, folder), tmp_path_factory.mktemp("live")
    names = ["2", "5", "6", "8", "9", "10", "12", "14", "15", "16", "21", "22", "23", "24"]
    data = {}
    for name, files in draw_all(source, names, out):
        data[name] = json.loads((out / f"{name}.json").read_text())["data"]
        assert [path.suffix for path in files[:3]] == [".png", ".svg", ".json"]
    return source, data


@pytest.mark.parametrize(
    ("network", "side"),
    [
        (UNetConfig(width=16, depth=1, head_width=16, patch=2, attention_levels=(0, 1)), 16),
        (UNetConfig(width=16, depth=1, head_width=16, patch=2, attention_levels=(1,)), 8),
        (DiTConfig(width=32, depth=2, head_width=16, patch=4, cross_attention=False), 0),
    ],
)
def test_attention_is_shown_of_every_network(tmp_path: Path, network: NetworkConfig, side: int) -> None:
    config = ModelConfig("tiny", 32, 1, network, PixelsConfig(), DiffusionConfig(), TextConfig(max_tokens=16), ())
    save_model(tmp_path / "model", make_denoiser(config))
    for name, _ in draw_all(Source(str(tmp_path / "model")), ["13"], tmp_path):
        data = json.loads((tmp_path / f"{name}.json").read_text())["data"]
    assert [len(step["attention"][0]) for step in data["steps"]] == [side * side] * (20 if side else 0)


@torch.inference_mode()
def test_figures_show_what_direct_calls_return(live: tuple[Source, dict[str, Any]]) -> None:
    source, data = live

    def pictures(prompts: list[str], numbers: list[int], how: Sampling = Sampling()) -> list[str]:
        cond = source.artist.encode(prompts)
        return [as_url(p) for p in draw(source.artist.model, cond, how, pictures=numbers)]

    texts = [d["text"] for d in data["02-real-and-drawn"]["drawn"]]
    assert [d["picture"] for d in data["02-real-and-drawn"]["drawn"]] == pictures(texts, list(range(16)))
    for setting in data["10-films"]["settings"]:
        how = Sampling(setting["steps"], setting["sampler"])
        assert setting["finished"] == pictures(["gold"] * 16, list(range(16)), how)[:4]
    assert data["14-first-guess"]["finished"] == pictures(["gold"] * 4, [0, 1, 2, 3], Sampling(120))
    grid = data["15-guidance-and-steps"]
    for row, steps in zip(grid["pictures"], grid["steps"], strict=True):
        for picture, scale in zip(row, grid["scales"], strict=True):
            assert [picture] == pictures(["gold"], [3], Sampling(steps, guidance=Guidance(scale)))

    words, encoder = data["12-words-as-vectors"], source.artist.encoder
    assert words["tokens"] == encoder.tokens(words["definition"])
    states = encoder.encode([words["definition"]]).tokens[0, :, :128]
    assert np.array(words["states"]) == pytest.approx(states.numpy(), rel=6e-3, abs=1e-6)


def test_candidates_are_those_of_bayes_rule() -> None:
    clean = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    x_t = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    level = schedule("linear_path").level(600.0)
    normal = torch.distributions.Normal(float(level.alpha) * clean.double(), float(level.sigma))
    each = normal.log_prob(x_t.double()).sum((1, 2, 3)).exp()
    torch.testing.assert_close(candidates(x_t, clean, level), each / each.sum(), rtol=1e-5, atol=1e-9)


def test_the_average_is_what_candidates_say(live: tuple[Source, dict[str, Any]]) -> None:
    source, data = live
    said = data["21-candidates"]
    clean = clean_glyphs(source)
    assert len(clean) == len(source.train)
    row = source.train.columns["character"].index(said["character"])
    for line in said["times"]:
        level = source.schedule.level(float(line["time"]))
        x_t = add_noise(clean[row : row + 1], source.noise(tuple(clean[:1].shape), 21), level)
        chances = candidates(x_t, clean, level)
        assert line["candidates"][0]["probability"] == pytest.approx(float(chances.max()), rel=1e-3)
        assert line["average"] == as_url((chances.float()[:, None] * clean.flatten(1)).sum(0).reshape(1, 32, 32))


def test_bits_are_those_of_the_library(live: tuple[Source, dict[str, Any]]) -> None:
    source, data = live
    said = data["22-likelihood"]
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(one["picture"].partition(",")[2])))
        for group in ("real", "drawn", "scribbled")
        for one in said[group]
    ]
    bits = likelihood(source.artist, pictures)
    assert [one["bits"] for group in ("real", "drawn", "scribbled") for one in said[group]] == pytest.approx(
        bits, rel=5e-3
    )


@torch.inference_mode()
def test_sliders_and_ways_show_what_the_model_draws(live: tuple[Source, dict[str, Any]]) -> None:
    source, data = live
    slider, side = data["15-guidance-and-steps"]["slider"], SIDE
    board = np.asarray(Image.open(io.BytesIO(base64.b64decode(slider["sheets"][1]["sheet"].partition(",")[2]))))
    assert board.shape == (len(slider["scales"]) * side, slider["columns"] * side)
    row = slider["scales"].index(5.0)
    drawing = source.artist(slider["sheets"][1]["prompt"], count=2, guidance_scale=5.0)[1].resize((side, side), 0)
    shown = board[row * side : (row + 1) * side, side : 2 * side]
    assert np.abs(shown.astype(int) - np.asarray(drawing)).max() <= 1
    way = data["23-larger"]["rows"][0]
    drawing = source.artist(data["23-larger"]["prompt"], count=1)[0]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(way[-1]["picture"].partition(",")[2]))))
    assert np.abs(shown.astype(int) - np.asarray(drawing)).max() <= 1


@torch.inference_mode()
def test_figures_of_noise_show_what_direct_calls_return(live: tuple[Source, dict[str, Any]]) -> None:
    source, data = live
    for name in ("linear", "cosine"):
        bar = schedule(name).alpha_bar
        assert bar is not None
        assert data["08-schedules"][name]["alpha_bar"] == pytest.approx(bar[::10], rel=1e-4)
    seen = data["09-predictions"]
    x0, cond = source.clean(seen["character"]), source.artist.encode([seen["text"]])
    eps = source.noise(tuple(x0.shape), 9)
    for row in seen["times"]:
        level = source.schedule.level(float(row["time"]))
        x = add_noise(x0, eps, level)
        guess = source.artist.model(x, level, cond)
        assert row["x0_hat"] == as_url(guess.x0)
        assert row["eps_hat"] == as_url(guess.eps, low=-2.5, high=2.5)
        assert row["error"]["x0"] == pytest.approx(float((guess.x0 - x0).square().mean()), rel=1e-4)
    step = data["06-one-step"]
    assert step["factor"] == pytest.approx(math.sqrt(1 - step["beta"]), rel=1e-4)
    assert step["std"] == pytest.approx(math.sqrt(step["beta"]), rel=1e-4)
    for row in data["16-training-step"]["batch"]:
        assert row["loss"] >= 0
