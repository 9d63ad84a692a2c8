"""Map of all glyphs: similar glyphs are close in the plane."""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zaozi.core.caches import cached
from zaozi.core.files import home
from zaozi.core.sampling import Sampling
from zaozi.data.pairs import Pairs, load_pairs
from zaozi.data.shards import SPLITS, data_hash
from zaozi.data.unihan import radical
from zaozi.evaluate.copies import nearest_pixels, thumbnails
from zaozi.guide.figures import figures
from zaozi.guide.figures.live import Diary, drawn
from zaozi.guide.figures.paper import ACCENT, INK, QUIET, SECOND, Figure, as_url, canvas, numbers, show
from zaozi.guide.figures.source import Source
from zaozi.pipeline import to_bytes

NEIGHBOURS = 15
SOME = 512
"""Batch size for reading pictures from disk and for nearest-neighbor queries."""
MARKED = ("明", "草")


@dataclass(frozen=True)
class Glyphs:
    """All splits concatenated. Pictures stay on disk; `pictures` reads a range."""

    parts: list[Pairs]
    texts: list[str]
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.texts)

    def pictures(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Read glyphs `start` to `stop`, `[N, 1, S, S]`."""
        made, first = [], 0
        for part in self.parts:
            made.append(part.pictures[max(start - first, 0) : max(stop - first, 0)])
            first += len(part)
        taken = np.concatenate(made)
        for part in self.parts:
            if isinstance(mapped := part.pictures.base, mmap.mmap) and hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_DONTNEED)  # release the mapped pages from this process's memory
        return taken


def everything(source: Source) -> Glyphs:
    """Return all splits concatenated."""

    def make() -> Glyphs:
        own = {"train": lambda: source.train, "test": lambda: source.test}
        parts = [own[split]() if split in own else load_pairs(source.folder, split) for split in SPLITS]
        columns = {name: [v for p in parts for v in p.columns[name]] for name in parts[0].columns}
        return Glyphs(parts, [t for p in parts for t in p.texts], columns)

    found: Glyphs = source.memo("everything", make)
    return found


def nearest(queries: Tensor, known: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the exact `count` nearest neighbors in `known` `[M, D]` of `queries` `[N, D]`: distances and rows, `[N, count]`."""
    norms = known.square().sum(1)
    values, places = [], []
    for part in queries.split(SOME):
        squares = part.square().sum(1, keepdim=True) + norms - 2.0 * part @ known.T
        value, place = squares.topk(count, largest=False)
        values.append(value.clamp(min=0).sqrt())
        places.append(place)
    return torch.cat(values), torch.cat(places)


def plane(source: Source) -> NDArray[np.float32]:
    """UMAP (arXiv:1802.03426) of all glyphs at 32x32, from exact nearest neighbors: `[N, 2]`, cached on disk."""

    def make() -> NDArray[np.float32]:
        key = hashlib.sha256(f"plane 1 {data_hash(source.folder)} {source.seed}".encode()).hexdigest()[:24]
        return np.load(cached(home() / "atlas" / key, "atlas", fit) / "plane.npy")

    def fit(work: Path) -> None:
        import umap

        flat = thumbs(source).flatten(1)
        distances, rows = nearest(flat, flat, NEIGHBOURS)
        known = (rows.numpy().astype(np.int64), distances.numpy().astype(np.float32), None)
        made = umap.UMAP(n_neighbors=NEIGHBOURS, random_state=source.seed, precomputed_knn=known, n_jobs=1)
        np.save(work / "plane.npy", made.fit_transform(flat.numpy()).astype(np.float32))

    found: NDArray[np.float32] = source.memo("plane", make)
    return found


def thumbs(source: Source) -> Tensor:
    """Return all glyphs as ink at 32x32, `[N, 32, 32]`."""

    def make() -> Tensor:
        pairs = everything(source)
        return torch.cat([thumbnails(pairs.pictures(at, at + SOME)) for at in range(0, len(pairs), SOME)])

    found: Tensor = source.memo("thumbs", make)
    return found


def placed(source: Source, pictures: Tensor) -> NDArray[np.float32]:
    """Map pictures `[B, 1, S, S]` in [-1, 1] to the plane: the distance-weighted mean of their five nearest glyphs. `[B, 2]`"""
    distances, rows = nearest(thumbnails(to_bytes(pictures)).flatten(1), thumbs(source).flatten(1), 5)
    weights = 1.0 / (distances + 1e-3)
    weights /= weights.sum(1, keepdim=True)
    where = torch.from_numpy(plane(source)[rows.numpy()])
    return (where * weights[..., None]).sum(1).numpy()


def agreement(labels: list[Any], points: NDArray[np.float32]) -> tuple[float, float]:
    """Return how often a glyph's nearest neighbor on the plane has the same label, and the chance level."""
    points_t = torch.from_numpy(points)
    _, rows = nearest(points_t, points_t, 2)
    others = np.where(rows[:, 0].numpy() == np.arange(len(points)), rows[:, 1].numpy(), rows[:, 0].numpy())
    values = np.array([str(v) for v in labels])
    _, counts = np.unique(values, return_counts=True)
    return float((values[others] == values).mean()), float(((counts / len(values)) ** 2).sum())


def described(source: Source) -> dict[str, Any]:
    """Return every glyph's position on the plane and its metadata, by column."""
    pairs = everything(source)
    return {
        "points": numbers(plane(source), 4),
        "characters": "".join(pairs.columns["character"]),
        "texts": pairs.texts,
        "radicals": [radical(r) if r else "" for r in pairs.columns["radical"]],
        "structures": pairs.columns["structure"],
        "parts": ["".join(parts) for parts in pairs.columns["components"]],
    }


@figures.register("04-atlas")
def atlas(source: Source) -> Figure:
    """Every glyph on the plane, by structure and by density, with two of them marked."""
    from scipy.stats import gaussian_kde

    pairs, points = everything(source), plane(source)
    structures = pairs.columns["structure"]
    near, chance = agreement(structures, points)
    near_radical, chance_radical = agreement(pairs.columns["radical"], points)
    common = ["left-right", "above-below", "single", "surround-from-upper-left", "surround-from-lower-left"]
    colours = [SECOND, ACCENT, "#a3762a", "#6a8f3c", "#8e5ba6"]
    low, high = points.min(0) - 0.5, points.max(0) + 0.5
    across = np.stack(np.meshgrid(np.linspace(low[0], high[0], 120), np.linspace(low[1], high[1], 120)), 0)
    rng = source.generator(4)
    some = points[rng.choice(len(points), min(4000, len(points)), replace=False)]
    density = gaussian_kde(some.T, bw_method=0.08)(across.reshape(2, -1)).reshape(120, 120)
    plot, axes = canvas(1, 2, width=12, height=6.2, sharex=True, sharey=True)
    axes[0, 0].scatter(*points.T, s=0.6, color=QUIET, lw=0, rasterized=True)
    for name, colour in zip(common, colours, strict=True):
        rows = np.flatnonzero(np.array(structures) == name)
        axes[0, 0].scatter(*points[rows].T, s=0.8, color=colour, lw=0, label=name, rasterized=True)
    axes[0, 0].legend(frameon=False, markerscale=8, fontsize=8, loc="upper left")
    axes[0, 1].contourf(*across, density, levels=14, cmap="Greys")
    marks = []
    for character in MARKED:
        row = pairs.columns["character"].index(character) if character in pairs.columns["character"] else None
        if row is None:
            continue
        marks.append({"character": character, "at": numbers(points[row]), "structure": structures[row]})
        for one in axes[0]:
            one.annotate(
                character, points[row], xytext=(10, 10), textcoords="offset points", fontsize=15, color=INK,
                arrowprops={"arrowstyle": "-", "color": INK},
            )  # fmt: skip
    for one in axes[0]:
        one.axis("off")
    return Figure(
        "All glyphs on one plane",
        f"Each of {len(points):,} glyphs is a point, and similar glyphs are close together: nearest neighbours have the same "
        f"structure in {near:.0%} of cases (chance {chance:.0%}) and the same radical in {near_radical:.0%} "
        f"({chance_radical:.0%}). The parts of 明 are side by side, those of 草 are stacked.",
        plot,
        {
            **described(source),
            "neighbours_share": {"structure": [near, chance], "radical": [near_radical, chance_radical]},
            "marked": marks,
            "contours": {"x": numbers(across[0, 0]), "y": numbers(across[1, :, 0]), "density": numbers(density, 3)},
        },
    )


@figures.register("19-origins")
def origins(source: Source) -> Figure:
    """A generated glyph, its nearest training glyphs, and its path over the plane during sampling."""
    prompt = "a small song bird"
    diary = Diary()
    made = drawn(source, [prompt] * 3, range(3), Sampling(40), diary)
    decode = source.artist.model.space.decode
    with torch.inference_mode():
        way = [decode(x0) for _, _, x0, _ in diary.steps]
    paths = [placed(source, torch.stack([x0[i] for x0 in way])) for i in range(3)]
    train = source.train
    known = thumbs(source)[: len(train)]  # the training split comes first
    relatives = []
    for small in thumbnails(to_bytes(made)).split(1):
        found, left = [], known.clone()
        for _ in range(4):  # the nearest, then the nearest of the remaining ones
            value, place = nearest_pixels(small, left)
            found.append((float(value[0]), int(place[0])))
            left[place] = 0.0
        relatives.append(found)
    points = plane(source)
    plot, axes = canvas(3, 6, width=11.4, height=6.0)
    for i in range(3):
        show(axes[i, 0], made[i], "drawn" if i == 0 else "")
        for k, (apart, row) in enumerate(relatives[i]):
            show(axes[i, k + 1], train.batch([row]), f"{apart:.2f}")
        axes[i, 5].scatter(*points.T, s=3, color=QUIET, lw=0, rasterized=True)
        axes[i, 5].plot(*paths[i].T, color=ACCENT, lw=0.8)
        axes[i, 5].plot(*paths[i][-1], "o", color=ACCENT, ms=3)
        middle, reach = (paths[i].max(0) + paths[i].min(0)) / 2, max(float(np.ptp(paths[i], 0).max()), 0.3)
        axes[i, 5].set(xlim=middle[0] + np.array([-reach, reach]), ylim=middle[1] + np.array([-reach, reach]))
        axes[i, 5].axis("off")
    return Figure(
        "Where a new glyph comes from",
        "Each drawn glyph, and the four training glyphs nearest to it, with their distances (0 is a copy; at 1.4 nothing is in "
        "common). They share parts with the drawn glyph, but none is the same. Right, the path of the predicted picture over the "
        "plane of all glyphs during sampling, and its end point.",
        plot,
        {
            "prompt": prompt,
            "drawn": [as_url(p) for p in made],
            "nearest": [
                [{"key": train.keys[row], "text": train.texts[row], "distance": numbers(apart)} for apart, row in found]
                for found in relatives
            ],
            "paths": numbers(np.stack(paths), 4),
        },
    )
