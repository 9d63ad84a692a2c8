"""A small colour model in latents, with a super-resolution stage, both with random weights; and what the page must draw.

python tools/browser_latents.py FOLDER > GOLDEN.json    # the model is FOLDER/whole
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from zaozi.core.recipe import DiffusionConfig, ModelConfig, StageConfig, TextConfig
from zaozi.core.sampling import Guidance, Sampling
from zaozi.data.pictures import half_mask
from zaozi.guide.compact import use_compact_weights
from zaozi.model.assemble import assemble
from zaozi.model.checkpoint import save_model
from zaozi.model.denoiser import Denoiser, make_denoiser
from zaozi.model.spaces.autoencoder import AutoencoderConfig
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.nn.dit import DiTConfig
from zaozi.nn.unet import UNetConfig
from zaozi.pipeline import Edit, TextToImage, draw, to_mask

PROMPT = "a red apple"
HOW = Sampling(steps=4, seed=3, guidance=Guidance(2.0))
SIZE = 64
KEPT_SEED = 9
"""The page draws kept halves with the next nine seeds."""


def random_model() -> Denoiser:
    """Return the model, its weights away from their initialization, where many are zero."""
    network = DiTConfig(width=32, depth=2, head_width=16, patch=4)
    space = AutoencoderConfig(width=8, blocks=1)
    config = ModelConfig("latents", SIZE, 3, network, space, DiffusionConfig(), TextConfig())
    return disturbed(make_denoiser(config, seed=0))


def random_stage() -> Denoiser:
    """Return a stage that draws pictures twice as large."""
    network = UNetConfig(
        width=8, depth=1, head_width=8, patch=2, multipliers=(1, 2), attention_levels=(), middle_attention=False,
        cross_attention=False, pooled_text=False,
    )  # fmt: skip
    stage = StageConfig(factor=2, steps=3)
    config = ModelConfig("larger", 2 * SIZE, 3, network, PixelsConfig(), DiffusionConfig(), TextConfig(), (), stage)
    return disturbed(make_denoiser(config, seed=0))


def disturbed(model: Denoiser) -> Denoiser:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    save_model(folder / "base", random_model())
    save_model(folder / "larger", random_stage())
    assemble(str(folder / "base"), folder / "whole", stages=[str(folder / "larger")])
    artist = TextToImage.from_pretrained(folder / "whole", device="cpu")
    for network in (artist.model, *artist.stages):
        use_compact_weights(network)
    use_compact_weights(artist.encoder.network)
    cond = artist.encode([PROMPT])
    first = draw(artist.model, cond, HOW, pictures=[0])
    edit = Edit(init=first, mask=to_mask(half_mask("left", SIZE), SIZE))
    kept = draw(artist.model, cond, replace(HOW, seed=KEPT_SEED), pictures=[0], edit=edit)
    large = artist.enlarged(kept, replace(HOW, seed=KEPT_SEED, size=2 * SIZE), [0])
    names = {
        "prompt": PROMPT, "num_steps": HOW.steps, "sampler": HOW.sampler, "guidance_scale": HOW.guidance.scale,
        "seed": HOW.seed, "kept_seed": KEPT_SEED, "pixels": first.flatten().tolist(), "kept": kept.flatten().tolist(),
        "large": large.flatten().tolist(),
    }  # fmt: skip
    print(json.dumps(names))
