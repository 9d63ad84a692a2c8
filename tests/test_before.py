"""What came before diffusion: a VAE and a GAN, trained on the glyphs for comparison."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import fill_randomly
from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError
from zaozi.core.noise import lent_generator
from zaozi.core.sampling import Guidance, Sampling
from zaozi.guide.before import (
    ABOUT,
    SHEET,
    BeforeRecipe,
    Generator,
    Reader,
    before_output,
    judge_loss,
    read_before,
    read_generator,
    sampled,
    train_before,
    training,
    vae_loss,
)
from zaozi.guide.recording import of_a_model, read_recording, recorded
from zaozi.guide.shipped import SITE
from zaozi.model.denoiser import make_denoiser
from zaozi.pipeline import TextToImage

SMALL = {"widths": (24, 16, 16, 8, 8), "latent": 4, "batch_size": 8}


def bars(count: int = 64) -> torch.Tensor:
    """Black bars on white, at random places: a data set that a few steps can learn."""
    x = torch.full((count, 1, 64, 64), 255, dtype=torch.uint8)
    for i, place in enumerate(torch.randint(8, 48, (count,), generator=torch.Generator().manual_seed(1)).tolist()):
        x[i, :, place : place + 8] = 0
    return x


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_the_packaged_recipes_train_for_an_hour_and_are_small(name: str, tmp_path: Path) -> None:
    recipe = read_before(name)
    assert (recipe.kind, recipe.max_minutes) == (name, 60)
    output = before_output(tmp_path / name)
    assert train_before(replace(recipe, steps=10), bars(), output) == 10
    assert (tmp_path / name / "generator.safetensors").stat().st_size < 3e6
    about = json.loads((tmp_path / name / ABOUT).read_text())
    assert (about["steps"], about["samples"]) == (10, 640)
    pictures = sampled(read_generator(tmp_path / name), range(3))
    assert pictures.shape == (3, 1, 64, 64)
    assert pictures.abs().max() <= 1
    assert torch.equal(pictures[1:2], sampled(read_generator(tmp_path / name), [5, 1, 7])[1:2]), (
        "each has its own noise"
    )
    recording = read_recording((tmp_path / name / SHEET).read_bytes())
    assert recording.samples.shape == (256, 1, 64, 64)
    shown = ((pictures + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    assert np.abs(recording.samples[:3].astype(int) - shown).max() <= 1
    assert np.array_equal(recording.ways[:, 0], recording.samples[:3])
    other = sampled(read_generator(tmp_path / name), [0], seed=1)
    assert np.abs(recording.ways[0, -1] / 127.5 - 1 - other[0].numpy()).max() < 0.01, "to the noise of the next seed"
    assert about["course"] == [{"step": 10, "seconds": about["seconds"], "loss": about["course"][0]["loss"]}]


def test_a_vae_learns_what_the_pictures_have_in_common() -> None:
    recipe = BeforeRecipe("vae", **SMALL, lr=5e-3)  # type: ignore[arg-type]
    steps = list(islice(training(recipe, bars()), 150))
    assert steps[-1][1] < 0.2 * steps[0][1], "the bound rises"
    made = sampled(steps[-1][0], range(32))
    assert min(made[:, :, :6].mean(), made[:, :, -6:].mean()) > 0.9, "white above and below"


def test_a_gan_learns_how_much_ink_there_is() -> None:
    recipe = BeforeRecipe("gan", **SMALL, lr=5e-3, beta1=0.0)  # type: ignore[arg-type]
    generator, _ = next(islice(training(recipe, bars()), 299, None))
    made = sampled(generator, range(32))
    assert min(made[:, :, :6].mean(), made[:, :, -6:].mean()) > 0.8, "white above and below"
    assert float((1 - made).mean()) / 2 == pytest.approx(8 / 64, abs=0.05)


def test_the_bound_is_that_of_the_paper() -> None:
    recipe = BeforeRecipe(**SMALL)  # type: ignore[arg-type]
    with lent_generator(1):
        generator, reader = Generator(recipe), Reader(recipe, 8)
    x = bars(2).float() / 127.5 - 1
    noise = torch.randn(2, 4, generator=torch.Generator().manual_seed(2))
    mean, logvar = reader(x).chunk(2, 1)
    z = mean + (logvar / 2).exp() * noise
    ink = torch.distributions.Bernoulli(logits=generator(z)).log_prob((1 - x) / 2).sum((1, 2, 3))
    normal = torch.distributions.Normal
    apart = torch.distributions.kl_divergence(normal(mean, (logvar / 2).exp()), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(vae_loss(generator, reader, x, noise, 1.0), (apart - ink).mean())
    torch.testing.assert_close(vae_loss(generator, reader, x, noise, 0.0), -ink.mean())
    torch.testing.assert_close(generator.picture(z), 1 - 2 * torch.sigmoid(generator(z)), rtol=0, atol=1e-6)


def test_the_penalty_is_the_squared_slope_at_real_pictures() -> None:
    with lent_generator(1):
        reader = Reader(BeforeRecipe(**SMALL), 1).double()  # type: ignore[arg-type]
    real, fake = bars(2).double() / 127.5 - 1, torch.zeros(2, 1, 64, 64, dtype=torch.float64)
    plain, steep = judge_loss(reader, fake, real, 0.0), judge_loss(reader, fake, real, 3.0)
    assert float(plain.detach()) == pytest.approx(2 * math.log(2), abs=0.2), "an untrained judge does not know"
    real.requires_grad_(True)
    (slope,) = torch.autograd.grad(reader(real).sum(), real)
    assert float((steep - plain).detach()) == pytest.approx(1.5 * float(slope.square().sum((1, 2, 3)).mean()), rel=1e-6)


def test_the_same_seed_trains_the_same_network() -> None:
    recipe = BeforeRecipe("gan", **SMALL)  # type: ignore[arg-type]
    one, other = (next(islice(training(recipe, bars()), 4, None))[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def says(words: str, *arguments: str) -> None:
        assert main(["guide", "before", *arguments]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1

    says("unknown recipe 'gann'; did you mean 'gan'?", "gann")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("latents = 3\n")
    says("latent", str(wrong))
    wrong.write_text("[[[\n")
    says("is not TOML", str(wrong))
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / ABOUT).write_text("mine")
    says("before.json", "vae", "--out", str(tmp_path / "o"))
    with pytest.raises(ZaoziError, match="is not a training of zaozi guide before"):
        read_generator(tmp_path)
    recipe = BeforeRecipe("vae", **SMALL, lr=1e6, steps=40)  # type: ignore[arg-type]
    with pytest.raises(ZaoziError, match="is not a number; use a smaller lr"):
        train_before(recipe, bars(), before_output(tmp_path / "nan"))


def test_a_model_of_glyphs_is_recorded_in_the_same_way(glyph_artist: TextToImage) -> None:
    with pytest.raises(ZaoziError, match="grey glyphs of 128 pixels"):
        of_a_model(glyph_artist)
    with lent_generator(0):
        model = make_denoiser(replace(glyph_artist.model.config, size=128)).eval()
        fill_randomly(model.network)
    drawing = of_a_model(TextToImage(model, glyph_artist.encoder), Sampling(1, guidance=Guidance(0.0)))
    recording = read_recording(recorded(drawing))
    assert np.array_equal(recording.ways[:, 0], recording.samples[:3])
    assert not np.array_equal(recording.ways[:, -1], recording.samples[:3])
    with pytest.raises(ZaoziError, match="a recording has 1024x1216 pixels"):
        read_recording((SITE / "share.png").read_bytes())
    with pytest.raises(ZaoziError, match="this is no recording"):
        read_recording(b"no picture")
