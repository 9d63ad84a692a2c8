"""The peers, each in a module named after it: what its own training example does, around its own network."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import import_module

from benchmarks.contestant import Contestant, Setup
from benchmarks.imports import t5_without_download
from zaozi.core.errors import ZaoziError

PEERS = {
    "text_to_image": "diffusers",
    "ddpm": "denoising_diffusion_pytorch",
    "imagen": "imagen_pytorch",
    "glyffuser": "diffusers",
}
"""Module -> the package that it needs."""
Build = Callable[[Setup], list[Contestant]]


def builders(name: str) -> tuple[Build, Build]:
    """Return the functions that build a peer at equal cost and at its own width. Raises `ZaoziError` if it is not installed."""
    package = PEERS[name]
    if importlib.util.find_spec(package) is None:
        raise ZaoziError(f"{package} is not installed; run: make bench")
    with t5_without_download():
        module = import_module(f"benchmarks.peers.{name}")
    return module.at_equal_cost, module.at_own_width
