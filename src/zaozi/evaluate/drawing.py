"""Batch sampling for evaluation, over all devices of this machine or over torchrun processes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zaozi.core.config import to_dict
from zaozi.core.precision import name_of
from zaozi.core.sampling import MEASURING, Guidance, Sampling
from zaozi.core.types import Estimate, Level
from zaozi.diffusion.guidance import is_within
from zaozi.diffusion.levels import levels
from zaozi.diffusion.samplers import sampler as find_sampler
from zaozi.diffusion.schedules import schedule
from zaozi.model.checkpoint import load_model
from zaozi.pipeline import Prompt, TextToImage, draw, property_values, to_bytes


def rows_per_picture(how: Sampling) -> int:
    """Return the network rows per picture: one per call, and another where guidance applies."""
    low, high, called = how.guidance.low, how.guidance.high, _called_at(how.sampler, how.steps)
    guided = 0 if how.guidance.scale in (0, 1) else sum(is_within(share, low, high) for share in called)
    return len(called) + guided


def described(how: Sampling) -> dict[str, Any]:
    """Return the sampling settings as plain values: the guidance scale, and rarely used options only if not default."""
    rare = {name: value for name in ("grid", "eta") if (value := getattr(how, name)) != getattr(MEASURING, name)}
    return {
        "steps": how.steps,
        "guidance": how.guidance.scale,
        "sampler": how.sampler,
        "seed": how.seed,
        "batch_size": how.batch_size,
        "precision": how.precision,
        "guide": guide_options(to_dict(how.guidance)),
        **rare,
    }


def guide_options(guide: Mapping[str, Any]) -> dict[str, Any]:
    """Return the non-default guidance options other than the scale."""
    usual = to_dict(Guidance())
    return {name: value for name, value in guide.items() if name != "scale" and value != usual[name]}


def calls(sampler: str, steps: int) -> int:
    """Count the denoiser calls of a sampler for a number of steps."""
    return len(_called_at(sampler, steps))


def _called_at(sampler: str, steps: int) -> list[float]:
    """Return the noise share of each denoiser call of a sampler on the straight path."""
    shares = []

    def denoise(x: torch.Tensor, level: Level) -> Estimate:
        shares.append(level.share)
        return Estimate(x, x)

    x = torch.zeros(1, 1, 1, 1)
    find_sampler(sampler)(denoise, x, levels(schedule("linear_path"), steps), noise=lambda _: x)
    return shares


def _a_row_each(artist: TextToImage, values: Mapping[str, Sequence[str | float]]) -> dict[str, torch.Tensor]:
    """Convert properties with one value per row to condition tensors `[B]`."""
    known = artist.model.config.properties
    return {
        name: torch.cat([property_values(known, {name: value}, 1)[name] for value in column])
        for name, column in values.items()
    }


class ParallelSampler:
    """One model on every available device, for sampling lists of texts; with `weak`, guided away from that model."""

    def __init__(self, model: Path, weak: Path | None = None) -> None:
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.gather: Callable[[list[Any]], list[Any]] = lambda parts: parts
        self.first_alone: Callable[[], AbstractContextManager[Any]] = nullcontext
        """Context in which the first process of a machine runs before the others, which then find its files."""
        devices = [torch.device("cuda", i) for i in range(torch.cuda.device_count())] or [torch.device("cpu")]
        if self.world > 1:
            from accelerate import PartialState
            from accelerate.utils import gather_object

            state = PartialState(cpu=not torch.cuda.is_available())
            devices, self.gather, self.first_alone = [state.device], gather_object, state.local_main_process_first
        self.artists = [TextToImage.from_pretrained(model, device=str(device)) for device in devices]
        self.weak = [load_model(weak).to(device) if weak else None for device in devices]

    def share(self, count: int) -> int:
        """Return the maximum number of `count` glyphs that one process generates."""
        return -(-count // self.world)

    def dtype(self, how: Sampling) -> str:
        """Return the precision of the network calls: 'bf16' or 'fp32'."""
        device = next(self.artists[0].model.parameters()).device
        return name_of(how.precision, device)

    @property
    def main(self) -> bool:
        """Whether this is the main process, which prints and writes files."""
        return self.rank == 0

    def draw(
        self,
        prompts: Sequence[Prompt],
        how: Sampling,
        *,
        properties: Mapping[str, Sequence[str | float]] | None = None,
        first: int = 0,
        bar: Any = None,
    ) -> NDArray[np.uint8] | None:
        """Generate one glyph per prompt, `[N, C, S, S]` uint8; returns None except in the main process. Glyph n starts from the
        noise of picture `first + n`. `properties` has one value per glyph for each requested property.

        Results do not depend on the number of devices and processes, up to rounding (batch sizes affect rounding).
        """
        lanes = self.world * len(self.artists)
        lock = threading.Lock()

        def lane(number: int) -> list[tuple[int, NDArray[np.uint8]]]:
            artist, weak = self.artists[number % len(self.artists)], self.weak[number % len(self.artists)]
            mine = range(number, len(prompts), lanes)
            made = []
            for start in range(0, len(mine), how.batch_size):
                rows = mine[start : start + how.batch_size]
                with lock:  # the encoder is shared
                    wanted = artist.conditions([prompts[r] for r in rows])
                if properties:
                    given = _a_row_each(artist, {name: [v[r] for r in rows] for name, v in properties.items()})
                    wanted = [(replace(cond, properties=given), weight) for cond, weight in wanted]
                x = draw(artist.model, wanted, how, pictures=[first + r for r in rows], weak=weak)
                made += list(zip(rows, to_bytes(x), strict=True))
                if bar is not None:
                    bar.update(len(rows))
            return made

        numbers = [self.rank * len(self.artists) + i for i in range(len(self.artists))]
        if len(numbers) == 1:
            parts = [lane(numbers[0])]
        else:
            with ThreadPoolExecutor(len(numbers)) as pool:
                parts = list(pool.map(lane, numbers))
        everything = self.gather([pair for part in parts for pair in part])
        if not self.main:
            return None
        model = self.artists[0].model
        pictures = np.zeros((len(prompts), model.config.channels, model.config.size, model.config.size), np.uint8)
        for row, picture in everything:
            pictures[row] = picture
        assert len(everything) == len(prompts)
        return pictures

    def seconds_per_glyph(self, how: Sampling) -> float:
        """Measure the time per glyph with all devices, on two small batches of which the second is timed."""
        batch = min(how.batch_size, 16)
        few, count = replace(how, steps=2, batch_size=batch), batch * self.world * len(self.artists)
        self.draw(["a"] * count, few)
        start = time.monotonic()
        self.draw(["a"] * count, few)
        a_call = (time.monotonic() - start) / count / calls(how.sampler, few.steps)
        return a_call * calls(how.sampler, how.steps)
