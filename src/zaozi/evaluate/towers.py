"""Two small towers that embed glyphs and texts in one space and score how well a glyph fits a caption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from zaozi.core.errors import ZaoziError
from zaozi.core.files import home, write_json
from zaozi.core.journal import verified
from zaozi.core.noise import lent_generator
from zaozi.core.outputs import Output
from zaozi.evaluate.reference import SHIPPED, fingerprint, half
from zaozi.model.checkpoint import fill, read_tensors
from zaozi.text.cache import cached
from zaozi.text.encoders import TextEncoder

CONFIG, WEIGHTS = "towers.json", "towers.safetensors"
MEETING = 128
AMONG = 100


class Towers(nn.Module):
    """Glyph features `[B, F]` (from the reference network) and pooled texts `[B, D]` -> scores `[B, B]`, cosine / temperature."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int, text: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.glyph = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(features, 384), nn.GELU(), nn.Dropout(0.3), nn.Linear(384, MEETING)
        )
        self.text = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(text, 512), nn.GELU(), nn.Dropout(0.3), nn.Linear(512, MEETING)
        )
        self.scale = nn.Parameter(torch.tensor(2.7))  # the logarithm of 1 / temperature
        self.accuracy = 0.0
        """Share of validation glyphs matched to their own caption among 100."""

    def standardise(self, features: Tensor) -> None:
        """Set the mean and standard deviation of each feature from a set `[N, F]`."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp(min=1e-6))

    def glyphs(self, features: Tensor) -> Tensor:
        """Embed glyphs as unit vectors `[N, 128]`."""
        return F.normalize(self.glyph((features - self.mean) / self.deviation), dim=-1)

    def texts(self, pooled: Tensor) -> Tensor:
        """Embed texts as unit vectors `[N, 128]`."""
        return F.normalize(self.text(pooled), dim=-1)

    def forward(self, features: Tensor, pooled: Tensor) -> Tensor:
        return self.scale.clamp(max=4.0).exp() * self.glyphs(features) @ self.texts(pooled).T


def numbered(texts: Sequence[str]) -> Tensor:
    """Return a number for each text, `[N]`: equal texts, ignoring case, have the same."""
    names = {text: i for i, text in enumerate(sorted({t.casefold() for t in texts}))}
    return torch.tensor([names[t.casefold()] for t in texts])


def matching_loss(scores: Tensor, captions: Tensor) -> Tensor:
    """Return the symmetric InfoNCE loss (Radford et al. 2021, arXiv:2103.00020) of scores `[B, B]`, a scalar.

    Pairs whose caption has the same number (`captions` `[B]`) count as positives for each other.
    """
    same = (captions[:, None] == captions[None]).float()
    wanted = same / same.sum(1, keepdim=True)
    return F.cross_entropy(scores, wanted) + F.cross_entropy(scores.T, wanted)


@torch.inference_mode()
def retrieval(
    towers: Towers,
    features: Tensor,
    pooled: Tensor,
    texts: Sequence[str],
    pooled_rivals: Tensor,
    rivals: Sequence[str],
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return for each glyph 1.0 if its own caption scores highest among itself and 99 of `rivals`, else 0.0: `[N]`.

    The rivals are sampled with a seed from the distinct other captions, so real and generated glyphs of the same captions
    get the same choices. Chance level is 1%. If there are fewer distinct captions, all are used.
    """
    first = {text.casefold(): i for i, text in reversed(list(enumerate(rivals)))}
    pool = np.array(sorted(first.values()), np.int64)
    glyphs = towers.glyphs(features)
    own = (glyphs * towers.texts(pooled)).sum(1).numpy()
    scores = (glyphs @ towers.texts(pooled_rivals).T).numpy()
    hits = []
    for row, text in enumerate(texts):
        others = pool[pool != first.get(text.casefold(), -1)]
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, row], np.uint64)))
        some = rng.choice(others, min(AMONG - 1, len(others)), replace=False)
        hits.append(float(own[row] > scores[row, some].max(initial=-np.inf)))
    return np.array(hits)


def encode_all(encoder: TextEncoder, texts: Sequence[str]) -> Tensor:
    """Return pooled text vectors `[N, D]`, from the cache if available."""
    store = cached(encoder, texts, home() / "text")
    return store.pooled(store.places(texts))


def towers_output(folder: Path, *, overwrite: bool = False) -> Output:
    """Return the output folder of the towers, next to their reference network."""
    return Output(folder, "towers", (CONFIG, WEIGHTS), whole=False, overwrite=overwrite)


def save_towers(output: Output, towers: Towers) -> None:
    """Write the towers in half precision."""
    widths = {"features": len(towers.mean), "text": towers.text[1].in_features}
    with output.write() as work:
        save_file({k: half(v) for k, v in towers.state_dict().items()}, work / WEIGHTS)
        write_json(work / CONFIG, {**widths, "accuracy": towers.accuracy, "reference": fingerprint(output.folder)})


def load_towers(folder: Path | None = None) -> Towers:
    """Load the bundled towers, or those from a folder. Raises `ZaoziError` if they are missing or damaged."""
    folder = folder or SHIPPED
    verified(folder, (CONFIG, WEIGHTS))
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        with lent_generator(0):
            towers = Towers(int(config["features"]), int(config["text"]))
        towers.accuracy = float(config["accuracy"])
        stands_on = str(config["reference"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ZaoziError(f"{folder} holds no two towers ({error}); train them: zaozi evaluate train-clip") from None
    if stands_on != fingerprint(folder):
        raise ZaoziError(f"the towers in {folder} stand on another reference network; run: zaozi evaluate train-clip")
    fill(towers, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return towers.eval().requires_grad_(False)
