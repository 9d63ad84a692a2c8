"""torch.compile: settings that make its kernels correct, and a check of what it makes on this machine."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError

NO_SLP = "-fno-tree-slp-vectorize"
"""With this vectorizer, GCC 12 compiles two 32x32 transposes of bf16 in a row wrongly for AVX-512: the gradients of keys become
NaN. The kernels are vectorized by PyTorch itself.
"""


def check_compiler(device: torch.device) -> None:
    """Set the compiler's flags for CPU kernels, and compile a small function. Raises `ZaoziError` if there is no compiler, or if
    it gives other results than PyTorch without it.
    """
    if device.type == "cpu" and sys.platform == "linux":
        import torch._inductor.config as settings

        flags = settings.cpp.march or "native"  # the one setting that reaches the compiler's command line unchanged
        if NO_SLP not in flags:
            settings.cpp.march = f"{flags} {NO_SLP}"
    angle = torch.arange(64 * 32, device=device).reshape(64, 32) / 300.0
    x = torch.cat([angle.sin(), angle.cos()], dim=1).T.expand(2, 64, 64).contiguous().to(torch.bfloat16)
    try:
        made = torch.compile(_turned)(x, angle.cos(), angle.sin())
    except Exception as error:  # a missing or broken compiler can raise anything
        raise ZaoziError(str(error).splitlines()[0]) from None
    if not torch.allclose(made, _turned(x, angle.cos(), angle.sin()), atol=0.02):
        raise ZaoziError("its compiler gives wrong results")


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the halves of transposed x: the pattern of the gradients of keys with rotary positions."""
    a, b = x.transpose(1, 2).float().chunk(2, dim=-1)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1).to(torch.bfloat16)
