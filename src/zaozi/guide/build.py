"""The visual guide as a folder of static files: the page, the model it runs, the figures, and the data of its live parts."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from zaozi import __version__
from zaozi.core.errors import ZaoziError
from zaozi.core.files import home, sha256
from zaozi.core.outputs import Output, cached
from zaozi.core.progress import progress
from zaozi.data.font import web_font
from zaozi.data.shards import data_hash
from zaozi.data.unihan import radical
from zaozi.guide import export
from zaozi.guide.figures.source import Source
from zaozi.guide.hero import explainer, write_hero
from zaozi.model.checkpoint import WEIGHTS, find_model

SITE = Path(__file__).parent / "site"
EDITION = 2
"""Of the figures; those kept on disk from an older one are drawn again."""
SHOWN = "明草水火金木鳥魚锂龍"
"""Glyphs to drown in noise."""
TEXT = "造字明草锂金釒钅"
"""Characters that stand in the page's own text."""
PLACED = ("gold", "a small song bird", "sickness", "clear water", "fish", "to speak", "mountain", "fire")
"""Prompts whose glyphs are placed on the map."""
SIDE, COLUMNS, ROWS = 48, 32, 32
"""Of the sheets of small glyphs that the map's pop-ups show."""


def site_output(out: Path, *, overwrite: bool = False) -> Output:
    """The site's folder, to be written."""
    return Output(out, "guide", overwrite=overwrite)


def build(source: Source, out: Path, *, figures: bool = True, overwrite: bool = False) -> None:
    """Write the whole site into `out`: index.html, assets/, ort/, model/, data/ and figures/.

    The exported model and the figures are kept in the cache, by what they depend on, and copied from there.
    Raises `ZaoziError` where the package holds no page, or `out` is something else.
    """

    if not (SITE / "index.html").is_file():
        raise ZaoziError("this copy of zaozi holds no page; run: make guide")
    output = site_output(out, overwrite=overwrite)
    output.check()
    key = sha256(find_model(source.model_name) / WEIGHTS)[:24]
    parts: list[tuple[str, Callable[[Path], None]]] = [
        ("page", _page),
        ("model", lambda work: _model(source, key, work / "model")),
        ("data", lambda work: _data(source, work / "data")),
        ("hero", lambda work: write_hero(source, work, explainer(source))),
    ]
    if figures:
        parts.append(("figures", lambda work: _figures(source, key, work / "figures")))
    with output.write() as work:
        for name, make in (bar := progress(parts, desc="guide", unit="part")):
            bar.set_postfix_str(name)
            make(work)


def _page(out: Path) -> None:
    """The built page, its runtime unpacked."""
    for file in (p for p in SITE.rglob("*") if p.is_file()):
        to = out / file.relative_to(SITE)
        to.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".xz":
            to.with_suffix("").write_bytes(lzma.decompress(file.read_bytes()))
        else:
            shutil.copyfile(file, to)


def _model(source: Source, key: str, out: Path) -> None:
    kept = home() / "onnx" / f"{key}-{__version__}-{export.EDITION}"
    cached(kept, "onnx", lambda work: export.write_onnx(source.artist, work))
    shutil.copytree(kept, out, ignore=shutil.ignore_patterns(".*"))


def _figures(source: Source, key: str, out: Path) -> None:

    from zaozi.guide.figures import FIGURES, draw_all

    kept = home() / "figures" / f"{key}-{data_hash(source.folder)[:8]}-{source.seed}-{__version__}-{EDITION}"

    def draw(work: Path) -> None:
        for _ in progress(draw_all(source, list(FIGURES), work), total=len(FIGURES), desc="figures"):
            pass

    cached(kept, "figures", draw)
    out.mkdir()
    for file in kept.iterdir():
        if file.suffix in (".png", ".mp4"):
            shutil.copyfile(file, out / file.name)


def _data(source: Source, out: Path) -> None:
    """Glyphs for the forward process, and the map with its sheets of small glyphs."""
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
            "pixels": np.asarray(Image.fromarray(pairs.pictures[rows[character], 0]).resize((64, 64), Image.Resampling.BOX))
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
        part = torch.from_numpy(np.asarray(pairs.pictures[start : start + cells], np.float32))
        small = torch.nn.functional.interpolate(part, SIDE, mode="area").round().to(torch.uint8).numpy()[:, 0]
        board = np.full((ROWS * SIDE, COLUMNS * SIDE), 255, np.uint8)
        for i, glyph in enumerate(small):
            y, x = SIDE * (i // COLUMNS), SIDE * (i % COLUMNS)
            board[y : y + SIDE, x : x + SIDE] = glyph
        Image.fromarray(board).quantize(16).save(out / f"atlas-{sheet}.png", optimize=True)
    _write(
        out / "atlas.json",
        {
            **described(source),
            "drawn": [
                {"prompt": prompt, "at": numbers(at, 4), "picture": as_url(picture)}
                for prompt, at, picture in zip(PLACED, where, made, strict=True)
            ],
            "sheet": {"side": SIDE, "columns": COLUMNS, "rows": ROWS},
        },
    )


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
