"""Training of the evaluation networks: the reference network, and the two towers on its features."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.core.noise import lent_generator, training_generator
from zaozi.core.precision import autocast
from zaozi.core.progress import progress
from zaozi.data.pairs import Pairs, training_rows
from zaozi.evaluate.reference import Reference, in_words, labels, look, reserved, resized, targets
from zaozi.evaluate.towers import Towers, encode_all, matching_loss, numbered, retrieval
from zaozi.text.encoders import TextEncoder

BATCH = 128


def augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Augment pictures: shift, scale, shear, blur and noise. `[B, 1, S, S]` in [-1, 1], white +1."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    count = len(x)
    scale = 1.0 + 0.1 * normal(count, 1, 1).clamp(-2, 2)
    matrix = torch.eye(2).expand(count, 2, 2) * scale + 0.04 * normal(count, 2, 2)
    grid = F.affine_grid(torch.cat([matrix, 0.08 * normal(count, 2, 1)], 2), list(x.shape), align_corners=False)
    x = 1.0 - F.grid_sample(1.0 - x, grid, align_corners=False)  # pad with white
    blurred = F.avg_pool2d(F.pad(x, [1] * 4, mode="replicate"), 3, stride=1)
    x = torch.lerp(x, blurred, torch.rand(count, 1, 1, 1, generator=generator))
    return x + 0.15 * torch.rand(count, 1, 1, 1, generator=generator) * normal(*x.shape)


def small(pairs: Pairs) -> Tensor:
    """Return all pictures at the reference network's size, in [-1, 1]: `[N, 1, 64, 64]`."""
    made = []
    for start in range(0, len(pairs), 2048):
        made.append(resized(pairs.batch(np.arange(start, min(start + 2048, len(pairs))))))
    return torch.cat(made)


def train_reference(
    train: Pairs, held_out: Pairs, *, epochs: int = 12, seed: int = 0, say: Callable[[str], None] = print
) -> Reference:
    """Train the reference network on a training split without its reserved glyphs, and evaluate it on held-out ones.

    Raises `ZaoziError` if the dataset lacks required columns.
    """
    if epochs < 1:
        raise ZaoziError(f"epochs {epochs} is out of range; use 1 or more")
    config = labels(train)
    rows = np.flatnonzero(~reserved(train))
    if not len(rows) or not len(held_out):
        raise ZaoziError("too few glyphs to train and test a reference network; build a larger dataset")
    pictures, (radical, structure, parts) = small(train), targets(config, train)
    with lent_generator(seed):
        network = Reference(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = min(BATCH, len(rows))
    steps = epochs * (len(rows) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in progress(range(steps), desc="reference network", unit="step"):
        some = rows[training_rows(len(rows), step * batch, batch, seed)]
        generator = training_generator(seed, step)
        network.train()
        with lent_generator(seed, step, 1), autocast("auto", torch.device("cpu")):
            answers = network(augmented(pictures[some], generator))
        loss = (
            F.cross_entropy(answers[0].float(), radical[some], label_smoothing=0.05)
            + 0.5 * F.cross_entropy(answers[1].float(), structure[some], label_smoothing=0.05)
            + 0.02 * F.binary_cross_entropy_with_logits(answers[2].float(), parts[some], reduction="none").sum(1).mean()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval().requires_grad_(False)
    network.config = replace(config, **accuracy(network, held_out))
    say(in_words(network))
    return network


def accuracy(network: Reference, pairs: Pairs) -> dict[str, Any]:
    """Return the network's accuracy on held-out glyphs, as fields of its configuration."""
    seen = look(network, pairs.pictures)
    _, structures, parts = targets(network.config, pairs)
    there = parts.numpy() > 0
    right = float((seen.parts & there).sum())
    return {
        "radical_accuracy": float((seen.radical == np.array([r or 0 for r in pairs.columns["radical"]])).mean()),
        "structure_accuracy": float((seen.structure == structures.numpy()).mean()),
        "parts_precision": right / max(float(seen.parts.sum()), 1.0),
        "parts_recall": right / max(float(there.sum()), 1.0),
        "held_out": len(pairs),
    }


def train_towers(
    features: tuple[Tensor, Tensor],
    pairs: tuple[Pairs, Pairs],
    encoder: TextEncoder,
    *,
    epochs: int = 60,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Towers:
    """Train the two towers on (training, validation) features `[N, 192]` and pairs; keep the best epoch on validation.

    Symmetric InfoNCE loss (Radford et al. 2021, arXiv:2103.00020): in a batch, each glyph is matched to its caption and
    each caption to its glyph. Pairs with the same caption count as positives for each other.
    """
    if epochs < 1:
        raise ZaoziError(f"epochs {epochs} is out of range; use 1 or more")
    if not all(map(len, pairs)):
        raise ZaoziError("too few glyphs to train and validate two towers; build a larger dataset")
    said = pairs[1].texts
    texts = [encode_all(encoder, p.texts) for p in pairs]
    caption = numbered(pairs[0].texts)
    with lent_generator(seed):
        towers = Towers(features[0].shape[1], texts[0].shape[1])
    towers.standardise(features[0])
    optimiser = torch.optim.AdamW(towers.parameters(), lr=1e-3, weight_decay=0.2)
    batch = min(1024, len(caption))
    steps_an_epoch = len(caption) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=epochs * steps_an_epoch)
    best, kept = -1.0, {k: v.clone() for k, v in towers.state_dict().items()}
    started = time.monotonic()
    for step in progress(range(epochs * steps_an_epoch), desc="two towers", unit="step"):
        rows = torch.from_numpy(training_rows(len(caption), step * batch, batch, seed))
        towers.train()
        with lent_generator(seed, step, 2):
            scores = towers(features[0][rows], texts[0][rows])
        loss = matching_loss(scores, caption[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % steps_an_epoch == 0:
            score = float(retrieval(towers.eval(), features[1], texts[1], said, texts[1], said).mean())
            if score > best:
                best, kept = score, {k: v.clone() for k, v in towers.state_dict().items()}
    towers.load_state_dict(kept)
    towers.eval().requires_grad_(False)
    towers.accuracy = best
    say(
        f"two towers: {100 * best:.1f}% of validation glyphs find their caption among 100 "
        f"({time.monotonic() - started:.0f} s)"
    )
    return towers
