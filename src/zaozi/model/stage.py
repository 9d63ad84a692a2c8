"""Super-resolution stages: the smaller picture that they enlarge, as a condition.

Cascaded diffusion (Ho et al. 2021, arXiv:2106.15282): a stage learns the large picture, given the small one enlarged by
interpolation. Noise on the small picture (conditioning augmentation, sec. 4.2) makes it work on drawn pictures, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zaozi.core.arrays import Tensor, bilinear, library, like
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import ModelConfig
from zaozi.core.types import Lower

if TYPE_CHECKING:
    import torch


def enlarged(pictures: Tensor, factor: int) -> Tensor:
    """Enlarge pictures by bilinear interpolation, `[B, C, s, s] -> [B, C, factor s, factor s]`."""
    return bilinear(pictures, factor)


def lowered(pictures: Tensor, factor: int) -> Tensor:
    """Return what a stage sees of real pictures `[B, C, S, S]`: averaged over factor x factor pixels, and enlarged again."""
    return enlarged(library(pictures).nn.functional.avg_pool2d(pictures, factor), factor)


def augmented(pictures: Tensor, share: Tensor, noise: Tensor) -> Lower:
    """Add noise to enlarged pictures on the straight path: (1 - share) * picture + share * noise, with share `[B]` in [0, 1)."""
    part = like(share, pictures).reshape(-1, 1, 1, 1)
    return Lower((1.0 - part) * pictures + part * noise, share)


def cropped(pictures: Tensor, side: int, multiple: int, generator: torch.Generator) -> Tensor:
    """Cut one random square of `side` pixels out of all pictures, at a multiple of `multiple`; all of them if side is 0."""
    from zaozi.model.space import place

    whole = pictures.shape[-1]
    if not side or side >= whole:
        return pictures
    return pictures[(..., *place(generator, whole, side, multiple))]


def check_stage(config: ModelConfig) -> None:
    """Raises `ZaoziError` if a super-resolution stage has another space than pixels, or sizes that do not fit."""
    stage = config.stage
    if stage.factor == 1:
        return
    if config.space.shape(config.size, config.channels) != (config.channels, config.size, config.size):
        raise ZaoziError(f"a stage draws pixels, not '{config.space.kind}'; use space.kind = 'pixels'")
    if config.diffusion.prediction != "sample":
        raise ZaoziError(
            f"a stage predicts the sample, not '{config.diffusion.prediction}'; use diffusion.prediction = 'sample'"
        )
    for name, side in (("pictures of", config.size), ("stage.crop", stage.crop)):
        if side % stage.factor:
            raise ZaoziError(f"{name} {side} pixels do not divide by stage.factor {stage.factor}; use another size")
    if stage.crop:
        config.network.check((config.channels, stage.crop, stage.crop))
    reads = [name for name in ("cross_attention", "pooled_text") if getattr(config.network, name, False)]
    if config.properties or reads:
        raise ZaoziError(
            "a stage sees only the smaller picture; remove its properties, and set network.cross_attention and "
            "network.pooled_text to false"
        )
