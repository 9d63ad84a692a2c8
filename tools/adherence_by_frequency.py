"""Which radicals of the list a model has learned: adherence by how many training glyphs a radical has, in quarters of the list.

python tools/adherence_by_frequency.py runs/speedrun/run --guidance 5

With `--told` the radical is told beside the text, to models that know that property.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace

import numpy as np

from zaozi.core.recipe import DataConfig
from zaozi.core.sampling import Guidance
from zaozi.data.pairs import find_dataset, load_pairs
from zaozi.evaluate.drawing import MEASURING, ParallelSampler
from zaozi.evaluate.measure import Reader
from zaozi.evaluate.prompts import flat
from zaozi.model.checkpoint import find_model

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--told", action="store_true", help="tell the radical beside the text")
    given = parser.parse_args()
    prompts, listed = flat()
    radicals = np.array(listed)
    count = Counter(int(radical) for radical in load_pairs(find_dataset(DataConfig()), "train").column("radical"))
    told = {"radical": [str(radical) for radical in listed]} if given.told else {}
    how = replace(MEASURING, guidance=Guidance(given.guidance))
    pictures = ParallelSampler(find_model(given.model)).draw(prompts, how, properties=told)
    assert pictures is not None, "one process"
    reader = Reader()

    def adherence(rows: np.ndarray) -> str:
        seen = reader.look(pictures[rows], [prompts[row] for row in rows], radicals[rows])
        return reader.adherence(seen)["primary"].text(percent=True)

    print(f"all: {adherence(np.arange(len(prompts)))}")
    for some in np.array_split(sorted(set(listed), key=lambda radical: -count[radical]), 4):
        glyphs = f"{count[some[0]]} to {count[some[-1]]} training glyphs a radical"
        print(f"{glyphs}: {adherence(np.flatnonzero(np.isin(radicals, some)))}")
