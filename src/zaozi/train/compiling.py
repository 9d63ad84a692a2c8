"""torch.compile: options that make its kernels correct, and a check of what it makes on this machine."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.nn.attention import rotary_table, rotate

NO_SLP = "-fno-tree-slp-vectorize"
"""With this vectorizer, GCC 12 compiles two 32x32 transposes of bf16 in a row wrongly for AVX-512: the gradients of keys become
NaN. The kernels are vectorized by PyTorch itself.
"""


def compile_options(device: torch.device) -> dict[str, Any]:
    """Return the `options` of torch.compile for a device, after compiling a small function with them. Raises `ZaoziError` if
    there is no compiler, or if it gives other results than PyTorch without it.
    """
    options: dict[str, Any] = {}
    if device.type == "cpu" and sys.platform == "linux":
        from torch._inductor.config import cpp

        # the one setting that reaches the compiler's command line unchanged
        options["cpp.march"] = f"{cpp.march or 'native'} {NO_SLP}"
    cos, sin = (table.to(device) for table in rotary_table(8, 64))
    x = torch.cat([sin, cos], dim=1).T.expand(2, 64, 64).contiguous().to(torch.bfloat16)
    try:
        made = torch.compile(_turned, options=options)(x, cos, sin)
    except Exception as error:  # a missing or broken compiler can raise anything
        raise ZaoziError(str(error).splitlines()[0]) from None
    if not torch.allclose(made, _turned(x, cos, sin), atol=0.02):
        raise ZaoziError("its compiler gives wrong results")
    return options


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate transposed x back: the pattern of the gradients of keys with rotary positions."""
    return rotate(x.transpose(1, 2).float(), cos, -sin).to(torch.bfloat16)
