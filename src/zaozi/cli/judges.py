"""`zaozi evaluate train-reference` and `zaozi evaluate train-clip`: train the judge networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from zaozi.cli.evaluate import Dir


def train_reference(
    data: Dir = None,
    epochs: int = 12,
    seed: int = 0,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/reference"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Train the reference network, which predicts radical, structure and parts. Test glyphs are not used.

    Args:
        data: The glyph dataset; built if missing.
        epochs: Passes over the glyphs, about 25 s each on two cores.
        seed: Seed for weights, order and augmentation.
        out: The output folder.
        overwrite: Overwrite existing files of these names that zaozi did not write; by default this is an error.
    """
    from zaozi.core.noise import check_seed
    from zaozi.core.recipe import DataConfig
    from zaozi.data.pairs import find_dataset, load_pairs
    from zaozi.evaluate.fit import train_reference
    from zaozi.evaluate.reference import reference_output, save_reference

    check_seed(seed)
    output = reference_output(out, overwrite=overwrite)
    output.check()
    folder = find_dataset(DataConfig(path=str(data) if data else ""))
    network = train_reference(load_pairs(folder, "train"), load_pairs(folder, "test"), epochs=epochs, seed=seed)
    save_reference(output, network)
    print(f"{out}: next, zaozi evaluate train-clip --reference {out}")


def train_clip(
    data: Dir = None,
    epochs: int = 60,
    seed: int = 0,
    reference: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/reference"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Train the two towers that match glyphs with captions, on a reference network's features; saved in its folder.

    Args:
        data: The glyph dataset; built if missing.
        epochs: Passes over the pairs, about a second each.
        seed: Seed for weights and order.
        reference: Folder of the reference network.
        overwrite: Overwrite existing files of these names that zaozi did not write; by default this is an error.
    """
    import torch

    from zaozi.core.noise import check_seed
    from zaozi.core.recipe import DataConfig
    from zaozi.data.pairs import find_dataset, load_pairs
    from zaozi.evaluate.fit import train_towers
    from zaozi.evaluate.measure import TEXT_TOKENS
    from zaozi.evaluate.reference import load_reference, look
    from zaozi.evaluate.towers import save_towers, towers_output
    from zaozi.text.encoders import load_encoder

    check_seed(seed)
    output = towers_output(reference, overwrite=overwrite)
    output.check()
    folder = find_dataset(DataConfig(path=str(data) if data else ""))
    network = load_reference(reference)
    pairs = load_pairs(folder, "train"), load_pairs(folder, "validation")
    features = [torch.from_numpy(look(network, p.pictures).features).float() for p in pairs]
    encoder = load_encoder("minilm", TEXT_TOKENS)
    towers = train_towers((features[0], features[1]), pairs, encoder, epochs=epochs, seed=seed)
    save_towers(output, towers)
