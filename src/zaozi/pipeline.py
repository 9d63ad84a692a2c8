"""From text to pictures: what `import zaozi` gives you."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zaozi.core.config import Property
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.noise import picture_noise
from zaozi.core.types import Cond, Level
from zaozi.diffusion.guidance import cfg, clamped
from zaozi.diffusion.levels import levels
from zaozi.diffusion.samplers import sampler as find_sampler
from zaozi.model.checkpoint import find_model, load_model
from zaozi.model.denoiser import Denoiser
from zaozi.text.encoders import TextEncoder, check_prompts, load_encoder

Watch = Callable[[float, Tensor, Tensor, Tensor], None]
"""`on_step(t, x_t, x0_hat, eps_hat)`: the time before the step and three tensors `[B, C, s, s]`."""


def to_bytes(x: Tensor) -> NDArray[np.uint8]:
    """Pictures `[B, C, S, S]` in [-1, 1] as bytes of the same shape; -1 is 0 (black), +1 is 255 (white)."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def to_images(pixels: NDArray[np.uint8]) -> list[Image.Image]:
    """Bytes `[B, C, S, S]` as images, grey or RGB."""
    return [Image.fromarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)) for p in pixels]


def to_pictures(x: Tensor) -> list[Image.Image]:
    """Pictures `[B, C, S, S]` in [-1, 1] as 8-bit images, grey or RGB; -1 is black, +1 white."""
    return to_images(to_bytes(x))


@torch.inference_mode()
def draw(
    model: Denoiser,
    cond: Cond,
    *,
    pictures: Sequence[int],
    num_steps: int = 20,
    guidance_scale: float = 5.0,
    sampler: str = "dpmpp-2m",
    grid: str = "uniform",
    eta: float = 0.0,
    seed: int = 0,
    on_step: Watch | None = None,
) -> Tensor:
    """Draw one picture a row of `cond`: `[B, C, S, S]` in [-1, 1]. Row r starts from the noise of (seed, pictures[r]).

    Raises `ZaoziError` for steps, scale, eta, seed, sampler or grid out of range.
    """
    sample = find_sampler(sampler)
    if eta:
        if sampler != "ddim" or not 0 <= eta <= 1:
            raise ZaoziError(f"eta {eta} does not suit '{sampler}'; use it with ddim, from 0 to 1")
        sample = partial(sample, eta=eta)
    device = next(model.parameters()).device
    noise = picture_noise(seed, pictures, model.shape, device)
    grid_levels = levels(model.schedule, num_steps, grid)
    denoise = cfg(model, cond.to(device), guidance_scale)
    if model.space.bounds is not None:
        denoise = clamped(denoise, *model.space.bounds)

    def watch(level: Level, x: Tensor, guess: tuple[Tensor, Tensor]) -> None:
        if on_step:
            on_step(float(level.t), x, guess[0], guess[1])

    x = float(grid_levels[0].sigma) * noise(0)
    x0 = sample(denoise, x, grid_levels, noise=noise, on_step=watch)
    return model.space.decode(x0)


def property_values(known: Sequence[Property], asked: Mapping[str, str | float], count: int) -> dict[str, Tensor]:
    """Properties asked for, as a condition's tensors `[count]`. Raises `ZaoziError` for an unknown one or value."""
    by_name = {p.column: p for p in known}
    made = {}
    for name, value in asked.items():
        if name not in by_name:
            raise unknown("property", name, by_name)
        p = by_name[name]
        if p.kind == "class":
            if str(value) not in p.values:
                raise unknown(name, str(value), p.values)
            made[name] = torch.full((count,), p.values.index(str(value)) + 1)
        else:
            try:
                made[name] = torch.full((count,), float(value))
            except ValueError:
                raise ZaoziError(f"{name} '{value}' is not a number; give one, for instance {p.mean:.0f}") from None
    return made


class TextToImage:
    """Draws pictures for prompts.

    >>> model = TextToImage.from_pretrained("base")                            # doctest: +SKIP
    >>> pictures = model("gold", count=16, num_steps=20, guidance_scale=5.0)   # doctest: +SKIP
    """

    def __init__(self, model: Denoiser, encoder: TextEncoder) -> None:
        self.model = model
        self.encoder = encoder

    @classmethod
    def from_pretrained(cls, name: str | Path = "base", *, device: str | None = None) -> TextToImage:
        """A shipped model by name, or the folder of one of your own, on `device` (a GPU where there is one).

        Raises `ZaoziError` where there is no such model or its files are damaged.
        """
        model = load_model(find_model(str(name)))
        text = model.config.text
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(device), load_encoder(text.encoder, text.max_tokens))

    def encode(self, prompts: Sequence[str], properties: Mapping[str, str | float] | None = None) -> Cond:
        """The condition of some prompts, one row each; the same properties for all."""
        cond = self.encoder.encode(prompts)
        given = property_values(self.model.config.properties, properties or {}, len(prompts))
        return Cond(cond.tokens, cond.mask, cond.pooled, given)

    def pictures(
        self,
        prompts: Sequence[str],
        *,
        count: int = 1,
        properties: Mapping[str, str | float] | None = None,
        batch_size: int = 16,
        **options: Any,
    ) -> Iterator[tuple[int, int, Image.Image]]:
        """(p, i, picture) for picture i of prompt p, in order, drawn `batch_size` at a time across prompts.

        `options` are those of `draw`. Picture i of a prompt depends on (seed, i, prompt) alone, whatever the batch size.
        """
        if count < 1 or batch_size < 1:
            raise ZaoziError(f"count {count} or batch size {batch_size} is out of range; use 1 or more")
        check_prompts(self.encoder, prompts)
        todo = [(p, i) for p in range(len(prompts)) for i in range(count)]
        for start in range(0, len(todo), batch_size):
            part = todo[start : start + batch_size]
            distinct = sorted({p for p, _ in part})
            cond = self.encode([prompts[p] for p in distinct], properties)
            rows = torch.tensor([distinct.index(p) for p, _ in part])
            x = draw(self.model, cond.take(rows), pictures=[i for _, i in part], **options)
            for (p, i), picture in zip(part, to_pictures(x), strict=True):
                yield p, i, picture

    def __call__(
        self,
        prompt: str,
        *,
        count: int = 1,
        num_steps: int = 20,
        guidance_scale: float = 5.0,
        sampler: str = "dpmpp-2m",
        grid: str = "uniform",
        eta: float = 0.0,
        seed: int = 0,
        properties: Mapping[str, str | float] | None = None,
        batch_size: int = 16,
        on_step: Watch | None = None,
    ) -> list[Image.Image]:
        """`count` pictures for one prompt. `on_step(t, x_t, x0_hat, eps_hat)` watches every step of every batch.

        Raises `ZaoziError` for an empty prompt or anything out of range.
        """
        made = self.pictures(
            [prompt],
            count=count,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            sampler=sampler,
            grid=grid,
            eta=eta,
            seed=seed,
            properties=properties,
            batch_size=batch_size,
            on_step=on_step,
        )
        return [picture for _, _, picture in made]
