"""Packages of the peers that cannot be imported everywhere without help."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_KEPT: list[Any] = []
"""Declarations last as long as their library."""


def allow_torchvision() -> None:
    """Let torchvision be imported where its compiled operators cannot be loaded, as beside a PyTorch of another build.

    It describes the results of two operators (suppression of boxes) that do not exist then; declaring them is enough. Two peers
    and transformers import picture transforms from torchvision. Nothing of it is in what is timed. Call this first.
    """
    import torch

    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(declared)


@contextmanager
def t5_without_download() -> Iterator[None]:
    """imagen-pytorch asks for the width of a T5 when it is imported, as a default that is not used here; do not download it."""
    from transformers import T5Config

    before = T5Config.__dict__.get("from_pretrained")
    T5Config.from_pretrained = classmethod(lambda cls, *_, **__: cls(d_model=768))
    try:
        yield
    finally:
        if before is None:
            del T5Config.from_pretrained
        else:
            T5Config.from_pretrained = before
