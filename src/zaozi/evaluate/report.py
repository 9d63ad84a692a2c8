"""Evaluate one model: the report as plain values, its table and its pictures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zaozi import __version__
from zaozi.core.errors import ZaoziError
from zaozi.core.progress import progress
from zaozi.core.sampling import Sampling
from zaozi.data.shards import data_hash
from zaozi.evaluate.drawing import ParallelSampler, described, rows_per_picture
from zaozi.evaluate.intervals import Figure
from zaozi.evaluate.measure import Glyphs, Judge, spread
from zaozi.evaluate.measures import measures
from zaozi.evaluate.prompts import flat
from zaozi.model.info import gflops, parameters

LEAST_SAMPLES = 16
MISSES = "misses.png"
"""Picture of the evaluation's failures, shown in the model card."""
RELEASED_SAMPLES = 2000
"""With fewer glyphs, distances are good enough for monitoring, but not for publication."""


@dataclass(frozen=True)
class Drawn:
    """The four sets of one evaluation: the prompt list, held-out captions, held-out cross-references, training captions."""

    listed: Glyphs
    held_out: Glyphs
    crossed: Glyphs
    trained: Glyphs
    real: Glyphs
    """The real glyphs of the held-out captions."""
    real_crossed: Glyphs


def sizes(samples: int) -> dict[str, int]:
    """Return glyphs per set: N of the list (whole rounds of 192 prompts, at least one), N held-out, N/6 crossed, N/2 trained."""
    rounds = max(1, samples // len(flat()[0]))
    return {
        "listed": rounds * len(flat()[0]),
        "held_out": samples,
        "crossed": samples // 6,
        "trained": samples // 2,
    }


def check_samples(samples: int) -> None:
    """Raises `ZaoziError` if there are too few samples."""
    if samples < LEAST_SAMPLES:
        raise ZaoziError(
            f"samples {samples} is out of range; use {LEAST_SAMPLES} or more ({RELEASED_SAMPLES} to publish)"
        )


def draw_sets(
    studio: ParallelSampler, judge: Judge, how: Sampling, samples: int, say: Callable[[str], None] = print
) -> Drawn | None:
    """Generate all glyphs of an evaluation, after reporting the estimated cost. Returns None except in the main process."""
    check_samples(samples)
    counts = sizes(samples)
    prompts, radicals = flat()
    rounds = counts["listed"] // len(prompts)
    plain = judge.held_out_rows(counts["held_out"], crossed=False)
    crossed = judge.held_out_rows(counts["crossed"], crossed=True)
    real, real_crossed = judge.held_out.take(plain), judge.held_out.take(crossed)
    trained = judge.train.take(spread(np.flatnonzero(~judge.train_crossed), counts["trained"]))
    texts = {
        "listed": (prompts * rounds, np.array(radicals * rounds)),
        "held_out": (real.texts, real.radicals),
        "crossed": (real_crossed.texts, real_crossed.radicals),
        "trained": (trained.texts, trained.radicals),
    }
    total = sum(len(t) for t, _ in texts.values())
    model = studio.artists[0].model
    work = total * rows_per_picture(how) * gflops(model) / 1000
    seconds = studio.seconds_per_glyph(how) * total
    say(
        f"{total} glyphs, {how.steps} steps of {how.sampler} at guidance {how.guidance.scale:g}: {work:.0f} TFLOP of network "
        f"calls, about {max(seconds / 60, 0.1):.1f} min; then they are measured"
    )
    drawn: dict[str, Glyphs] = {}
    first = 0
    with progress(total=studio.share(total), desc="drawing", unit="glyph", shown=studio.main) as bar:
        for name, (wanted, numbers) in texts.items():
            pictures = studio.draw(wanted, how, first=first, bar=bar)
            if pictures is not None:
                drawn[name] = judge.look(pictures, wanted, numbers)
            first += len(wanted)
    if not studio.main:
        return None
    return Drawn(**drawn, real=real, real_crossed=real_crossed)


def measure(judge: Judge, sets: Drawn, only: Sequence[str] = ()) -> dict[str, Any]:
    """Compute all measures of one evaluation, or `only` some. Raises `ZaoziError` if a measure is unknown."""
    chosen = {name: measures[name] for name in only} or dict(measures)
    return {name: one.compute(judge, sets) for name, one in progress(chosen.items(), desc="measuring", unit="measure")}


def evaluate(
    studio: ParallelSampler,
    judge: Judge,
    weights: str,
    how: Sampling,
    samples: int,
    only: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], Drawn] | None:
    """Generate glyphs, compute all measures (or `only` some), and return plain values for `report.json`. Returns None except
    in the main process.

    `weights` is the SHA-256 of the model's weights.
    """
    start = time.monotonic()
    sets = draw_sets(studio, judge, how, samples, say)
    drawing = time.monotonic() - start
    if sets is None:
        return None
    figures = measure(judge, sets, only)
    model = studio.artists[0].model
    c = judge.network.config
    names = ("radical_accuracy", "structure_accuracy", "parts_precision", "parts_recall", "held_out")
    report = {
        "version": __version__,
        "model": {
            "name": model.config.name,
            "weights": weights,
            "parameters": parameters(model.network),
            "gflops_a_call": round(gflops(model), 3),
        },
        "data": data_hash(judge.data),
        "how": {
            **described(how),
            "precision": studio.dtype(how),
            "samples": samples,
            "glyphs": {f.name: len(getattr(sets, f.name)) for f in dataclasses.fields(sets)},
        },
        "reference": {
            **{name: getattr(c, name) for name in names},
            "weights": judge.fingerprint,
            "towers": judge.towers.accuracy,
        },
        "measures": {name: measures[name].version for name in figures},
        "figures": plain(figures),
        "seconds": {"drawing": round(drawing, 1), "all": round(time.monotonic() - start, 1)},
    }
    return report, sets


def versions(report: Mapping[str, Any]) -> dict[str, int]:
    """Return the measures in a report and their versions; reports without recorded versions have version 1."""
    return report.get("measures") or dict.fromkeys(report["figures"], 1)


def completed(report: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Add the measures that only an earlier report has, in their current versions and for the same glyphs.

    Raises `ZaoziError` if the earlier report has another model, dataset or sampling settings.
    """
    for key in ("model", "data", "how", "reference"):
        if report[key] != earlier[key]:
            raise ZaoziError(f"the earlier report differs in '{key}'; give another --out, or measure everything again")
    held = versions(earlier)
    kept = [name for name in measures if name in held and measures[name].version == held[name]]
    figures = {name: earlier["figures"][name] for name in kept} | report["figures"]
    return {**report, "measures": {name: measures[name].version for name in figures}, "figures": figures}


def plain(value: Any) -> Any:
    """Convert figures to plain dictionaries, rounded to six digits; NaN becomes None."""
    if isinstance(value, Figure):
        return {"value": _six(value.value), "low": _six(value.low), "high": _six(value.high), "n": value.n}
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    return _six(value) if isinstance(value, float) else value


def _six(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
