"""Conversion between tensors, uint8 arrays and PIL images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zaozi.core.arrays import Tensor, as_bytes, on, single


def to_bytes(x: Tensor) -> NDArray[np.uint8]:
    """Convert pictures `[B, C, S, S]` in [-1, 1] to uint8 of the same shape; -1 maps to 0 (black), +1 to 255 (white)."""
    return as_bytes(((single(x).clip(-1, 1) + 1) * 127.5).round())


def to_images(pixels: NDArray[np.uint8]) -> list[Image.Image]:
    """Convert a uint8 array `[B, C, S, S]` to PIL images, grayscale or RGB."""
    return [Image.fromarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)) for p in pixels]


def to_pictures(x: Tensor) -> list[Image.Image]:
    """Convert pictures `[B, C, S, S]` in [-1, 1] to 8-bit PIL images, grayscale or RGB; -1 is black, +1 is white."""
    return to_images(to_bytes(x))


def pixels(picture: Image.Image, size: int, channels: int, *, paper: str = "white") -> NDArray[np.float32]:
    """Like `from_picture`, but as a NumPy array."""
    from zaozi.data.pictures import fitted

    square = fitted(picture, size, "L" if channels == 1 else "RGB", paper=paper)
    values = np.atleast_3d(np.asarray(square, np.float32)).transpose(2, 0, 1)
    return (values / np.float32(127.5) - np.float32(1.0))[None]


def mask_pixels(picture: Image.Image, size: int) -> NDArray[np.float32]:
    """Like `to_mask`, but as a NumPy array."""
    return (pixels(picture, size, 1, paper="black") > 0).astype(np.float32)


def from_picture(picture: Image.Image, size: int, channels: int, *, paper: str = "white") -> Tensor:
    """Convert a PIL image to `[1, C, S, S]` in [-1, 1]: resize, center-crop to a square, fill transparency with `paper`."""
    return on(pixels(picture, size, channels, paper=paper), "cpu")


def to_mask(picture: Image.Image, size: int) -> Tensor:
    """Convert a PIL image to a mask `[1, 1, S, S]`: 1 (keep) where it is white and opaque, else 0."""
    return on(mask_pixels(picture, size), "cpu")
