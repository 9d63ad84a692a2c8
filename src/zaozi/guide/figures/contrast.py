"""Figure of the two towers: how well glyphs fit captions, and the vectors with which the page compares them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from zaozi.data.pairs import Pairs
from zaozi.evaluate.measure import TEXT_TOKENS
from zaozi.evaluate.reference import look
from zaozi.evaluate.towers import encode_all, load_towers
from zaozi.guide.figures import figures
from zaozi.guide.figures.paper import ON_PICTURE, Figure, as_url, canvas, numbers, show
from zaozi.guide.figures.source import Source
from zaozi.text.encoders import load_encoder

SHOWN, COUNT, LONGEST, SIDE = 8, 24, 22, 64
"""Pairs in the figure, pairs on the page, the longest caption, and the side of a glyph on the page."""


def chosen(pairs: Pairs, rng: np.random.Generator) -> list[int]:
    """Return rows of a split at random whose captions are short and all different, and so are their radicals if possible."""
    found: dict[str, int] = {}
    radicals: set[object] = set()
    for strict in (True, False):
        for row in rng.permutation(len(pairs)).tolist():
            text, radical = pairs.texts[row], pairs.columns["radical"][row]
            if (
                len(found) < COUNT
                and len(text) <= LONGEST
                and text not in found
                and not (strict and radical in radicals)
            ):
                found[text] = row
                radicals.add(radical)
    return list(found.values())


@torch.inference_mode()
@figures.register("24-contrast")
def contrast(source: Source) -> Figure:
    """Held-out glyphs beside their captions: the cosine of every pair of vectors."""
    rows = chosen(source.test, source.generator(24))
    texts = [source.test.texts[row] for row in rows]
    pictures = np.concatenate([source.test.pictures[row : row + 1] for row in rows])
    towers = load_towers().eval()
    glyphs = towers.glyphs(torch.from_numpy(look(source.reference, pictures).features).float())
    captions = towers.texts(encode_all(load_encoder("minilm", TEXT_TOKENS), texts))
    cosines = (glyphs @ captions.T).numpy()
    some = min(SHOWN, len(rows))
    plot, axes = canvas(2, some, width=10.0, height=6.4, gridspec_kw={"height_ratios": [1, 4.2]})
    for one, picture in zip(axes[0], pictures, strict=False):
        show(one, picture / 127.5 - 1.0)
    for one in axes[1]:
        one.remove()
    below = plot.add_subplot(axes[0, 0].get_gridspec()[1, :])
    below.imshow(cosines[:some, :some].T, cmap="Greys", vmin=-0.2, vmax=0.8, aspect="auto", interpolation="none")
    for i in range(some):
        for j in range(some):
            value = float(cosines[i, j])
            dark = ON_PICTURE[0 if value > 0.4 else 1]
            below.text(
                i, j, f"{value:.2f}", ha="center", va="center", color=dark, weight="bold" if i == j else "normal"
            )
    below.set_xticks([])
    below.set_yticks(range(some), texts[:some])
    first = float((cosines.argmax(0) == np.arange(len(rows))).mean())
    return Figure(
        "Two towers",
        f"Characters that neither the model nor the two networks have seen, and their definitions: the cosine of every pair of "
        f"vectors, dark for a high one. The own pairs are on the diagonal. Among {len(rows)} such characters, the own one has "
        f"the highest cosine for {first:.0%} of the definitions, and {1 / len(rows):.0%} would be chance.",
        plot,
        {
            "cosines": numbers(cosines, 3),
            "first": first,
            "pairs": {
                "side": SIDE,
                "texts": texts,
                "characters": [source.test.columns["character"][row] for row in rows],
                "glyphs": numbers(glyphs, 3),
                "captions": numbers(captions, 3),
                "sheet": as_url(_board(pictures)),
            },
        },
    )


def _board(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Return the pictures side by side, `[1, 64, 64 N]`, in [-1, 1]."""
    small = torch.nn.functional.interpolate(torch.from_numpy(pictures[:, :1]).float(), SIDE, mode="area")
    return torch.cat(list(small / 127.5 - 1.0), -1)
