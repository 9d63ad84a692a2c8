"""The glyph that the page must draw too, as JSON on standard output: settings, pixels in [-1, 1], and what they show.

Drawn by PyTorch with the weights of the page's compact files.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch

from zaozi.guide.compact import compact_model, compacted
from zaozi.guide.explain import Explainer
from zaozi.pipeline import TextToImage, draw

PROMPT = "a small song bird"
TYPED = "the bright red moon"
OPTIONS: dict[str, Any] = {"num_steps": 20, "sampler": "dpmpp-2m", "guidance_scale": 5.0, "seed": 3}


def use_compact_weights(network: torch.nn.Module) -> None:
    """Give a network the weights that the page's files hold in place of its own."""
    state = {name: w.numpy() for name, w in network.state_dict().items() if w.is_floating_point()}
    network.load_state_dict({name: torch.from_numpy(w) for name, w in compacted(state).items()}, strict=False)


if __name__ == "__main__":
    artist = TextToImage.from_pretrained("base", device="cpu")
    use_compact_weights(artist.model)
    use_compact_weights(artist.encoder.network)
    explainer = Explainer(compact_model("base"))
    made = {}
    for prompt in (PROMPT, TYPED):
        picture = draw(artist.model, artist.encode([prompt]), pictures=[0], **OPTIONS)
        made[prompt] = picture.flatten().tolist()
        if prompt == PROMPT:
            explanation = explainer.explain(picture[0].numpy())
    print(
        json.dumps(
            {
                "prompt": PROMPT, **OPTIONS, "pixels": made[PROMPT], "explanation": dataclasses.asdict(explanation),
                "typed": {"prompt": TYPED, "pixels": made[TYPED]},
            }
        )
    )  # fmt: skip
