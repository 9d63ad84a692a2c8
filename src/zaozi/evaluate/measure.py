"""Everything that is measured of a model: what the picture says, how far it is from real ones, whether it is new and crisp."""

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
"""Fewer glyphs than this give no distance."""
EDITION = 1
"""Of what `look` sees in a picture; features kept on disk from an older one are made again."""
COPIES_BELOW = 0.01
"""A copy is nearer to a training glyph than this share of held-out real glyphs is."""


@dataclass(frozen=True)
class Glyphs:
    """Pictures `[N, C, S, S]` uint8, the texts they carry, what the reference network sees in them, and the radical
    (Kangxi number, 0 for none) that each has or was asked for."""

    pictures: NDArray[np.uint8]
    texts: list[str]
    seen: Seen
    radicals: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the network sees each glyph's radical as the primary one, `[N]`."""
        hits: NDArray[np.bool_] = self.seen.radical == self.radicals
        return hits

    def take(self, rows: NDArray[np.integer] | Sequence[int]) -> Glyphs:
        """Some of them."""
        index = np.asarray(rows, np.int64)
        texts = [self.texts[r] for r in index]
        return Glyphs(self.pictures[index], texts, self.seen.take(index), self.radicals[index])


def spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Up to `count` of some rows, evenly spread."""
    count = min(count, len(rows))
    return rows[np.arange(count) * len(rows) // max(count, 1)]


class Reader:
    """The reference network, asked whether glyphs show the radical they should."""

    def __init__(self, reference: Path | None = None) -> None:
        self.network: Reference = load_reference(reference)

    def look(
        self, pictures: NDArray[np.uint8], texts: list[str], radicals: Sequence[int] | NDArray[np.int64]
    ) -> Glyphs:
        """Drawn glyphs, seen by the reference network."""
        return Glyphs(pictures, texts, look(self.network, pictures), np.array(radicals, np.int64))

    def has_part(self, seen: Seen, radicals: NDArray[np.int64]) -> NDArray[np.float64]:
        """Whether the network sees each glyph's radical anywhere in it, `[N]`; where it knows no such part, as primary."""
        index = {part: i for i, part in enumerate(self.network.config.parts)}
        made = seen.radical == radicals
        for row, number in enumerate(radicals):
            if number and (place := index.get(radical(int(number)))) is not None:
                made[row] |= seen.parts[row, place]
        return made.astype(np.float64)

    def adherence(self, drawn: Glyphs) -> Figures:
        """The share of glyphs with the radical that was asked for; means over radicals, resampled by radical."""
        return {
            "primary": share_figure(drawn.right, drawn.radicals),
            "anywhere": share_figure(self.has_part(drawn.seen, drawn.radicals), drawn.radicals),
        }


class Judge(Reader):
    """The networks that judge, and the real glyphs to judge by. Raises `ZaoziError` where they or the dataset are not right.

    `plain` rows have a definition of their own, `crossed` rows refer to another character ("same as ...").
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
        """Test glyphs first, so that validation glyphs fill up only what those cannot."""
        self.tests = len(real["test"])
        self.held_out_crossed = np.concatenate([crossed["test"], crossed["validation"]])
        self.train_crossed = crossed["train"]
        self.train_parts = all_parts(splits["train"])
        self.train_hints: list[list[str]] = splits["train"].columns.get("hints") or [[] for _ in range(len(self.train))]
        self.spare = reserved(splits["train"])
        """Training glyphs that the reference network has not seen: the real side of every floor."""
        plain = {"held-out": ~self.held_out_crossed, "reserved training": self.spare & ~self.train_crossed}
        for name, chosen in plain.items():
            if (count := int(chosen.sum())) < LEAST:
                raise ZaoziError(f"the dataset has {count} {name} glyphs, too few to measure by; build a larger one")
        self.train_thumbs = thumbnails(self.train.pictures)
        self._nearest: dict[int, dict[str, Nearest]] = {}
        self._floors: dict[int, Figure] = {}

    def held_out_rows(self, count: int, *, crossed: bool) -> NDArray[np.int64]:
        """Up to `count` held-out rows, evenly spread: of the test split as far as it goes, then of validation."""
        rows = np.flatnonzero(self.held_out_crossed == crossed)
        test = spread(rows[rows < self.tests], count)
        return np.concatenate([test, spread(rows[rows >= self.tests], count - len(test))])

    def tested(self, glyphs: Glyphs, *, crossed: bool = False) -> Glyphs:
        """Of glyphs for `held_out_rows`, those for the test split: validation glyphs chose the towers' epoch."""
        count = int((self.held_out_crossed[: self.tests] == crossed).sum())
        return glyphs.take(np.arange(min(count, len(glyphs))))

    def held_out_with(self, radicals: Sequence[int] | NDArray[np.int64]) -> Glyphs:
        """The real held-out glyphs that have one of some radicals."""
        return self.held_out.take(np.flatnonzero(np.isin(self.held_out.radicals, radicals)))

    def unseen(self, count: int, *, crossed: bool = False) -> NDArray[np.float64]:
        """Features of up to `count` training glyphs that the reference network was not trained on, evenly spread."""
        rows = np.flatnonzero(self.spare & (self.train_crossed == crossed))
        return self.train.seen.features[spread(rows, count)]

    def _real(self, split: str, pairs: Pairs) -> Glyphs:
        check_columns(pairs)
        radicals = np.array([r or 0 for r in pairs.columns["radical"]], np.int64)
        return Glyphs(pairs.pictures, pairs.texts, self._seen(split, pairs), radicals)

    def _seen(self, split: str, pairs: Pairs) -> Seen:
        """What the network sees in a split's real glyphs, kept on disk by network and dataset."""
        key = hashlib.sha256(f"{EDITION} {self.fingerprint} {data_hash(self.data)} {split}".encode()).hexdigest()[:24]
        folder = home() / "seen" / key
        cached(folder, "seen", lambda work: np.savez(work / "seen.npz", **vars(look(self.network, pairs.pictures))))
        with np.load(folder / "seen.npz") as kept:
            return Seen(**kept)

    # -- the measures -----------------------------------------------------------------------------------------------

    def real_adherence(self) -> Figures:
        """The same of real held-out glyphs that have one of the list's radicals: what the network could find at best."""
        return self.adherence(self.held_out_with(list(PROMPTS)))

    def lookup_adherence(self, *, hints: bool = False) -> Figures:
        """What memory alone gives: for each prompt, the glyphs of the training caption (with `hints`, of the caption or
        hint) nearest to it in meaning, by what they are (the network that judges the others has seen most of these)."""
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
        """Adherence (as the primary radical) over that of real glyphs; radicals, in both, resampled together."""
        real = self.held_out_with(drawn.radicals)
        drawn = drawn.take(np.flatnonzero(np.isin(drawn.radicals, real.radicals)))
        both = [group_means(g.right.astype(np.float64), g.radicals) for g in (drawn, real)]
        if not len(real) or not both[1].any():
            return mean_figure([])

        def ratio(rows: NDArray[np.float64]) -> float:
            return float(rows[:, 0].mean() / rows[:, 1].mean())

        return interval(resampled(ratio, np.stack(both, 1), repeats=REPEATS), len(drawn))

    def chance_adherence(self, drawn: Glyphs) -> Figures:
        """Adherence where the radicals asked for are dealt out anew: what common parts bring by themselves."""
        order = np.random.Generator(np.random.Philox(0)).permutation(len(drawn))
        return self.adherence(replace(drawn, radicals=drawn.radicals[order]))

    def agreement(self, drawn: Glyphs) -> Figure:
        """For captions of real characters: the share of glyphs with that character's own radical (many captions hide it)."""
        return share_figure(drawn.right, drawn.texts, by_row=True)

    def distance(self, drawn: Glyphs, real: Glyphs, *, crossed: bool = False) -> dict[str, Figures]:
        """Distances of drawn glyphs to the real ones of the same captions, of other real glyphs to those at the same N (the
        floor), and the Frechet distance over its floor; nothing where there are too few."""
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
        """The Frechet distance between `count` real glyphs and as many held-out ones, as far as both go: at so few glyphs it
        is far from zero, and drawn ones can't be told from real ones below it. Kept for the next time."""
        if count not in self._floors:
            real = self.held_out.take(self.held_out_rows(count, crossed=False)).seen.features
            other = self.unseen(len(real))
            self._floors[count] = statistic_figure(
                frechet, other, real[spread(np.arange(len(real)), len(other))], repeats=100
            )
        return self._floors[count]

    def retrieval(self, glyphs: Glyphs, *, crossed: bool = False) -> Figure:
        """How often a glyph finds its own caption among 99 held-out ones; nothing where those are fewer."""
        rivals = [self.held_out.texts[r] for r in np.flatnonzero(self.held_out_crossed == crossed)]
        if len({text.casefold() for text in rivals}) < AMONG:
            return mean_figure([])
        features = torch.from_numpy(glyphs.seen.features).float()
        texts, others = (encode_all(self.encoder, some) for some in (glyphs.texts, rivals))
        return share_figure(
            retrieval(self.towers, features, texts, glyphs.texts, others, rivals), glyphs.texts, by_row=True
        )

    def nearest(self, glyphs: Glyphs) -> dict[str, Nearest]:
        """Distance to, and row of, the nearest training glyph, `[N]` each: in `pixels` and in `features`."""
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
        """The distances below which a glyph is a copy: those that 1% of held-out real glyphs stay under."""

        def lowest(values: NDArray[np.float64]) -> float:
            return float(np.quantile(values, COPIES_BELOW))

        return {name: statistic_figure(lowest, value) for name, (value, _) in self.nearest(self.held_out).items()}

    def copies(self, glyphs: Glyphs) -> Figures:
        """The share of glyphs that are copies, in pixels and in features; those for one text are resampled together."""
        near, limits = self.nearest(glyphs), self.limits
        return {name: share_figure(value < limits[name].value, glyphs.texts) for name, (value, _) in near.items()}

    def diversity(self, drawn: Glyphs) -> Figures:
        """Mean feature distance between two glyphs asked for the same radical, and between two real held-out glyphs that
        have it; radicals count alike."""
        real = self.held_out_with(drawn.radicals)
        return {
            name: mean_figure(list(diversity(g.seen.features, g.radicals).values()))
            for name, g in (("drawn", drawn), ("real", real))
        }

    @staticmethod
    def legibility(pictures: NDArray[np.uint8]) -> Figures:
        """How stroke-like the ink is: half-grey pixels among the inked ones, specks a glyph, separate parts a glyph."""
        small, parts = specks(pictures)
        return {
            "half_grey": mean_figure(half_grey(pictures)),
            "specks": mean_figure(small),
            "parts": mean_figure(parts),
        }


def _joined(a: Glyphs, b: Glyphs) -> Glyphs:
    pictures, radicals = np.concatenate([a.pictures, b.pictures]), np.concatenate([a.radicals, b.radicals])
    return Glyphs(pictures, a.texts + b.texts, joined([a.seen, b.seen]), radicals)
