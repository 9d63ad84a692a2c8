"""The glyph that the page must draw too, as JSON on standard output: settings, and pixels in [-1, 1]."""

from __future__ import annotations

import json

import torch

from zaozi.pipeline import TextToImage, draw

SETTINGS = {"prompt": "a small song bird", "steps": 20, "sampler": "dpmpp-2m", "guidance": 5, "seed": 3}

if __name__ == "__main__":
    artist = TextToImage.from_pretrained("base", device="cpu")
    cond = artist.encode([str(SETTINGS["prompt"])])
    picture: torch.Tensor = draw(
        artist.model, cond, pictures=[0], num_steps=20, guidance_scale=5.0, sampler="dpmpp-2m", seed=3
    )
    print(json.dumps({**SETTINGS, "pixels": picture.flatten().tolist()}))
