"""What the program runs on, in words and in watts."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

WATTS_A_CORE, WATTS_A_GPU = 15.0, 700.0
"""Assumed where energy is estimated: a busy server core with its share of memory, and a datacentre GPU."""


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device: str, processes: int = 1) -> str:
    """'1 x NVIDIA H200' or '2 cores of Intel(R) Xeon(R) Processor': a run's processes on 'cuda', 'mps' or 'cpu'."""
    if device == "cuda":
        return f"{processes} x {torch.cuda.get_device_name()}"
    if device == "mps":
        return f"the GPU of {platform.processor() or platform.machine()}"
    return f"{usable_cores()} cores of {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def watt_hours(words: str, seconds: float) -> float:
    """A rough estimate of the energy of a run on such a machine (`machine`'s words)."""
    count = int(first) if (first := words.split(" ", 1)[0]).isdigit() else 1
    watts = count * (WATTS_A_CORE if " cores of " in words else WATTS_A_GPU)
    return watts * seconds / 3600
