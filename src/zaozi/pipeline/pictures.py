"""Pictures as tensors, bytes and images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def to_bytes(x: Tensor) -> NDArray[np.uint8]:
    """Pictures `[B, C, S, S]` in [-1, 1] as bytes of the same shape; -1 is 0 (black), +1 is 255 (white)."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def to_images(pixels: NDArray[np.uint8]) -> list[Image.Image]:
    """Bytes `[B, C, S, S]` as images, grey or RGB."""
    return [Image.fromarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)) for p in pixels]


def to_pictures(x: Tensor) -> list[Image.Image]:
    """Pictures `[B, C, S, S]` in [-1, 1] as 8-bit images, grey or RGB; -1 is black, +1 white."""
    return to_images(to_bytes(x))


def from_picture(picture: Image.Image, size: int, channels: int, *, paper: str = "white") -> Tensor:
    """A picture as `[1, C, S, S]` in [-1, 1]: resized to fit, cut to a square at its middle, on paper where it is transparent."""
    from zaozi.data.pictures import fitted

    square = fitted(picture, size, "L" if channels == 1 else "RGB", paper=paper)
    pixels = np.atleast_3d(np.asarray(square, np.float32)).transpose(2, 0, 1)
    return torch.from_numpy(pixels / 127.5 - 1.0)[None]


def to_mask(picture: Image.Image, size: int) -> Tensor:
    """What a picture keeps, `[1, 1, S, S]`: 1 where it is white and opaque, else 0."""
    return (from_picture(picture, size, 1, paper="black") > 0).float()
