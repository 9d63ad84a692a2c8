"""Create figures/ and data/ of the page with any model.

Those of the bundled model are part of the package. `zaozi guide serve` runs `python -m zaozi.guide.redraw` in a separate
process, so that it can respond to requests meanwhile.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from zaozi import __version__
from zaozi.core.caches import cached
from zaozi.core.files import home, sha256, write_json
from zaozi.core.heap import give_back_freed_memory
from zaozi.data.font import web_font
from zaozi.data.shards import data_hash
from zaozi.data.unihan import radical
from zaozi.guide.explain import order
from zaozi.guide.figures import figure, figures
from zaozi.guide.figures.source import Source
from zaozi.guide.hero import explainer, write_hero
from zaozi.guide.shipped import DRAWN, EDITION, INDEX
from zaozi.model.checkpoint import WEIGHTS, find_model

FILMED = ("10-films-ddpm-120", "10-films-ddim-120", "10-films-dpmpp-sde-120")
"""Videos shown on the page."""
STEPPED = {"15-guidance-and-steps": ("guidance.json", "slider"), "16-training-step": ("loop.json", "batch"),
           "24-contrast": ("contrast.json", "pairs")}  # fmt: skip
"""Figures that the page also shows step by step: the file in data/, and which of their numbers it holds."""
COSTS = {"10-films": 300, "data": 45, "15-guidance-and-steps": 80, "23-larger": 8, "02-real-and-drawn": 16, "14-first-guess": 14,
         "19-origins": 14, "04-atlas": 10, "07-fields": 7, "15-radicals": 25,
         "21-candidates": 6, "22-likelihood": 40}  # fmt: skip
"""Approximate seconds per part on one core; all others take about one."""
SHOWN = "明草水火金木鳥魚锂龍"
"""Glyphs for the forward process."""
TEXT = "造字明草锂金釒钅中文"
"""Characters in the page's text."""
PLACED = ("gold", "a small song bird", "sickness", "clear water", "fish", "to speak", "mountain", "fire")
"""Prompts whose glyphs are placed on the map."""
SIDE, COLUMNS, ROWS, GREYS = 48, 32, 32, 3
"""Glyph size, grid size and gray levels of the sheets of small glyphs in the map's pop-ups."""

Tell = Callable[[int, int, float], None]
"""Callback with the number of finished parts, the total, and the seconds left."""


def drawn_folder(source: Source, tell: Tell = lambda done, total, left: None) -> Path:
    """Return the cache folder with figures/ and data/ of a model; they are drawn if missing."""
    key = sha256(find_model(source.model_name) / WEIGHTS)[:24]
    kept = home() / "figures" / f"{key}-{data_hash(source.folder)[:8]}-{source.seed}-{__version__}-{EDITION}"
    return cached(kept, "figures", lambda work: draw_site(source, work, tell))


def draw_site(source: Source, out: Path, tell: Tell = lambda done, total, left: None) -> None:
    """Draw figures/ and data/ into an empty folder."""
    from zaozi.guide.figures.paper import styled

    parts = ["data", *sorted(figures, key=lambda name: COSTS.get(name, 1))]
    left, rate, start, spent = sum(COSTS.get(p, 1) for p in parts), 1.0, time.monotonic(), 0
    index: dict[str, dict[str, Any]] = {}
    for done, name in enumerate(parts):
        tell(done, len(parts), left * rate)
        if name == "data":
            _data(source, out / "data")
            write_hero(source, out, explainer(source))
        else:
            with styled():
                index |= _figure(source, out / "figures", name)
        gc.collect()
        give_back_freed_memory()
        cost = COSTS.get(name, 1)
        left, spent = left - cost, spent + cost
        rate = (time.monotonic() - start + 60) / (spent + 60)  # close to one at first, until there is enough data
    write_json(out / INDEX, dict(sorted(index.items())))
    write_json(out / DRAWN, {"edition": EDITION, "model": sha256(find_model(source.model_name) / WEIGHTS)})
    tell(len(parts), len(parts), 0.0)


def _figure(source: Source, out: Path, name: str) -> dict[str, dict[str, Any]]:
    """Write one figure as SVG, and its videos with their last frames as posters; returns the metadata for the page."""
    from zaozi.guide.figures.paper import vector

    out.mkdir(exist_ok=True)
    made = figure(name)(source)
    svg = vector(made)
    (out / f"{name}.svg").write_text(svg, encoding="utf-8")
    if name in STEPPED:
        file, key = STEPPED[name]
        _write(out.parent / "data" / file, {key: made.data[key]})
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box
    about = {"title": made.title, "caption": made.says}
    index = {
        name: {
            "file": f"{name}.svg",
            "width": round(float(box[1]) * 4 / 3),
            "height": round(float(box[2]) * 4 / 3),
            **about,
        }
    }
    for kind, film in made.films.items():
        if (key := f"{name}-{kind}") in FILMED:
            film.write(out / f"{key}.mp4")
            last = film.last()
            last.convert("L").save(out / f"{key}.webp", quality=60, method=6)
            files = {"file": f"{key}.mp4", "poster": f"{key}.webp"}
            index[key] = {**files, "width": last.width, "height": last.height, **about}
    return index


def _data(source: Source, out: Path) -> None:
    """Write glyphs for the forward process, and the map with its sheets of small glyphs."""
    from zaozi.guide.figures.atlas import described, everything, placed
    from zaozi.guide.figures.live import drawn
    from zaozi.guide.figures.paper import as_url, numbers

    out.mkdir()
    pairs = everything(source)
    rows = {character: row for row, character in enumerate(pairs.columns["character"])}
    glyphs = [
        {
            "character": character,
            "definition": pairs.texts[rows[character]],
            "pixels": np.asarray(
                Image.fromarray(pairs.pictures(rows[character], rows[character] + 1)[0, 0]).resize((64, 64), Image.Resampling.BOX)
            )
            .flatten()
            .tolist(),
        }
        for character in SHOWN
        if character in rows
    ]  # fmt: skip
    _write(out / "glyphs.json", {"glyphs": glyphs})
    parts = {part for some in pairs.columns["components"] for part in some}
    web_font(TEXT, out / "text.woff")
    web_font("".join(sorted(parts)) + "".join(radical(n) for n in range(1, 215)), out / "parts.woff")
    made = drawn(source, list(PLACED), [0] * len(PLACED))
    where = placed(source, made)
    cells = COLUMNS * ROWS
    for sheet, start in enumerate(range(0, len(pairs), cells)):
        part = torch.from_numpy(pairs.pictures(start, start + cells).astype(np.float32))
        small = torch.nn.functional.interpolate(part, SIDE, mode="area")[:, 0] / 255.0
        board = np.full((ROWS * SIDE, COLUMNS * SIDE), 255, np.uint8)
        for i, glyph in enumerate(((small * (GREYS - 1)).round() * (255 / (GREYS - 1))).round().numpy()):
            y, x = SIDE * (i // COLUMNS), SIDE * (i % COLUMNS)
            board[y : y + SIDE, x : x + SIDE] = glyph
        Image.fromarray(board).convert("RGB").save(out / f"atlas-{sheet}.webp", lossless=True, quality=80, method=4)
    layout = {"side": SIDE, "columns": COLUMNS, "rows": ROWS}
    _write(out / "sheets.json", {**layout, "order": order("".join(pairs.columns["character"]))})
    _write(
        out / "atlas.json",
        {
            **described(source),
            "drawn": [
                {"prompt": prompt, "at": numbers(at, 4), "picture": as_url(picture)}
                for prompt, at, picture in zip(PLACED, where, made, strict=True)
            ],
            "sheet": layout,
        },
    )


def _prepare(model: str) -> None:
    """Build the dataset and the map's layout, which are cached on disk."""
    from zaozi.guide.figures.atlas import described

    described(Source(model))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def main(args: list[str]) -> None:
    """Draw with MODEL; print a line of JSON per part, {"done", "total", "seconds_left"}, and finally {"folder"}."""
    if hasattr(os, "nice"):
        os.nice(10)  # requests to the page have priority

    def tell(done: int, total: int, left: float) -> None:
        print(json.dumps({"done": done, "total": total, "seconds_left": round(left)}), flush=True)

    # in a separate process, which frees its memory when it ends; its errors are raised here, below
    preparation = multiprocessing.get_context("spawn").Process(target=_prepare, args=(args[0],))
    preparation.start()
    preparation.join()
    print(json.dumps({"folder": str(drawn_folder(Source(args[0]), tell))}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
