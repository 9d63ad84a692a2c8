"""The shipped model draws what it has drawn before: 16 prompts by three samplers, kept as a picture.

After new weights, or a change that is meant to change drawings: python tests/test_neutral.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from zaozi import TextToImage

KEPT = Path(__file__).parent / "data" / "base.webp"
SAMPLERS = ("dpmpp-2m", "ddim", "dpmpp-sde")
PROMPTS = (
    "gold", "a small song bird", "fish", "tree", "clear water", "sickness", "insect", "fire", "mountain", "to speak",
    "bright, light", "dragon", "a door that is open", "grass", "hand", "silk thread",
)  # fmt: skip
SIDE = 128


def drawn(model: TextToImage, sampler: str) -> NDArray[np.uint8]:
    """One row of glyphs, `[SIDE, 16 * SIDE]`."""
    return np.concatenate(
        [np.asarray(model(prompt, num_steps=10, sampler=sampler, seed=7)[0]) for prompt in PROMPTS], 1
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_shipped_model_draws_what_it_drew(sampler: str) -> None:
    row = SAMPLERS.index(sampler)
    kept = np.asarray(Image.open(KEPT).convert("L"))[row * SIDE : (row + 1) * SIDE].astype(float)
    made = drawn(TextToImage.from_pretrained("base", device="cpu"), sampler)
    off = np.abs(made - kept).reshape(SIDE, len(PROMPTS), SIDE).mean((0, 2))
    assert off.max() < 0.5  # of 255: processors round differently


if __name__ == "__main__":
    base = TextToImage.from_pretrained("base", device="cpu")
    rows = np.concatenate([drawn(base, sampler) for sampler in SAMPLERS])
    Image.fromarray(rows).save(KEPT, lossless=True, quality=100, method=6)
