"""The glyph that the page must draw too, as JSON on standard output: settings, and pixels in [-1, 1]."""

from __future__ import annotations

import json
from typing import Any

from zaozi.pipeline import TextToImage, draw

PROMPT = "a small song bird"
OPTIONS: dict[str, Any] = {"num_steps": 20, "sampler": "dpmpp-2m", "guidance_scale": 5.0, "seed": 3}

if __name__ == "__main__":
    artist = TextToImage.from_pretrained("base", device="cpu")
    picture = draw(artist.model, artist.encode([PROMPT]), pictures=[0], **OPTIONS)
    print(json.dumps({"prompt": PROMPT, **OPTIONS, "pixels": picture.flatten().tolist()}))
