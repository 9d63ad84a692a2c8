"""`zaozi likelihood PICTURE...`."""

from __future__ import annotations

import math
from typing import Annotated

import tyro

from zaozi.cli.asked import picture_to_start_from


def likelihood(
    pictures: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE")],
    /,
    prompt: str = "",
    steps: int = 30,
    noise: float = 0.05,
    seed: int = 0,
    model: str = "base",
) -> None:
    """Print how likely a model finds pictures, as the information in them: fewer bits are more likely.

    Args:
        pictures: Files, or characters.
        prompt: What they show; with it, the likelihood for the prompt is printed, too.
        steps: Steps of the probability-flow ODE.
        noise: Standard deviation of the noise on the pictures, which are in [-1, 1]; less noise shows finer faults.
        seed: Seed of this noise and of the random probes.
        model: Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the hub.
    """
    from zaozi.core.errors import ZaoziError
    from zaozi.pipeline import TextToImage
    from zaozi.pipeline.likelihood import likelihood

    if not pictures:
        raise ZaoziError("no picture; give files or characters, such as 明")
    artist = TextToImage.from_pretrained(model)
    size = artist.model.config.size
    shown = [picture_to_start_from(one, size) for one in pictures]
    texts = ("", prompt) if prompt else ("",)
    columns = [likelihood(artist, shown, text, num_steps=steps, noise=noise, seed=seed) for text in texts]
    shape = artist.model.shape
    print(f"bits per dimension of {' x '.join(map(str, shape))}, and bits in all; fewer are more likely")
    for row, name in enumerate(pictures):
        values = [f"{column[row]:.3f} ({column[row] * math.prod(shape):.0f})" for column in columns]
        print(f"{name}: {values[0]}" + "".join(f", for '{prompt}' {value}" for value in values[1:]))
