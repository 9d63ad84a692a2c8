"""One formula for two libraries: what PyTorch and NumPy write differently.

The formulas of `zaozi.diffusion` use operators and methods that tensors and NumPy arrays share, and these functions for the
rest. `Tensor` in their annotations means either. PyTorch is imported only where there are tensors.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from zaozi.core.errors import ZaoziError

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor
    Device = torch.device
else:
    Tensor = Device = Any

P = ParamSpec("P")
R = TypeVar("R")


def library(x: Tensor) -> Any:
    """Return the module whose functions take x: `numpy` or `torch`."""
    if isinstance(x, np.ndarray):
        return np
    import torch

    return torch


def like(value: Any, x: Tensor) -> Tensor:
    """Return a number or an array with the library, type and device of x."""
    if isinstance(x, np.ndarray):
        return np.asarray(value, x.dtype)
    import torch

    tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(value, dtype=torch.float64)
    return tensor.to(x.device, x.dtype)


def on(x: Any, device: Device | str | None) -> Tensor:
    """Return an array as a tensor on a device, or as a NumPy array if `device` is None."""
    if device is None:
        return x if isinstance(x, np.ndarray) else x.numpy(force=True)  # type: ignore[return-value]
    import torch

    return (torch.from_numpy(x) if isinstance(x, np.ndarray) else x).to(device)


def repeated(value: float, count: int, x: Tensor) -> Tensor:
    """Return `[count]` copies of a value, with the library, type and device of x."""
    return np.full(count, value, x.dtype) if isinstance(x, np.ndarray) else x.new_full((count,), value)


def is_real(x: Tensor) -> bool:
    """Whether x holds floating-point numbers."""
    return x.dtype.kind == "f" if isinstance(x, np.ndarray) else x.is_floating_point()


def lerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Return a + share * (b - a), which is exactly a for share 0 and exactly b for share 1."""
    if isinstance(a, np.ndarray):
        return np.where(share < 0.5, a + share * (b - a), b - (b - a) * (1 - share))
    return library(a).lerp(a, b, share)


def longer(x: Tensor, count: int) -> Tensor:
    """Append `count` zeros along the second axis."""
    if isinstance(x, np.ndarray):
        return np.pad(x, [(0, 0), (0, count), *[(0, 0)] * (x.ndim - 2)])
    return library(x).nn.functional.pad(x, (*[0, 0] * (x.ndim - 2), 0, count))


def averaged(x: Tensor, side: int) -> Tensor:
    """Reduce pictures to a smaller side by averaging: `[B, C, S, S] -> [B, C, side, side]`.

    Raises `ZaoziError` if a NumPy array does not divide evenly.
    """
    if not isinstance(x, np.ndarray):
        return library(x).nn.functional.adaptive_avg_pool2d(x, side)
    rows, channels, height, width = x.shape
    if height % side or width % side:
        raise ZaoziError(f"pictures of {height} x {width} do not divide into {side} x {side}; use --engine torch")
    return x.reshape(rows, channels, side, height // side, side, width // side).mean((3, 5), dtype=x.dtype)


def bilinear(x: Tensor, factor: int) -> Tensor:
    """Enlarge pictures by bilinear interpolation between pixel centres, `[B, C, s, s] -> [B, C, factor s, factor s]`."""
    if not isinstance(x, np.ndarray):
        return library(x).nn.functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    from PIL import Image

    side = factor * x.shape[-1]
    planes = x.reshape(-1, *x.shape[2:]).astype(np.float32)
    made = [np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BILINEAR)) for p in planes]
    return np.stack(made).reshape(*x.shape[:2], side, side)


def single(x: Tensor) -> Tensor:
    """Return x in float32."""
    return x.astype(np.float32, copy=False) if isinstance(x, np.ndarray) else x.float()


def as_bytes(x: Tensor) -> NDArray[np.uint8]:
    """Return whole numbers in 0..255 as uint8, a NumPy array."""
    return x.astype(np.uint8) if isinstance(x, np.ndarray) else x.to(library(x).uint8).cpu().numpy()


def without_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function in PyTorch's inference mode, if PyTorch is in use; a decorator."""

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        torch: Any = sys.modules.get("torch")
        with torch.inference_mode() if torch else nullcontext():
            return function(*args, **kwargs)

    return inside
