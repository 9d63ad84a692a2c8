"""What a space keeps of pictures: figures of decoded against real pictures, and a sheet of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from zaozi.core.errors import ZaoziError
from zaozi.data.pairs import Pairs
from zaozi.data.sheet import contact_sheet
from zaozi.evaluate.distances import frechet
from zaozi.evaluate.measure import Reader
from zaozi.evaluate.reference import check_columns, look
from zaozi.evaluate.two_sample import two_sample
from zaozi.model.space import Space, psnr
from zaozi.pipeline import to_bytes, to_images

MOST, SHOWN = 1000, 12
"""Pictures that are measured, and pictures on the sheet."""


@torch.no_grad()
def decoded(space: Space, pairs: Pairs, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return pictures decoded from their encoding, uint8 `[N, C, S, S]`."""
    made = [
        to_bytes(space.decode(space.encode(pairs.batch(rows[start : start + 32])))) for start in range(0, len(rows), 32)
    ]
    return np.concatenate(made)


def reconstruction(space: Space, pairs: Pairs) -> dict[str, Any]:
    """Return figures of up to 1,000 held-out pictures: the peak signal-to-noise ratio (dB); the accuracy of a classifier that
    tells decoded from real pictures (0.5: it cannot); and for glyphs, their Frechet distance in the reference network's
    features.

    Raises `ZaoziError` if there are no held-out pictures.
    """
    if not len(pairs):
        raise ZaoziError("the dataset has no held-out pictures to measure; build a larger one")
    rows = pairs.some(MOST)
    real, made = pairs.pictures[rows], decoded(space, pairs, rows)
    figures: dict[str, Any] = {
        "psnr": round(psnr(space, pairs, MOST), 2),
        "told_apart": two_sample(made, real).text(True),
    }
    try:
        check_columns(pairs)
    except ZaoziError:  # not glyphs
        return figures
    network = Reader().network
    features = [look(network, some).features for some in (made, real)]
    return figures | {"frechet": round(frechet(features[0], features[1]), 2)}


def sheet(space: Space, pairs: Pairs) -> Image.Image:
    """Return a sheet of held-out pictures, real above decoded."""
    rows = pairs.some(SHOWN)
    both = [to_images(pairs.pictures[rows]), to_images(decoded(space, pairs, rows))]
    return contact_sheet(both, ["real", "decoded"], tile=min(both[0][0].width, 128))
