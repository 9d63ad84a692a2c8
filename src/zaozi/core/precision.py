"""Precision of network computations."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def fast_in_half(device: torch.device) -> bool:
    """Whether a device multiplies matrices faster in bf16: CUDA GPUs from Ampere on, and CPUs with AMX tiles or
    AVX512-BF16 instructions.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # bool() is False, if torch cannot tell
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in known)


def for_convolutions(wanted: str, device: torch.device) -> str:
    """Return the precision of convolutional networks: `auto` becomes fp32 on CPUs without AMX tiles, where convolutions in
    bf16 are slower.
    """
    import torch

    slow = device.type == "cpu" and not getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    return "fp32" if wanted == "auto" and slow else wanted


def precision(wanted: str, device: torch.device) -> torch.dtype:
    """Return bf16 if requested, or (`auto`) if it is faster on the device."""
    import torch

    if wanted == "auto":
        wanted = "bf16" if fast_in_half(device) else "fp32"
    return torch.bfloat16 if wanted == "bf16" else torch.float32


def name_of(wanted: str, device: torch.device) -> str:
    """Return the precision as it is written: 'bf16' or 'fp32'."""
    return str(precision(wanted, device)).replace("torch.bfloat16", "bf16").replace("torch.float32", "fp32")


def autocast(wanted: str, device: torch.device | None, *, cache: bool = True) -> AbstractContextManager[object]:
    """Return a context in which networks compute in bf16 if requested; a null context for fp32, and if
    `device` is None: NumPy arrays.

    PyTorch keeps converted weights until the context ends, also after an update: use `cache=False` to update weights in it.
    """
    if device is None or wanted == "fp32":
        return nullcontext()
    import torch

    if precision(wanted, device) == torch.bfloat16:
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=cache)
    return nullcontext()
