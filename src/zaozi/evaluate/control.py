"""Controllability beyond text: requested properties, alone and with a text, and composed prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaozi.core.components import Property
from zaozi.core.errors import ZaoziError
from zaozi.core.progress import progress
from zaozi.core.sampling import Sampling
from zaozi.data.pairs import load_pairs
from zaozi.evaluate.drawing import ParallelSampler
from zaozi.evaluate.intervals import Figure, Groups, mean_figure, share_figure
from zaozi.evaluate.measure import Judge
from zaozi.evaluate.prompts import PROMPTS, flat
from zaozi.evaluate.reference import Seen, look

Values = NDArray[Any]
Score = Callable[[Seen, Values], NDArray[np.float64]]
LEAST = 100
"""Minimum number of training glyphs of a requested class."""
FEW, MANY = 3, 24
"""Range of requested stroke counts."""
APART = 17
"""Offset in the prompt list of the text combined with glyph i; texts that mean the requested radical are skipped."""


@dataclass(frozen=True)
class Question:
    """One property: the requested values, and how a glyph is scored."""

    name: str
    asked: dict[str, list[str | float]]
    """Requested values per model column, assigned to glyphs in turn."""
    values: Values
    """The same values in the form the score uses, `[number of values]`."""
    score: Score
    """1 if a glyph has its requested value, else 0; for strokes, the absolute error."""
    real: Callable[[Values], Figure]
    """The same score for held-out real glyphs with given values: the accuracy of the judge."""
    share: bool = True
    """Whether the score is a share; otherwise it is an error, lower is better."""

    def known_to(self, properties: Sequence[Property]) -> Question:
        """Return the question with only the values that a model knows."""
        by_name = {p.column: p for p in properties}
        keep = [
            i
            for i in range(len(self.values))
            if all(c in by_name and by_name[c].knows(v[i]) for c, v in self.asked.items())
        ]
        asked = {column: [values[i] for i in keep] for column, values in self.asked.items()}
        return replace(self, asked=asked, values=self.values[keep])


class Readout:
    """Ridge regression from the reference network's features `[N, F]` to targets `[N, K]`, with an intercept."""

    def __init__(self, features: NDArray[np.float64], targets: NDArray[np.float64], ridge: float = 1.0) -> None:
        self.mean, self.offset = features.mean(0), targets.mean(0)
        x, y = features - self.mean, targets - self.offset
        self.weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        return (features - self.mean) @ self.weights + self.offset


def questions(judge: Judge) -> list[Question]:
    """Return the questions: structure and radical, classified by the reference network, and strokes and the reading's final,
    estimated by a linear readout of its features fitted to real training glyphs."""
    train, test = load_pairs(judge.data, "train"), load_pairs(judge.data, "test")
    seen = judge.held_out.take(np.arange(judge.tests)).seen
    structures = np.array(judge.network.config.structures)
    common = np.array([s for s in structures if train.columns["structure"].count(s) >= LEAST], str)

    def has_structure(seen: Seen, values: Values) -> NDArray[np.float64]:
        return (structures[seen.structure] == values).astype(np.float64)

    def has_radical(seen: Seen, values: Values) -> NDArray[np.float64]:
        return (seen.radical == values).astype(np.float64)

    counted = np.array([float(v or 0) for v in train.columns["strokes"]])
    count = Readout(judge.train.seen.features[counted > 0], counted[counted > 0, None])

    def off_by(seen: Seen, values: Values) -> NDArray[np.float64]:
        return np.abs(count(seen.features)[:, 0] - values)

    spoken = np.array(train.columns["pinyin_final"])
    finals = np.array(sorted({f for f in spoken if f and (spoken == f).sum() >= LEAST}))
    final = Readout(judge.train.seen.features, (spoken[:, None] == finals).astype(np.float64))

    def sounds_like(seen: Seen, values: Values) -> NDArray[np.float64]:
        return (finals[final(seen.features).argmax(1)] == values).astype(np.float64)

    def real(score: Score, column: str, kind: Callable[..., Any], share: bool = True) -> Callable[[Values], Figure]:
        own = np.array([kind(v) if v else kind() for v in test.columns[column]])

        def read(values: Values) -> Figure:
            asked = np.flatnonzero(np.isin(own, values))
            return _figure(score(seen.take(asked), own[asked]), own[asked], share)

        return read

    strokes = np.arange(FEW, MANY + 1)
    radicals = np.array(list(PROMPTS))
    made = [
        Question(
            "structure", _asked("structure", common), common, has_structure, real(has_structure, "structure", str)
        ),
        Question("radical", _asked("radical", radicals), radicals, has_radical, real(has_radical, "radical", int)),
        Question(
            "strokes off by",
            _asked("strokes", strokes),
            strokes,
            off_by,
            real(off_by, "strokes", float, False),
            share=False,
        ),
    ]
    if len(finals) > 1:
        heard = real(sounds_like, "pinyin_final", str)
        made.append(Question("pinyin's final", _asked("pinyin_final", finals), finals, sounds_like, heard))
    return made


def _asked(column: str, values: Sequence[Any] | Values) -> dict[str, list[str | float]]:
    """Convert values to the model column's type: stroke counts as numbers, all else as text."""
    return {column: [float(v) if column == "strokes" else str(v) for v in values]}


def _figure(scores: NDArray[np.float64], groups: Groups, share: bool) -> Figure:
    return share_figure(scores, groups) if share else mean_figure(scores, groups)


def _beside(radicals: Values | None, count: int) -> list[str]:
    """Return a text of the list for each glyph, which does not mean the glyph's requested radical."""
    prompts, meant = flat()
    made = []
    for i in range(count):
        place = i + APART
        while radicals is not None and meant[place % len(meant)] == radicals[i]:
            place += 1
        made.append(prompts[place % len(prompts)])
    return made


def measure_properties(
    studio: ParallelSampler, judge: Judge, how: Sampling, samples: int, say: Callable[[str], None] = print
) -> dict[str, dict[str, Figure]] | None:
    """Measure each property on `samples` glyphs with the property alone, and as many combined with a text of the list (for
    a radical, a text that means another). Per property: `alone`, `beside`, each with its `chance`, the score of the same
    glyphs for shuffled values, and the score of `real` glyphs.

    Returns None except in the main process. Raises `ZaoziError` if the model has none of the properties.
    """
    asked = [
        q for q in (q.known_to(studio.artists[0].model.config.properties) for q in questions(judge)) if len(q.values)
    ]
    if not asked:
        raise ZaoziError("the model has none of the properties structure, radical, strokes and pinyin_final")
    count = 2 * samples * len(asked)
    say(
        f"{count} glyphs for properties, about {studio.seconds_per_glyph(how) * count / 60:.1f} min; then composed prompts"
    )
    dealt = np.random.Generator(np.random.Philox(0)).permutation(samples)
    found: dict[str, dict[str, Figure]] = {}
    with progress(
        total=2 * len(asked) * studio.share(samples),
        desc="drawing",
        unit="glyph",
        shown=studio.main,
    ) as bar:
        for q in asked:
            turn = np.arange(samples) % len(q.values)
            given = {name: [values[i] for i in turn] for name, values in q.asked.items()}
            values = q.values[turn]
            figures = {}
            for name, texts in (
                ("alone", [""] * samples),
                ("beside", _beside(values if q.name == "radical" else None, samples)),
            ):
                drawn = studio.draw(texts, how, properties=given, bar=bar)
                if drawn is None:
                    continue
                seen = look(judge.network, drawn)
                figures[name] = _figure(q.score(seen, values), turn, q.share)
                figures[f"{name} by chance"] = _figure(q.score(seen, values[dealt]), turn[dealt], q.share)
            found[q.name] = {**figures, "real": q.real(q.values)}
    return found if studio.main else None


PAIRS: tuple[tuple[str, int, str, int], ...] = (
    ("fire", 86, "sickness", 104),
    ("water", 85, "mountain", 46),
    ("tree", 75, "bird", 196),
    ("fish", 195, "grass", 140),
    ("gold", 167, "silk thread", 120),
    ("insect", 142, "tree", 75),
    ("horse", 187, "water", 85),
    ("rain", 173, "fire", 86),
    ("bamboo", 118, "hand", 64),
    ("stone", 112, "water", 85),
    ("foot", 157, "grass", 140),
    ("jade", 96, "bird", 196),
)
"""Pairs of two meanings and their radicals."""


def measure_composed(studio: ParallelSampler, judge: Judge, how: Sampling, each: int) -> dict[str, Figure] | None:
    """Measure how often both radicals are detected, with `each` glyphs per pair: from one text ("fire and sickness"), and
    from a composed prompt ({"fire": 1, "sickness": 1}). Returns None except in the main process."""
    ways: dict[str, list[Any]] = {
        "one text": [f"{a} and {b}" for a, _, b, _ in PAIRS],
        "composed": [{a: 1.0, b: 1.0} for a, _, b, _ in PAIRS],
    }
    pair = np.repeat(np.arange(len(PAIRS)), each)
    found = {}
    total = 2 * studio.share(len(pair))
    with progress(total=total, desc="drawing", unit="glyph", shown=studio.main) as bar:
        for name, prompts in ways.items():
            drawn = studio.draw([prompts[p] for p in pair], how, bar=bar)
            if drawn is not None:
                seen = look(judge.network, drawn)
                both = [judge.has_part(seen, np.array([PAIRS[p][k] for p in pair])) for k in (1, 3)]
                found[name] = share_figure(both[0] * both[1], pair)
    return found if studio.main else None


def as_markdown(properties: dict[str, dict[str, Figure]], composed: dict[str, Figure]) -> str:
    """Format both results as Markdown tables."""
    share = {name: name != "strokes off by" for name in properties}
    lines = [
        "| property | asked alone | by chance | beside a text | by chance | real glyphs |",
        "|---|---|---|---|---|---|",
    ]
    keys = ("alone", "alone by chance", "beside", "beside by chance", "real")
    for name, f in properties.items():
        cells = [f[key].text(percent=share[name]) for key in keys]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", f"| both radicals of {len(PAIRS)} pairs | |", "|---|---|"]
    lines += [f"| {name} | {f.text(percent=True)} |" for name, f in composed.items()]
    return "\n".join(lines) + "\n"
