"""What one generator of glyphs draws, as one picture: many samples, and the way from one to another.

The guide compares methods by such recordings, which are the same for each: a VAE, a GAN, and a diffusion model.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.sampling import Guidance, Sampling
from zaozi.pipeline import Edit, TextToImage, draw

COLUMNS, ROWS, WAYS, SIDE = 16, 16, 3, 64
"""Glyphs per row, rows of samples, rows of interpolations, and the side of a glyph in pixels."""
Drawing = Callable[[Sequence[int], Sequence[float]], Tensor]
"""Draws pictures `[B, 1, 64, 64]` in [-1, 1] by number, each with the share of its noise that is another one's."""


def recorded(drawing: Drawing) -> bytes:
    """Return a PNG of 16 x 16 samples, and below it three interpolations of 16 glyphs each."""
    rows = [drawing(range(at, at + COLUMNS), [0.0] * COLUMNS) for at in range(0, ROWS * COLUMNS, COLUMNS)]
    rows += [drawing([way] * COLUMNS, np.linspace(0, 1, COLUMNS).tolist()) for way in range(WAYS)]
    return as_png(rows)


def as_png(rows: Sequence[Tensor]) -> bytes:
    """Return pictures `[B, 1, 64, 64]` in [-1, 1] as one PNG, a row for each of `rows`."""
    board = torch.cat([torch.cat(list(row[:, 0]), -1) for row in rows], -2)
    held = io.BytesIO()
    Image.fromarray(((board + 1) * 127.5).round().clamp(0, 255).byte().numpy()).save(held, "PNG", optimize=True)
    return held.getvalue()


def of_a_model(artist: TextToImage, how: Sampling = Sampling(guidance=Guidance(0.0))) -> Drawing:
    """Return how a model draws without any text, reduced to 64 pixels. Raises `ZaoziError` unless it draws grey glyphs of 128."""
    model = artist.model
    if (model.config.channels, model.config.size) != (1, 2 * SIDE):
        raise ZaoziError(f"this is for models of grey glyphs of {2 * SIDE} pixels")

    def drawing(pictures: Sequence[int], shares: Sequence[float]) -> Tensor:
        cond = artist.encode([""] * len(pictures)).null()
        made = draw(model, cond, how, pictures=pictures, edit=Edit(toward_seed=(how.seed + 1, list(shares))))
        return F.avg_pool2d(made, 2)

    return drawing


@dataclass(frozen=True)
class Recording:
    """A recording that was read: uint8, 255 is white."""

    samples: NDArray[np.uint8]
    """`[256, 1, 64, 64]`"""
    ways: NDArray[np.uint8]
    """`[3, 16, 1, 64, 64]`"""


def read_recording(content: bytes) -> Recording:
    """Read a recording. Raises `ZaoziError` if it is none."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            board = np.asarray(picture.convert("L"))
    except (OSError, ValueError) as error:
        raise ZaoziError(f"this is no recording ({error})") from None
    if board.shape != ((ROWS + WAYS) * SIDE, COLUMNS * SIDE):
        raise ZaoziError(
            f"a recording has {COLUMNS * SIDE}x{(ROWS + WAYS) * SIDE} pixels, not {board.shape[1]}x{board.shape[0]}"
        )
    cells = board.reshape(ROWS + WAYS, SIDE, COLUMNS, SIDE).transpose(0, 2, 1, 3)[:, :, None]
    return Recording(cells[:ROWS].reshape(-1, 1, SIDE, SIDE), cells[ROWS:])
