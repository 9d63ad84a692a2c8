"""Two-sample test by a classifier: can a small network tell generated pictures from real ones?"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from zaozi.core.noise import lent_generator, training_generator
from zaozi.data.pairs import training_rows
from zaozi.evaluate.intervals import Figure, mean_figure

BATCH, EPOCHS, SHIFT = 64, 20, 2
"""Pictures per step, passes over the training half, and the largest shift of training pictures, in pixels."""


def classifier(channels: int) -> nn.Module:
    """Return the untrained network: five convolutions, each halving the resolution, and a mean over positions -> `[B, 1]`.

    In trials, training found the difference with batch normalization; with group normalization it often stayed at chance.
    """
    widths = (channels, 16, 32, 64, 96, 128)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 1))


def two_sample(drawn: NDArray[np.uint8], real: NDArray[np.uint8], *, factor: int = 1, seed: int = 0) -> Figure:
    """Return the accuracy of a fresh classifier on pictures that it was not trained on; 0.5 means that it cannot tell the
    two sets apart (classifier two-sample test, Lopez-Paz and Oquab 2017, arXiv:1610.06545).

    `drawn` and `real` are `[N, C, S, S]`; the longer one is cut to the length of the shorter. Each half of the pictures is
    judged by a network that is trained on the other half, so the accuracy is a mean over 2 N pictures. `factor` downsamples
    the pictures first, by averaging. The networks, in fp32, their number of steps and the order of pictures depend only on the
    sizes and the seed.
    """
    count = min(len(drawn), len(real))
    if count < 4:
        return mean_figure([])
    pictures = _floats(np.concatenate([drawn[:count], real[:count]]), factor)
    labels = torch.cat([torch.ones(count), torch.zeros(count)])
    order = np.random.Generator(np.random.Philox(seed)).permutation(count)
    halves = [np.concatenate([rows, rows + count]) for rows in (order[: count // 2], order[count // 2 :])]
    right = np.zeros(2 * count, bool)
    for fold, (training, held_out) in enumerate((halves, halves[::-1])):
        network = _trained(pictures[training], labels[training], seed + fold)
        with torch.no_grad():
            said = torch.cat([network(some) for some in pictures[held_out].split(256)]).squeeze(1)
        right[held_out] = ((said > 0).float() == labels[held_out]).numpy()
    return mean_figure(right)


def _floats(pictures: NDArray[np.uint8], factor: int) -> Tensor:
    """Convert to floats in [-1, 1], downsampled by a factor."""
    x = torch.from_numpy(pictures).float() / 127.5 - 1.0
    return F.avg_pool2d(x, factor) if factor > 1 else x


def _trained(pictures: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Train a classifier on pictures `[N, C, S, S]` and labels `[N]`, randomly shifted, by binary cross-entropy."""
    with lent_generator(seed):
        network = classifier(pictures.shape[1])
    batch = min(BATCH, len(pictures))
    steps = EPOCHS * max(len(pictures) // batch, 1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    padded = F.pad(pictures, [SHIFT] * 4, mode="replicate")
    side = pictures.shape[-1]
    for step in range(steps):
        rows = torch.from_numpy(training_rows(len(pictures), step * batch, batch, seed))
        generator = training_generator(seed, step)
        y, x = (int(v) for v in torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator))
        said = network(padded[rows][:, :, y : y + side, x : x + side]).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(said, labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    update_bn(
        pictures.tensor_split(-(-len(pictures) // 256)), network
    )  # running statistics lag behind in short trainings
    return network.eval().requires_grad_(False)
