"""What the page's compact weights cost: radicals shown and captions found, full model against compact, glyph by glyph.

python tools/compact_quality.py --rounds 2

Both draw the same prompts from the same noise; the differences are paired, with 95% bootstrap intervals over prompts.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from zaozi.core.recipe import DataConfig
from zaozi.data.pairs import find_dataset
from zaozi.evaluate.drawing import MEASURING, ParallelSampler
from zaozi.evaluate.measure import Judge
from zaozi.evaluate.prompts import flat
from zaozi.evaluate.towers import encode_all, retrieval
from zaozi.guide.compact import use_compact_weights
from zaozi.model.checkpoint import find_model


def interval(difference: NDArray[np.float64]) -> str:
    rows = np.random.default_rng(0).integers(len(difference), size=(4000, len(difference)))
    low, high = np.percentile(difference[rows].mean(1), [2.5, 97.5])
    return f"{100 * difference.mean():+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="base")
    parser.add_argument("--rounds", type=int, default=2, help="glyphs per prompt")
    given = parser.parse_args()
    studio, judge = ParallelSampler(find_model(given.model)), Judge(find_dataset(DataConfig()))
    prompts, radicals = (list(some) * given.rounds for some in flat())
    held = judge.held_out.texts[: len(prompts)]
    found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for name in ("full", "compact"):
        if name == "compact":
            use_compact_weights(studio.artists[0].model)
            use_compact_weights(studio.artists[0].encoder.network)
        drawn = [studio.draw(texts, replace(MEASURING, precision="fp32")) for texts in (prompts, held)]
        assert drawn[0] is not None and drawn[1] is not None, "one process"  # noqa: PT018
        shown = judge.look(drawn[0], prompts, radicals)
        seen = judge.look(drawn[1], held, [0] * len(held))
        texts, others = (encode_all(judge.encoder, some) for some in (held, judge.held_out.texts))
        features = torch.from_numpy(seen.seen.features).float()
        hits = retrieval(judge.towers, features, texts, held, others, judge.held_out.texts)
        found.append((np.asarray(shown.right, np.float64), np.asarray(hits, np.float64)))
        print(
            f"{name}: radical {100 * found[-1][0].mean():.1f}%, caption among 100 {100 * found[-1][1].mean():.1f}%",
            flush=True,
        )
    by_prompt = (found[1][0] - found[0][0]).reshape(given.rounds, -1).mean(0)
    print(f"radical: {interval(by_prompt)}; caption: {interval(found[1][1] - found[0][1])}")
