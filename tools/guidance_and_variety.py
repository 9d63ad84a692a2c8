"""What guidance costs and brings: the Frechet distance in its parts, variance along real glyphs' principal directions, and
adherence on the list.

python tools/guidance_and_variety.py --guidance 1 2 5
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from zaozi.core.recipe import DataConfig
from zaozi.core.sampling import Guidance
from zaozi.data.pairs import find_dataset
from zaozi.evaluate.distances import frechet, prdc
from zaozi.evaluate.drawing import MEASURING, ParallelSampler
from zaozi.evaluate.measure import Glyphs, Judge, spread
from zaozi.evaluate.prompts import flat
from zaozi.evaluate.speedrun import adherence
from zaozi.model.checkpoint import find_model

BANDS = (0, 5, 10, 20, 40, 80, 192)


def line(name: str, drawn: Glyphs, real: Glyphs) -> str:
    """A row of the table for some glyphs against the real ones whose captions they were drawn for."""
    a, b = (glyphs.seen.features.astype(np.float64) for glyphs in (drawn, real))
    mean = a.mean(0) - b.mean(0)
    values, vectors = np.linalg.eigh(np.cov(b, rowvar=False))
    values, vectors = values[::-1], vectors[:, ::-1]
    share: NDArray[np.float64] = ((a - a.mean(0)) @ vectors).var(0) / values
    bands = " | ".join(f"{share[low:high].mean():.2f}" for low, high in pairwise(BANDS))
    right = float((drawn.seen.radical == real.radicals).mean())
    return f"| {name} | {frechet(a, b):.1f} | {mean @ mean:.1f} | {bands} | {prdc(b, a)['recall'].mean():.1%} | {right:.1%} |"


def main(model: str, scales: list[float], count: int) -> None:
    """Draw for held-out captions at every scale and print the table, real glyphs first."""
    judge, studio = Judge(find_dataset(DataConfig())), ParallelSampler(find_model(model))
    real = judge.held_out.take(judge.held_out_rows(count, crossed=False))
    spare = judge.train.take(spread(np.flatnonzero(judge.spare & ~judge.train_crossed), count))
    print(line("real glyphs", spare, real))
    for scale in scales:
        how = replace(MEASURING, guidance=Guidance(scale))
        pictures = studio.draw(real.texts, how)
        assert pictures is not None, "one process"
        listed = adherence(studio, judge, how, rounds=max(1, count // len(flat()[0])))
        print(
            line(f"{scale:g}", judge.look(pictures, real.texts, real.radicals), real),
            listed.text(percent=True),
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1, 2, 5])
    parser.add_argument("--count", type=int, default=2000)
    given = parser.parse_args()
    main(given.model, given.guidance, given.count)
