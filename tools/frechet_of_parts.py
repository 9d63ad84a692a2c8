"""What the 2x stage and small shifts alone would cost in Frechet distance: 2,000 held-out glyphs against themselves, changed.

python tools/frechet_of_parts.py
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zaozi.core.noise import training_generator
from zaozi.core.recipe import DataConfig
from zaozi.data.pairs import find_dataset, load_pairs
from zaozi.evaluate.distances import frechet
from zaozi.evaluate.reference import load_reference, look
from zaozi.pipeline import TextToImage, to_bytes
from zaozi.train.batches import shifted

COUNT = 2000


@torch.inference_mode()
def main() -> None:
    folder = find_dataset(DataConfig())
    network, space = load_reference(), TextToImage.from_pretrained("base").model.space
    train, test = load_pairs(folder, "train"), load_pairs(folder, "test")
    glyphs = test.batch(np.arange(COUNT))
    rows = np.sort(np.random.default_rng(0).choice(len(train), COUNT, replace=False))

    def features(pictures: Tensor) -> np.ndarray:
        return look(network, to_bytes(pictures)).features

    real = features(glyphs)
    halved = torch.cat([space.decode(space.encode(part)) for part in glyphs.split(100)])
    print(f"training glyphs: {frechet(features(train.batch(rows)), real):.2f}")
    print(f"halved and doubled again: {frechet(features(halved), real):.2f}")
    print(f"shifted by up to two pixels: {frechet(features(shifted(glyphs, 2, training_generator(0))), real):.2f}")


if __name__ == "__main__":
    main()
