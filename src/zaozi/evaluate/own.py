"""Evaluation on data of one's own: measures that need no knowledge of glyphs.

The networks that measure are trained on the dataset itself: a small convolutional network whose features match pictures with
their captions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from zaozi import __version__
from zaozi.core.caches import cached
from zaozi.core.errors import ZaoziError
from zaozi.core.files import home
from zaozi.core.noise import lent_generator, training_generator
from zaozi.core.precision import autocast
from zaozi.core.progress import progress
from zaozi.core.sampling import Sampling
from zaozi.data.pairs import Pairs, load_pairs, training_rows
from zaozi.data.shards import data_hash
from zaozi.data.sheet import contact_sheet
from zaozi.evaluate.copies import nearest_features, nearest_pixels, thumbnails
from zaozi.evaluate.distances import frechet
from zaozi.evaluate.drawing import ParallelSampler, described
from zaozi.evaluate.intervals import Figure, interval, resampled, share_figure
from zaozi.evaluate.measure import COPIES_BELOW, LEAST, spread
from zaozi.evaluate.report import plain
from zaozi.evaluate.towers import Towers, encode_all, matching_loss, numbered, retrieval
from zaozi.evaluate.two_sample import two_sample
from zaozi.model.checkpoint import fill, read_tensors
from zaozi.pipeline import to_images
from zaozi.text.encoders import TextEncoder, load_encoder

EDITION, SIDE, FEATURES, STEPS, BATCH = 1, 64, 128, 1500, 128
"""Version of the network, side of its pictures, width of its features, and its training."""
WEIGHTS = "judge.safetensors"
CPU = torch.device("cpu")


class PictureNetwork(nn.Module):
    """Pictures `[B, C, S, S]` in [-1, 1] -> features `[B, 128]`, and the towers that match them with texts."""

    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128, 128)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.trunk = nn.Sequential(*layers, nn.Conv2d(widths[-1], 32, 1), nn.Flatten(), nn.Linear(512, FEATURES))
        self.towers = Towers(FEATURES, text)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(F.interpolate(x, SIDE, mode="area"))


def train_network(pairs: Pairs, encoder: TextEncoder, seed: int = 0) -> PictureNetwork:
    """Train on a training split with the symmetric InfoNCE loss (arXiv:2103.00020); equal captions are positives."""
    pooled = encode_all(encoder, pairs.texts)
    caption = numbered(pairs.texts)
    with lent_generator(seed):
        network = PictureNetwork(pairs.pictures.shape[1], pooled.shape[1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=STEPS)
    batch = min(BATCH, len(pairs))
    for step in progress(range(STEPS), desc="judge", unit="step"):
        rows = training_rows(len(pairs), step * batch, batch, seed)
        generator = training_generator(seed, step)
        x = F.interpolate(pairs.batch(rows), SIDE, mode="area")
        y0, x0 = (int(v) for v in torch.randint(0, 9, (2,), generator=generator))
        x = F.pad(x, [4] * 4, mode="replicate")[:, :, y0 : y0 + SIDE, x0 : x0 + SIDE]
        x = x + 0.1 * torch.randn(x.shape, generator=generator)
        network.train()
        with lent_generator(seed, step, 1), autocast("auto", CPU):
            scores = network.towers(network(x), pooled[rows]).float()
        loss = matching_loss(scores, caption[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval().requires_grad_(False)


class OwnJudge:
    """The measuring network of a dataset, trained on first use and cached, and the real pictures.

    Raises `ZaoziError` if there are too few held-out pictures.
    """

    def __init__(self, data: Path) -> None:
        self.data, self.hash = data, data_hash(data)
        splits = {name: load_pairs(data, name) for name in ("train", "test", "validation")}
        self.train = splits["train"]
        self.texts = [*splits["test"].texts, *splits["validation"].texts]
        self.pictures = np.concatenate([splits["test"].pictures, splits["validation"].pictures])
        if len(self.texts) < LEAST:
            raise ZaoziError(
                f"{data} has {len(self.texts)} held-out pictures, too few to measure by; build a larger dataset"
            )
        self.encoder = load_encoder("minilm", 32)
        key = hashlib.sha256(f"{EDITION} {self.hash} {self.encoder.name}".encode()).hexdigest()[:24]
        folder = cached(home() / "judges" / key, "judge", self._train)
        with lent_generator(0):
            self.network = PictureNetwork(self.pictures.shape[1], self.encoder.width)
        fill(self.network, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
        self.network.eval().requires_grad_(False)
        self.known = self.features(self.train.pictures)
        self.real = self.features(self.pictures)

    def _train(self, work: Path) -> None:
        network = train_network(self.train, self.encoder)
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, work / WEIGHTS)

    @torch.no_grad()
    def features(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the features of pictures, `[N, 128]`."""
        made = [
            self.network(torch.from_numpy(pictures[k : k + 256].copy()).float() / 127.5 - 1.0)
            for k in range(0, len(pictures), 256)
        ]
        return torch.cat(made).double().numpy()

    def figures(self, drawn: NDArray[np.uint8], rows: NDArray[np.int64]) -> dict[str, dict[str, Figure]]:
        """Return the measures of pictures drawn for the captions of held-out rows, each beside that of real pictures.

        distance: Frechet distance to the held-out pictures; for real ones, of as many training pictures.
        two_sample: accuracy of a classifier trained to tell them from held-out pictures.
        retrieval: share whose own caption scores highest among up to 100 held-out captions.
        copies: share that is at least as close to a training picture as the closest 1% of held-out pictures, in pixels.
        """
        texts, own = [self.texts[r] for r in rows], self.features(drawn)
        count = min(len(drawn), len(self.real))
        some = self.train.some(count)
        everything = spread(np.arange(len(drawn)), count)
        pooled, rivals = encode_all(self.encoder, texts), encode_all(self.encoder, self.texts)

        def found(features: NDArray[np.float64]) -> Figure:
            there = torch.from_numpy(features).float()
            hits = retrieval(self.network.towers, there, pooled, texts, rivals, self.texts)
            return share_figure(hits, texts, by_row=True)

        thumbs = thumbnails(self.train.pictures)
        real_distance, _ = nearest_pixels(thumbnails(self.pictures), thumbs)
        drawn_distance, _ = nearest_pixels(thumbnails(drawn), thumbs)
        limit = float(np.quantile(real_distance.numpy(), COPIES_BELOW))
        return {
            "distance": {
                "drawn": interval(resampled(frechet, own[everything], self.real), count),
                "real": interval(resampled(frechet, self.known[some], self.real), count),
            },
            "two_sample": {
                "drawn": two_sample(drawn[everything], self.pictures),
                "real": two_sample(self.train.pictures[some], self.pictures),
            },
            "retrieval": {"drawn": found(own), "real": found(self.real[rows])},
            "copies": {
                "drawn": share_figure(drawn_distance.numpy() <= limit, texts, by_row=True),
                "real": share_figure(real_distance.numpy() <= limit, self.texts, by_row=True),
            },
        }

    def nearest(self, drawn: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the row of the nearest training picture in features, `[N]`."""
        return nearest_features(self.features(drawn), self.known)[1]


ROWS = {
    "distance": ("Frechet distance, in features trained on these data", False),
    "two_sample": ("told from real pictures by a classifier", True),
    "retrieval": ("own caption found among 100", True),
    "copies": ("copies of training pictures", True),
}
"""Labels of the measures, and whether they are shares."""


def evaluate_own(
    studio: ParallelSampler, judge: OwnJudge, how: Sampling, samples: int, say: Callable[[str], None] = print
) -> tuple[dict[str, Any], Image.Image] | None:
    """Draw for held-out captions (again with new noise, if there are fewer than `samples`) and measure the pictures.

    Returns the report, and a sheet of drawn pictures above the real ones of their captions and the nearest training pictures;
    None except in the main process.
    """
    rows = np.arange(samples) % len(judge.texts)
    say(f"{samples} pictures for {min(samples, len(judge.texts))} held-out captions; then they are measured")
    with progress(total=studio.share(samples), desc="drawing", unit="picture", shown=studio.main) as bar:
        drawn = studio.draw([judge.texts[r] for r in rows], how, bar=bar)
    if drawn is None:
        return None
    figures = judge.figures(drawn, rows)
    report = {
        "version": __version__,
        "model": {"name": studio.artists[0].model.config.name},
        "data": judge.hash,
        "how": {**described(how), "precision": studio.dtype(how), "samples": samples},
        "figures": plain(figures),
    }
    some = spread(np.arange(samples), 8)
    near = judge.train.pictures[judge.nearest(drawn[some])]
    lines = [to_images(drawn[some]), to_images(judge.pictures[rows[some]]), to_images(near)]
    captions = ["drawn", "real, of the same captions", "nearest training pictures"]
    return report, contact_sheet(lines, captions, tile=128)


def as_markdown(report: dict[str, Any]) -> str:
    """Return the report as a table."""
    lines = ["| | drawn | real pictures |", "|---|---|---|"]
    for name, (label, percent) in ROWS.items():
        cells = [Figure(**report["figures"][name][of]).text(percent) for of in ("drawn", "real")]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"
