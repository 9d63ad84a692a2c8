"""Before diffusion: a variational autoencoder (VAE) and a generative adversarial network (GAN) for the same glyphs.

Both make a picture in one call of a generator, from `latent` standard normal numbers. They learn glyphs without captions, at half
their resolution, as the model does. `zaozi guide before` trains them.
"""

from __future__ import annotations

import copy
import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zaozi.core.config import Config, Range, config, from_dict, to_dict
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.noise import between, lent_generator, picture_noise, training_generator
from zaozi.core.outputs import Output
from zaozi.core.progress import progress
from zaozi.data.pairs import Pairs
from zaozi.guide.recording import COLUMNS, as_png, recorded
from zaozi.model.checkpoint import read_tensors, save_folder
from zaozi.train.clock import Clock
from zaozi.train.recipes import packaged_recipes

SIDE, LEAST = 64, 4
"""Side of the pictures that are learned, and of the smallest feature map."""
EMA = 0.999
EVERY = 8
"""Steps between two gradient penalties."""
SAVE_SECONDS = 300.0
WEIGHTS, ABOUT, SHEET, COURSE = "generator.safetensors", "before.json", "samples.png", "course.png"
SNAPSHOTS = 8
"""Moments at which drawings are kept: after 1/128 of the time, 1/64, ... and at the end."""


@config()
class BeforeRecipe(Config):
    """How to train one of the two."""

    kind: Literal["vae", "gan"] = "vae"
    latent: Annotated[int, Range(1, 1024)] = 64
    """Standard normal numbers from which a picture is made."""
    widths: tuple[int, ...] = (192, 128, 96, 64, 32)
    """Channels at 4, 8, 16, 32 and 64 pixels."""
    kl: Annotated[float, Range(0)] = 1.0
    """Weight of the Kullback-Leibler divergence in the VAE's loss; 1 is the evidence lower bound."""
    penalty: Annotated[float, Range(0)] = 5.0
    """Weight of the gradient penalty R1 in the loss of the GAN's discriminator."""
    lr: Annotated[float, Range(0)] = 1e-3
    beta1: Annotated[float, Range(0, 1)] = 0.9
    batch_size: Annotated[int, Range(2)] = 64
    max_minutes: Annotated[float, Range(0)] = 60.0
    """Time limit in minutes."""
    steps: Annotated[int, Range(0)] = 0
    """Largest number of steps; 0 for no limit but the time."""
    seed: Annotated[int, Range(0, 2**32)] = 0


def read_before(name: str) -> BeforeRecipe:
    """Read a recipe: 'vae', 'gan', or a TOML file. Raises `ZaoziError` if there is none, or it is wrong."""
    known = packaged_recipes("before")
    path = known.get(name, Path(name))
    if not path.is_file():
        raise unknown("recipe", name, known)
    try:
        return from_dict(BeforeRecipe, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ZaoziError(f"{path} is not TOML ({error}); fix it") from None
    except ZaoziError as error:
        raise ZaoziError(f"{path}: {error}") from None


class Generator(nn.Module):
    """`[B, latent] -> [B, 1, 64, 64]`: logits of the ink's probability."""

    def __init__(self, recipe: BeforeRecipe) -> None:
        super().__init__()
        widths = recipe.widths
        self.first = nn.Linear(recipe.latent, widths[0] * LEAST**2)
        self.up = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)])
        self.last = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.first(z).reshape(len(z), -1, LEAST, LEAST)
        for layer in self.up:
            x = layer(F.interpolate(F.leaky_relu(x, 0.2), scale_factor=2))
        out: Tensor = self.last(F.leaky_relu(x, 0.2))
        return out

    def picture(self, z: Tensor) -> Tensor:
        """Return pictures, black -1 and white 1."""
        return -torch.tanh(self(z) / 2)


class Reader(nn.Module):
    """`[B, 1, 64, 64] -> [B, outputs]`: the VAE's encoder or the GAN's discriminator, the generator's mirror image."""

    def __init__(self, recipe: BeforeRecipe, outputs: int) -> None:
        super().__init__()
        widths = recipe.widths[::-1]
        self.first = nn.Conv2d(1, widths[0], 3, padding=1)
        self.down = nn.ModuleList([nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)])
        self.last = nn.Linear(widths[-1] * LEAST**2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.down:
            x = layer(F.leaky_relu(x, 0.2))
        out: Tensor = self.last(F.leaky_relu(x, 0.2).flatten(1))
        return out


def vae_loss(generator: Generator, reader: Reader, x: Tensor, noise: Tensor, kl: float) -> Tensor:
    """Return the negative evidence lower bound per picture, in nats (Kingma and Welling 2013, arXiv:1312.6114, eqs. 3 and 10).

    `noise` is `[B, latent]`. Grey values count as probabilities of ink.
    """
    mean, logvar = reader(x).chunk(2, 1)
    logits = generator(mean + (0.5 * logvar).exp() * noise)
    ink = (1 - x) / 2
    missed = F.binary_cross_entropy_with_logits(logits, ink, reduction="none").sum((1, 2, 3))
    apart = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1)
    return (missed + kl * apart).mean()


def judge_loss(reader: Reader, fake: Tensor, real: Tensor, penalty: float) -> Tensor:
    """Return the discriminator's loss: softplus(D(fake)) + softplus(-D(real)) (Goodfellow et al. 2014, arXiv:1406.2661, eq. 1),
    and penalty / 2 times the squared gradient at real pictures (R1, Mescheder et al. 2018, arXiv:1801.04406, eq. 9).
    """
    real = real.detach().requires_grad_(penalty > 0)
    said = reader(real)
    loss = F.softplus(reader(fake.detach())).mean() + F.softplus(-said).mean()
    if penalty:
        (slope,) = torch.autograd.grad(said.sum(), real, create_graph=True)
        loss = loss + penalty / 2 * slope.square().sum((1, 2, 3)).mean()
    return loss


def small_glyphs(pairs: Pairs) -> Tensor:
    """Return glyphs at half their resolution, `[N, 1, 64, 64]` uint8. Raises `ZaoziError` unless they have 128 pixels."""
    if pairs.pictures.shape[1:] != (1, 2 * SIDE, 2 * SIDE):
        raise ZaoziError(f"this is for grey glyphs of {2 * SIDE} pixels; build them with zaozi data build")
    parts = [torch.from_numpy(pairs.pictures[at : at + 512].copy()).float() for at in range(0, len(pairs), 512)]
    return torch.cat([F.avg_pool2d(part, 2).round().byte() for part in parts])


class Vae:
    """Trains a generator as the decoder of a variational autoencoder."""

    def __init__(self, recipe: BeforeRecipe) -> None:
        self.recipe, self.generator, self.reader = recipe, Generator(recipe), Reader(recipe, 2 * recipe.latent)
        weights = [*self.generator.parameters(), *self.reader.parameters()]
        self.optimiser = torch.optim.Adam(weights, recipe.lr, (recipe.beta1, 0.99))

    def step(self, number: int, x: Tensor, noise: Tensor) -> float:
        loss = vae_loss(self.generator, self.reader, x, noise, self.recipe.kl)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())


class Gan:
    """Trains a generator against a discriminator, with the non-saturating loss softplus(-D(fake)) (arXiv:1406.2661, sec. 3)."""

    def __init__(self, recipe: BeforeRecipe) -> None:
        self.recipe, self.generator, self.reader = recipe, Generator(recipe), Reader(recipe, 1)
        parts = (self.generator, self.reader)
        self.optimiser, self.judge = (torch.optim.Adam(p.parameters(), recipe.lr, (recipe.beta1, 0.99)) for p in parts)

    def step(self, number: int, x: Tensor, noise: Tensor) -> float:
        fake = self.generator.picture(noise)
        self.judge.zero_grad()
        judge_loss(self.reader, fake, x, 0.0 if number % EVERY else EVERY * self.recipe.penalty).backward()
        self.judge.step()
        self.reader.requires_grad_(False)
        loss = F.softplus(-self.reader(fake)).mean()
        self.reader.requires_grad_(True)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())


METHODS: dict[str, type[Vae] | type[Gan]] = {"vae": Vae, "gan": Gan}


def training(recipe: BeforeRecipe, glyphs: Tensor) -> Iterator[tuple[Generator, float]]:
    """Train on glyphs `[N, 1, 64, 64]` uint8; yields the generator with averaged weights, and the loss, after each step."""
    with lent_generator(recipe.seed, 31):
        method = METHODS[recipe.kind](recipe)
    average = copy.deepcopy(method.generator).eval().requires_grad_(False)
    step = 0
    while True:
        random = training_generator(recipe.seed, step, 31)
        x = glyphs[torch.randint(0, len(glyphs), (recipe.batch_size,), generator=random)].float() / 127.5 - 1
        loss = method.step(step, x, torch.randn(recipe.batch_size, recipe.latent, generator=random))
        step += 1
        share = min(EMA, step / (step + 9))
        with torch.no_grad():
            for old, new in zip(average.parameters(), method.generator.parameters(), strict=True):
                old.lerp_(new, 1 - share)
        yield average, loss


def before_output(folder: Path, *, overwrite: bool = False) -> Output:
    """Return the output folder of a training."""
    return Output(folder, "before", (WEIGHTS, ABOUT, SHEET, COURSE), overwrite=overwrite)


def train_before(recipe: BeforeRecipe, glyphs: Tensor, output: Output) -> int:
    """Train until the time or the steps are over, and write the averaged generator in half precision, also every five
    minutes, with what it draws then (`zaozi.guide.recording`) and has drawn on the way, a row of course.png for each moment
    of `course` in before.json; returns the number of steps. Raises `ZaoziError` as `Output.check`, or if the loss is not a
    number.
    """
    output.check()
    limit, seconds, saved, step = 60 * recipe.max_minutes, 0.0, 0.0, 0
    losses: list[float] = []
    course: list[dict[str, float]] = []
    rows: list[Tensor] = []
    with Clock().listening() as clock, progress(total=round(limit), desc=recipe.kind, unit="s") as bar:
        for step, (generator, loss) in enumerate(training(recipe, glyphs), start=1):
            if math.isnan(loss):
                raise ZaoziError(f"the loss of step {step} is not a number; use a smaller lr than {recipe.lr:g}")
            if step % 100 == 1:
                losses.append(round(loss, 4))
                bar.set_postfix_str(f"step {step}, loss {loss:.3g}")
            seconds += clock.tick()
            bar.update(round(min(seconds, limit)) - bar.n)
            over = seconds >= limit or step == recipe.steps
            if over or seconds >= limit / 2 ** (SNAPSHOTS - 1 - len(rows)):
                rows.append(sampled(generator, range(COLUMNS)))
                course.append({"step": step, "seconds": round(seconds, 1), "loss": round(loss, 4)})
            if over or seconds - saved >= SAVE_SECONDS:
                saved = seconds
                about = {
                    "steps": step,
                    "samples": step * recipe.batch_size,
                    "seconds": round(seconds, 1),
                    "loss": losses,
                    "course": course,
                }
                weights = {name: value.half() for name, value in generator.state_dict().items()}
                drawn = {SHEET: recorded(partial(sampled, generator)), COURSE: as_png(rows)} if rows else {}
                save_folder(output, {WEIGHTS: weights}, {ABOUT: {"recipe": to_dict(recipe), **about}, **drawn})
            if over:
                break
    return step


def read_generator(folder: Path) -> Generator:
    """Read a trained generator. Raises `ZaoziError` if a file is missing or damaged."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        with lent_generator(0):
            generator = Generator(from_dict(BeforeRecipe, about["recipe"]))
        generator.load_state_dict({k: v.float() for k, v in read_tensors(folder / WEIGHTS).items()})
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ZaoziError(f"{folder} is not a training of zaozi guide before ({error})") from None
    return generator.eval().requires_grad_(False)


def sampled(
    generator: Generator, pictures: Sequence[int], shares: Sequence[float] | float = 0.0, seed: int = 0
) -> Tensor:
    """Return pictures `[N, 1, 64, 64]` in [-1, 1], from the noise of their numbers; a share of it is that of the next seed."""
    shape = (generator.first.in_features, 1, 1)
    noise = between(picture_noise(seed, pictures, shape), picture_noise(seed + 1, pictures, shape), shares)
    with torch.no_grad():
        return generator.picture(noise(0).flatten(1))
