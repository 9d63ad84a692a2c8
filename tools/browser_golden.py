"""The glyph that the page must draw too, as JSON on standard output: settings, pixels in [-1, 1], and what they show.

Drawn by PyTorch with the weights of the page's compact files.
"""

from __future__ import annotations

import dataclasses
import json

from zaozi.core.sampling import Sampling
from zaozi.guide.compact import compact_model, use_compact_weights
from zaozi.guide.explain import Explainer
from zaozi.pipeline import TextToImage, draw

PROMPT = "a small song bird"
TYPED = "the bright red moon"
HOW = Sampling(seed=3)


if __name__ == "__main__":
    artist = TextToImage.from_pretrained("base", device="cpu")
    use_compact_weights(artist.model)
    use_compact_weights(artist.encoder.network)
    explainer = Explainer(compact_model("base"))
    made = {}
    for prompt in (PROMPT, TYPED):
        picture = draw(artist.model, artist.encode([prompt]), HOW, pictures=[0])
        made[prompt] = picture.flatten().tolist()
        if prompt == PROMPT:
            explanation = explainer.explain(picture[0].numpy())
    print(
        json.dumps(
            {
                "prompt": PROMPT, "num_steps": HOW.steps, "sampler": HOW.sampler, "guidance_scale": HOW.guidance.scale,
                "seed": HOW.seed, "pixels": made[PROMPT], "explanation": dataclasses.asdict(explanation),
                "typed": {"prompt": TYPED, "pixels": made[TYPED]},
            }
        )
    )  # fmt: skip
