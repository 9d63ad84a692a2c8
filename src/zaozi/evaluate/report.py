"""One model measured: the report as plain values, its table, and the pictures that go with it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zaozi import __version__
from zaozi.core.errors import ZaoziError
from zaozi.core.progress import progress
from zaozi.core.sampling import Guidance
from zaozi.data.shards import data_hash
from zaozi.evaluate.drawing import How, ParallelSampler
from zaozi.evaluate.intervals import Figure, share_figure
from zaozi.evaluate.measure import Glyphs, Judge, spread
from zaozi.evaluate.prompts import PROMPTS, flat
from zaozi.model.info import gflops, parameters

LEAST_SAMPLES = 16
MISSES = "misses.png"
"""The evaluation's picture of what the model cannot do, which goes into its card."""
RELEASED_SAMPLES = 2000
"""Distances at fewer glyphs are fit for watching, not for publishing."""


@dataclass(frozen=True)
class Drawn:
    """The four sets of one evaluation: the project's list, held-out captions, held-out cross-references, training captions."""

    listed: Glyphs
    held_out: Glyphs
    crossed: Glyphs
    trained: Glyphs
    real: Glyphs
    """The real glyphs of the held-out captions."""
    real_crossed: Glyphs


def sizes(samples: int) -> dict[str, int]:
    """Glyphs a set: N of the list (in whole rounds of its 192 prompts, at least one), N held-out, N/6 crossed, N/2 trained."""
    rounds = max(1, samples // len(flat()[0]))
    return {
        "listed": rounds * len(flat()[0]),
        "held_out": samples,
        "crossed": samples // 6,
        "trained": samples // 2,
    }


def check_samples(samples: int) -> None:
    """Raises `ZaoziError` for too few samples."""
    if samples < LEAST_SAMPLES:
        raise ZaoziError(
            f"samples {samples} is out of range; use {LEAST_SAMPLES} or more ({RELEASED_SAMPLES} to publish)"
        )


def draw_sets(
    studio: ParallelSampler, judge: Judge, how: How, samples: int, say: Callable[[str], None] = print
) -> Drawn | None:
    """Draw everything an evaluation looks at; says what it will cost first. None in all processes but the main one."""
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
    work = total * how.rows_per_picture * gflops(model) / 1000
    seconds = studio.seconds_per_glyph(how) * total
    say(
        f"{total} glyphs, {how.steps} steps of {how.sampler} at guidance {how.guidance:g}: {work:.0f} TFLOP of network "
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


def measure(judge: Judge, sets: Drawn) -> dict[str, Any]:
    """Every figure of one evaluation, by measure and name."""
    stages: list[tuple[str, Callable[[], Any]]] = [
        ("adherence", lambda: judge.adherence(sets.listed)),
        ("adherence_real", judge.real_adherence),
        ("adherence_over_real", lambda: {"primary": judge.relative_adherence(sets.listed)}),
        ("adherence_lookup", judge.lookup_adherence),
        ("adherence_lookup_hints", lambda: judge.lookup_adherence(hints=True)),
        ("adherence_chance", lambda: judge.chance_adherence(sets.listed)),
        ("by_radical", lambda: by_radical(judge, sets.listed)),
        (
            "agreement",
            lambda: {
                "held_out": judge.agreement(sets.held_out),
                "crossed": judge.agreement(sets.crossed),
                "trained": judge.agreement(sets.trained),
                "real": judge.agreement(sets.real),
            },
        ),
        ("distance", lambda: judge.distance(sets.held_out, sets.real)),
        ("distance_crossed", lambda: judge.distance(sets.crossed, sets.real_crossed, crossed=True)),
        (
            "retrieval",
            lambda: {
                "held_out": judge.retrieval(judge.tested(sets.held_out)),
                "crossed": judge.retrieval(judge.tested(sets.crossed, crossed=True), crossed=True),
                "trained": judge.retrieval(sets.trained),
                "real": judge.retrieval(judge.tested(sets.real)),
            },
        ),
        (
            "copies",
            lambda: {
                "listed": judge.copies(sets.listed),
                "held_out": judge.copies(sets.held_out),
                "trained": judge.copies(sets.trained),
                "real": judge.copies(judge.held_out),
            },
        ),
        ("copies_below", lambda: judge.limits),
        ("diversity", lambda: judge.diversity(sets.listed)),
        (
            "legibility",
            lambda: {
                "drawn": judge.legibility(sets.held_out.pictures),
                "real": judge.legibility(sets.real.pictures),
            },
        ),
    ]
    made = {}
    for name, stage in progress(stages, desc="measuring", unit="measure"):
        made[name] = stage()
    return made


def by_radical(judge: Judge, listed: Glyphs) -> dict[str, dict[str, Figure]]:
    """For each radical of the list: the share of its glyphs with it as primary radical, with it anywhere, and in
    real held-out glyphs anywhere; texts count alike and are resampled whole."""
    real = judge.has_part(judge.held_out.seen, judge.held_out.radicals)
    made = {}
    for number in PROMPTS:
        own = listed.take(np.flatnonzero(listed.radicals == number))
        own_real = np.flatnonzero(judge.held_out.radicals == number)
        made[str(number)] = {
            "primary": share_figure(own.right, own.texts),
            "anywhere": share_figure(judge.has_part(own.seen, own.radicals) > 0, own.texts),
            "real": share_figure(real[own_real], [judge.held_out.texts[r] for r in own_real]),
        }
    return made


def evaluate(
    studio: ParallelSampler, judge: Judge, weights: str, how: How, samples: int, say: Callable[[str], None] = print
) -> tuple[dict[str, Any], Drawn] | None:
    """Draw, measure, and put it together as plain values for `report.json`; None in all processes but the main one.

    `weights` is the SHA-256 of the model's weights.
    """
    start = time.monotonic()
    sets = draw_sets(studio, judge, how, samples, say)
    drawing = time.monotonic() - start
    if sets is None:
        return None
    figures = measure(judge, sets)
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
            **dataclasses.asdict(how),
            "guide": guide_options(dataclasses.asdict(how.guide)),
            "precision": studio.dtype(how),
            "samples": samples,
            "glyphs": {f.name: len(getattr(sets, f.name)) for f in dataclasses.fields(sets)},
        },
        "reference": {
            **{name: getattr(c, name) for name in names},
            "weights": judge.fingerprint,
            "towers": judge.towers.accuracy,
        },
        "figures": plain(figures),
        "seconds": {"drawing": round(drawing, 1), "all": round(time.monotonic() - start, 1)},
    }
    return report, sets


def guide_options(guide: Mapping[str, Any]) -> dict[str, Any]:
    """What is unusual about a guidance, but for its scale, which stands beside it."""
    usual = dataclasses.asdict(Guidance())
    return {name: value for name, value in guide.items() if name != "scale" and value != usual[name]}


def plain(value: Any) -> Any:
    """Figures as plain dictionaries, rounded to six digits; what is not a number becomes None."""
    if isinstance(value, Figure):
        return {"value": _six(value.value), "low": _six(value.low), "high": _six(value.high), "n": value.n}
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    return _six(value) if isinstance(value, float) else value


def _six(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
