"""Likelihood: exact on a Gaussian mixture, unbiased with random probes, and its command."""

from __future__ import annotations

import math
import re

import pytest
import torch

from zaozi import TextToImage, ZaoziError
from zaozi.cli.main import main
from zaozi.core.noise import training_generator
from zaozi.core.types import Level
from zaozi.data.font import default_font, glyph
from zaozi.diffusion.likelihood import bits_per_dimension, log_likelihood, path_to_noise
from zaozi.diffusion.mixture import TWO
from zaozi.diffusion.schedules import schedule
from zaozi.pipeline.likelihood import likelihood

PAIR = 2  # dimensions of the mixture


AXES = [math.sqrt(PAIR) * torch.eye(PAIR, dtype=torch.float64)[k] for k in range(PAIR)]


def density(x: torch.Tensor, level: Level) -> torch.Tensor:
    """log p of x_t / alpha, where x_t is of the mixture at a level, `[B]`."""
    alpha = float(level.alpha)
    return TWO.log_density(alpha * x, level) + PAIR * (math.log(alpha) - math.log(2 * math.pi) / 2)


@pytest.mark.parametrize("name", ["linear_path", "cosine", "linear"])
def test_it_is_the_density_of_a_mixture(name: str) -> None:
    path = path_to_noise(schedule(name), 300, 0.05)
    assert float(path[0].sigma) / float(path[0].alpha) == pytest.approx(0.05, rel=1e-3)
    x = TWO.sample(40, torch.Generator().manual_seed(0))
    found = log_likelihood(TWO.denoise, x, path, probes=lambda _: [axis.expand_as(x) for axis in AXES])
    torch.testing.assert_close(found, density(x, path[0]), rtol=0, atol=4e-3)


def test_random_probes_have_its_mean() -> None:
    path = path_to_noise(schedule("linear_path"), 60, 0.05)
    x = TWO.sample(1, torch.Generator().manual_seed(1)).expand(4000, -1, -1, -1)

    def probes(call: int) -> list[torch.Tensor]:
        return [2.0 * torch.randint(0, 2, x.shape, generator=training_generator(0, call)).double() - 1.0]

    exact = log_likelihood(TWO.denoise, x, path, probes=lambda _: [axis.expand_as(x) for axis in AXES])
    made = log_likelihood(TWO.denoise, x, path, probes=probes)
    assert float(made.std()) > 0
    assert float((made - exact).mean().abs()) < 4 * float(made.std()) / math.sqrt(len(x))


def test_one_of_two_distant_points_is_one_bit() -> None:
    noise = 0.1
    grain = noise * torch.randn(50, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alone = (-grain.square() / (2 * noise**2) - math.log(noise * math.sqrt(2 * math.pi))).flatten()
    torch.testing.assert_close(
        bits_per_dimension(alone - math.log(2), grain, noise), torch.ones(50, dtype=torch.float64)
    )


def test_a_model_says_how_likely_pictures_are(glyph_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    artist = TextToImage.from_pretrained(glyph_model)
    pictures = [glyph(char, default_font(), artist.model.config.size) for char in "明一"]
    both = likelihood(artist, pictures, "gold", num_steps=12)
    assert both == likelihood(artist, pictures, "gold", num_steps=12)
    assert both[0] == pytest.approx(likelihood(artist, pictures[:1], "gold", num_steps=12)[0], rel=1e-4)
    assert all(math.isfinite(value) for value in both)
    assert main(["likelihood", "明", "一", "--prompt", "gold", "--steps", "12", "--model", glyph_model]) == 0
    said = capsys.readouterr().out
    assert [float(v) for v in re.findall(r"for 'gold' (\S+)", said)] == pytest.approx(both, abs=1e-3)
    with pytest.raises(ZaoziError, match="2 steps are out of range for a likelihood; use 10 to 1000"):
        likelihood(artist, pictures, num_steps=2)
    with pytest.raises(ZaoziError, match=r"noise 0\.0 is out of range"):
        likelihood(artist, pictures, noise=0.0)
    assert main(["likelihood", "--model", glyph_model]) == 2
    assert "no picture; give files or characters" in capsys.readouterr().err
