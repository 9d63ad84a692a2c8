"""All measures of a model: adherence, distance to real glyphs, novelty and sharpness."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zaozi.core.caches import cached
from zaozi.core.errors import ZaoziError
from zaozi.core.files import home
from zaozi.data.pairs import Pairs, load_pairs
from zaozi.data.shards import data_hash
from zaozi.data.unihan import radical
from zaozi.evaluate.copies import nearest_features, nearest_pixels, thumbnails
from zaozi.evaluate.distances import diversity, frechet, kid, prdc
from zaozi.evaluate.ink import half_grey, specks
from zaozi.evaluate.intervals import (
    REPEATS,
    Figure,
    group_means,
    interval,
    mean_figure,
    resampled,
    share_figure,
    statistic_figure,
)
from zaozi.evaluate.prompts import PROMPTS, flat
from zaozi.evaluate.reference import (
    Reference,
    Seen,
    all_parts,
    check_columns,
    fingerprint,
    joined,
    load_reference,
    look,
    reserved,
)
from zaozi.evaluate.towers import AMONG, Towers, encode_all, load_towers, retrieval
from zaozi.text.encoders import TextEncoder, load_encoder

Figures = dict[str, Figure]
Nearest = tuple[NDArray[np.float64], NDArray[np.int64]]
TEXT_TOKENS = 32
LEAST = 8
"""Minimum number of glyphs for a distance."""
EDITION = 1
"""Version of the output of `look`; cached features of an older version are recomputed."""
COPIES_BELOW = 0.01
"""A glyph is a copy if it is closer to a training glyph than all but this share of held-out real glyphs."""


@dataclass(frozen=True)
class Glyphs:
    """Pictures `[N, C, S, S]` uint8, their texts, their reference network outputs, and the actual or requested radical of
    each (Kangxi number, 0 for none)."""

    pictures: NDArray[np.uint8]
    texts: list[str]
    seen: Seen
    radicals: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the network predicts each glyph's radical as the primary one, `[N]`."""
        hits: NDArray[np.bool_] = self.seen.radical == self.radicals
        return hits

    def take(self, rows: NDArray[np.integer] | Sequence[int]) -> Glyphs:
        """Return the selected rows."""
        index = np.asarray(rows, np.int64)
        texts = [self.texts[r] for r in index]
        return Glyphs(self.pictures[index], texts, self.seen.take(index), self.radicals[index])


def spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return up to `count` of the rows, evenly spaced."""
    count = min(count, len(rows))
    return rows[np.arange(count) * len(rows) // max(count, 1)]


class Reader:
    """Uses the reference network to check whether glyphs show their radical."""

    def __init__(self, reference: Path | None = None) -> None:
        self.network: Reference = load_reference(reference)

    def look(
        self, pictures: NDArray[np.uint8], texts: list[str], radicals: Sequence[int] | NDArray[np.int64]
    ) -> Glyphs:
        """Apply the reference network to generated glyphs."""
        return Glyphs(pictures, texts, look(self.network, pictures), np.array(radicals, np.int64))

    def has_part(self, seen: Seen, radicals: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return whether each glyph's radical is detected anywhere, `[N]`; if it is not a known part, as primary radical."""
        index = {part: i for i, part in enumerate(self.network.config.parts)}
        made = seen.radical == radicals
        for row, number in enumerate(radicals):
            if number and (place := index.get(radical(int(number)))) is not None:
                made[row] |= seen.parts[row, place]
        return made.astype(np.float64)

    def adherence(self, drawn: Glyphs) -> Figures:
        """Return the share of glyphs with the requested radical: means over radicals, resampled by radical."""
        return {
            "primary": share_figure(drawn.right, drawn.radicals),
            "anywhere": share_figure(self.has_part(drawn.seen, drawn.radicals), drawn.radicals),
        }


class Judge(Reader):
    """The evaluation networks and the real glyphs. Raises `ZaoziError` if the networks or the dataset are unsuitable.

    `plain` rows have their own definition, `crossed` rows refer to another character ("same as ...").
    """

    def __init__(self, data: Path, reference: Path | None = None) -> None:
        super().__init__(reference)
        self.data = data
        self.towers: Towers = load_towers(reference)
        self.fingerprint = fingerprint(reference)
        self.encoder: TextEncoder = load_encoder("minilm", TEXT_TOKENS)
        splits = {name: load_pairs(data, name) for name in ("train", "test", "validation")}
        real = {name: self._real(name, pairs) for name, pairs in splits.items()}
        crossed = {
            name: np.array([bool(v) for v in pairs.columns["cross_reference"]], bool) for name, pairs in splits.items()
        }
        self.train = real["train"]
        self.held_out = _joined(real["test"], real["validation"])
        """Test glyphs first; validation glyphs are used only if there are not enough."""
        self.tests = len(real["test"])
        self.held_out_crossed = np.concatenate([crossed["test"], crossed["validation"]])
        self.train_crossed = crossed["train"]
        self.train_parts = all_parts(splits["train"])
        self.train_hints: list[list[str]] = splits["train"].columns.get("hints") or [[] for _ in range(len(self.train))]
        self.spare = reserved(splits["train"])
        """Training glyphs that the reference network was not trained on: the real side of every floor."""
        plain = {"held-out": ~self.held_out_crossed, "reserved training": self.spare & ~self.train_crossed}
        for name, chosen in plain.items():
            if (count := int(chosen.sum())) < LEAST:
                raise ZaoziError(f"the dataset has {count} {name} glyphs, too few to measure by; build a larger one")
        self.train_thumbs = thumbnails(self.train.pictures)
        self._nearest: dict[int, dict[str, Nearest]] = {}
        self._floors: dict[int, Figure] = {}

    def held_out_rows(self, count: int, *, crossed: bool) -> NDArray[np.int64]:
        """Return up to `count` held-out rows, evenly spaced: first from the test split, then from validation."""
        rows = np.flatnonzero(self.held_out_crossed == crossed)
        test = spread(rows[rows < self.tests], count)
        return np.concatenate([test, spread(rows[rows >= self.tests], count - len(test))])

    def tested(self, glyphs: Glyphs, *, crossed: bool = False) -> Glyphs:
        """Select the test split from glyphs for `held_out_rows`: the towers' epoch was chosen on validation glyphs."""
        count = int((self.held_out_crossed[: self.tests] == crossed).sum())
        return glyphs.take(np.arange(min(count, len(glyphs))))

    def held_out_with(self, radicals: Sequence[int] | NDArray[np.int64]) -> Glyphs:
        """Return the real held-out glyphs with one of the given radicals."""
        return self.held_out.take(np.flatnonzero(np.isin(self.held_out.radicals, radicals)))

    def unseen(self, count: int, *, crossed: bool = False) -> NDArray[np.float64]:
        """Return features of up to `count` training glyphs that the reference network was not trained on, evenly spaced."""
        rows = np.flatnonzero(self.spare & (self.train_crossed == crossed))
        return self.train.seen.features[spread(rows, count)]

    def _real(self, split: str, pairs: Pairs) -> Glyphs:
        check_columns(pairs)
        radicals = np.array([r or 0 for r in pairs.columns["radical"]], np.int64)
        return Glyphs(pairs.pictures, pairs.texts, self._seen(split, pairs), radicals)

    def _seen(self, split: str, pairs: Pairs) -> Seen:
        """Return the network outputs for a split's real glyphs, cached on disk by network and dataset."""
        key = hashlib.sha256(f"{EDITION} {self.fingerprint} {data_hash(self.data)} {split}".encode()).hexdigest()[:24]
        folder = home() / "seen" / key
        cached(folder, "seen", lambda work: np.savez(work / "seen.npz", **vars(look(self.network, pairs.pictures))))
        with np.load(folder / "seen.npz") as kept:
            return Seen(**kept)

    # -- the measures -----------------------------------------------------------------------------------------------

    def real_adherence(self) -> Figures:
        """Return the adherence of real held-out glyphs with one of the list's radicals: the upper bound for the network."""
        return self.adherence(self.held_out_with(list(PROMPTS)))

    def lookup_adherence(self, *, hints: bool = False) -> Figures:
        """Return the adherence of pure lookup: for each prompt, the glyphs of the training caption (with `hints`, caption or
        hint) closest in meaning, by their true radicals (the reference network was trained on most of these glyphs)."""
        prompts, radicals = flat()
        texts, owner = list(self.train.texts), np.arange(len(self.train))
        if hints:
            texts += [hint for some in self.train_hints for hint in some]
            owner = np.concatenate([owner, np.repeat(owner, [len(some) for some in self.train_hints])])
        near = (encode_all(self.encoder, prompts) @ encode_all(self.encoder, texts).T).numpy()
        primary, anywhere = [], []
        for row, number in zip(near, radicals, strict=True):
            found = np.unique(owner[row > row.max() - 1e-6])  # all glyphs of that text
            primary.append(float((self.train.radicals[found] == number).mean()))
            anywhere.append(float(np.mean([radical(number) in self.train_parts[r] for r in found])))
        return {"primary": mean_figure(primary, radicals), "anywhere": mean_figure(anywhere, radicals)}

    def relative_adherence(self, drawn: Glyphs) -> Figure:
        """Return the adherence (primary radical) relative to real glyphs; the radicals of both are resampled together."""
        real = self.held_out_with(drawn.radicals)
        drawn = drawn.take(np.flatnonzero(np.isin(drawn.radicals, real.radicals)))
        both = [group_means(g.right.astype(np.float64), g.radicals) for g in (drawn, real)]
        if not len(real) or not both[1].any():
            return mean_figure([])

        def ratio(rows: NDArray[np.float64]) -> float:
            return float(rows[:, 0].mean() / rows[:, 1].mean())

        return interval(resampled(ratio, np.stack(both, 1), repeats=REPEATS), len(drawn))

    def chance_adherence(self, drawn: Glyphs) -> Figures:
        """Return the adherence for shuffled requested radicals: the chance level due to common parts."""
        order = np.random.Generator(np.random.Philox(0)).permutation(len(drawn))
        return self.adherence(replace(drawn, radicals=drawn.radicals[order]))

    def agreement(self, drawn: Glyphs) -> Figure:
        """Return the share of glyphs for real captions with the radical of that character (many captions do not reveal it)."""
        return share_figure(drawn.right, drawn.texts, by_row=True)

    def distance(self, drawn: Glyphs, real: Glyphs, *, crossed: bool = False) -> dict[str, Figures]:
        """Return distances of generated glyphs to the real ones of the same captions, of other real glyphs to those at the
        same N (the floor), and the Frechet distance relative to its floor; empty if there are too few glyphs."""
        unseen = self.unseen(len(drawn), crossed=crossed)
        count = len(unseen)
        if count < LEAST:
            return {}
        everything = np.arange(len(drawn))
        a, b = (g.seen.features[spread(everything, count)] for g in (real, drawn))
        made, values = {}, {}
        for name, features in (("drawn", b), ("real", unseen)):
            values[name] = resampled(frechet, features, a)
            figures = {"frechet": interval(values[name], count), "kid": statistic_figure(kid, features, a)}
            made[name] = figures | {key: mean_figure(each) for key, each in prdc(a, features).items()}
        return made | {"over_floor": {"frechet": interval(values["drawn"] / values["real"], count)}}

    def floor(self, count: int) -> Figure:
        """Return the Frechet distance between `count` real glyphs and as many held-out ones, if available. At small counts
        it is far from zero; below it, generated and real glyphs cannot be distinguished. Cached."""
        if count not in self._floors:
            real = self.held_out.take(self.held_out_rows(count, crossed=False)).seen.features
            other = self.unseen(len(real))
            self._floors[count] = statistic_figure(
                frechet, other, real[spread(np.arange(len(real)), len(other))], repeats=100
            )
        return self._floors[count]

    def retrieval(self, glyphs: Glyphs, *, crossed: bool = False) -> Figure:
        """Return how often a glyph matches its own caption among 99 held-out ones; NaN if there are fewer."""
        rivals = [self.held_out.texts[r] for r in np.flatnonzero(self.held_out_crossed == crossed)]
        if len({text.casefold() for text in rivals}) < AMONG:
            return mean_figure([])
        features = torch.from_numpy(glyphs.seen.features).float()
        texts, others = (encode_all(self.encoder, some) for some in (glyphs.texts, rivals))
        return share_figure(
            retrieval(self.towers, features, texts, glyphs.texts, others, rivals), glyphs.texts, by_row=True
        )

    def nearest(self, glyphs: Glyphs) -> dict[str, Nearest]:
        """Return the distance to and row of the nearest training glyph, `[N]` each: in `pixels` and in `features`."""
        if (key := id(glyphs)) not in self._nearest:
            value, place = nearest_pixels(thumbnails(glyphs.pictures), self.train_thumbs)
            self._nearest[key] = {
                "pixels": (value.double().numpy(), place.numpy()),
                "features": nearest_features(glyphs.seen.features, self.train.seen.features),
            }
            weakref.finalize(glyphs, self._nearest.pop, key)  # forgotten with the glyphs
        return self._nearest[key]

    @cached_property
    def limits(self) -> Figures:
        """Return the distances below which a glyph is a copy: the 1% quantile for held-out real glyphs."""

        def lowest(values: NDArray[np.float64]) -> float:
            return float(np.quantile(values, COPIES_BELOW))

        return {name: statistic_figure(lowest, value) for name, (value, _) in self.nearest(self.held_out).items()}

    def copies(self, glyphs: Glyphs) -> Figures:
        """Return the share of copies, in pixels and in features; glyphs for the same text are resampled together."""
        near, limits = self.nearest(glyphs), self.limits
        return {name: share_figure(value < limits[name].value, glyphs.texts) for name, (value, _) in near.items()}

    def diversity(self, drawn: Glyphs) -> Figures:
        """Return the mean feature distance between two glyphs for the same requested radical, and between two real held-out
        glyphs with that radical; radicals are weighted equally."""
        real = self.held_out_with(drawn.radicals)
        return {
            name: mean_figure(list(diversity(g.seen.features, g.radicals).values()))
            for name, g in (("drawn", drawn), ("real", real))
        }

    @staticmethod
    def legibility(pictures: NDArray[np.uint8]) -> Figures:
        """Return the stroke quality: share of half-grey pixels among inked ones, specks per glyph, separate parts per glyph."""
        small, parts = specks(pictures)
        return {
            "half_grey": mean_figure(half_grey(pictures)),
            "specks": mean_figure(small),
            "parts": mean_figure(parts),
        }


def _joined(a: Glyphs, b: Glyphs) -> Glyphs:
    pictures, radicals = np.concatenate([a.pictures, b.pictures]), np.concatenate([a.radicals, b.radicals])
    return Glyphs(pictures, a.texts + b.texts, joined([a.seen, b.seen]), radicals)
