"""Evaluation report as one self-contained HTML page: the table and sample sheets."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from zaozi.core.outputs import Writer
from zaozi.data.sheet import contact_sheet, png
from zaozi.data.unihan import radical
from zaozi.evaluate.measure import Glyphs, Judge, spread
from zaozi.evaluate.prompts import PROMPTS
from zaozi.evaluate.report import MISSES, Drawn
from zaozi.evaluate.table import figure, foot, table
from zaozi.pipeline import to_images

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { padding: .25em .8em; text-align: left; border-bottom: 1px solid #ddd; }
img { max-width: 100%; height: auto; } p.note { color: #555; max-width: 46em; } h2 { margin-top: 2em; }
"""
_GREEN, _RED = "#3a9d5d", "#d9534f"


def framed(picture: Image.Image, good: bool) -> Image.Image:
    """Add a green (correct) or red frame to a picture."""
    return ImageOps.expand(picture.convert("RGB"), border=3, fill=_GREEN if good else _RED)


def list_sheet(judge: Judge, listed: Glyphs, wordings: int = 3, columns: int = 4) -> Image.Image:
    """One row per radical: the first glyphs of its prompts, framed green if the reference network detects the radical."""
    found = judge.has_part(listed.seen, listed.radicals)
    rows, captions = [], []
    for number, prompts in PROMPTS.items():
        places = np.flatnonzero(listed.radicals == number)[:wordings]
        pictures = to_images(listed.pictures[places])
        rows.append([framed(p, bool(found[i])) for p, i in zip(pictures, places, strict=True)])
        captions.append(f"{radical(number)} · " + " · ".join(prompts))
    height = -(-len(rows) // columns)
    parts = [slice(i, i + height) for i in range(0, len(rows), height)]
    sheets = [contact_sheet(rows[part], captions[part], tile=96, lines=2, text_size=14) for part in parts]
    joined = Image.new("RGB", (sum(s.width for s in sheets), max(s.height for s in sheets)), "white")
    x = 0
    for sheet in sheets:
        joined.paste(sheet, (x, 0))
        x += sheet.width
    return joined


def misses_sheet(judge: Judge, listed: Glyphs, count: int = 12, columns: int = 3) -> Image.Image:
    """The radicals with the lowest adherence, worst first: three glyphs each, and how many of all show the radical."""
    found = judge.has_part(listed.seen, listed.radicals)
    share = {number: float(found[listed.radicals == number].mean()) for number in PROMPTS}
    hardest = sorted(share, key=lambda number: share[number])[:count]
    tiles, captions = [], []
    for number in hardest:
        places = np.flatnonzero(listed.radicals == number)[:3]
        tiles.append(
            [framed(p, bool(found[i])) for p, i in zip(to_images(listed.pictures[places]), places, strict=True)]
        )
        captions.append(f"{radical(number)} in {share[number]:.0%}: " + " · ".join(PROMPTS[number]))
    return tiled(
        [contact_sheet([t], [c], tile=72, lines=2, text_size=12) for t, c in zip(tiles, captions, strict=True)], columns
    )


def tiled(sheets: Sequence[Image.Image], columns: int) -> Image.Image:
    """Arrange pictures of equal size in rows, on white."""
    width, height = sheets[0].size
    joined = Image.new("RGB", (columns * (width + 12), -(-len(sheets) // columns) * height), "white")
    for i, sheet in enumerate(sheets):
        joined.paste(sheet, (i % columns * (width + 12), i // columns * height))
    return joined


def pairs_sheet(
    left: NDArray[np.uint8], right: NDArray[np.uint8], captions: Sequence[str], columns: int = 4
) -> Image.Image:
    """Pairs side by side, each with a caption below."""
    sheets = [
        contact_sheet([[a, b]], [caption], tile=96, lines=3, text_size=13)
        for a, b, caption in zip(to_images(left), to_images(right), captions, strict=True)
    ]
    return tiled(sheets, columns)


def closest_sheet(judge: Judge, glyphs: Glyphs, kind: str, count: int = 24) -> Image.Image:
    """The generated glyphs closest to a training glyph (left) and that glyph (right), closest first."""
    value, place = judge.nearest(glyphs)[kind]
    limit = judge.limits[kind].value
    order = np.argsort(value)[:count]
    captions = [
        f"{value[i] / limit:.2f} of the limit: {glyphs.texts[i]} / {judge.train.texts[place[i]]}"
        for i in order.tolist()
    ]
    return pairs_sheet(glyphs.pictures[order], judge.train.pictures[place[order]], captions)


PICTURES = ("list.png", MISSES, "held-out.png", "closest-unseen.png", "closest-list.png", "closest-trained.png")
"""File names of the page's pictures."""


def sheets(judge: Judge, sets: Drawn) -> dict[str, tuple[str, Image.Image]]:
    """Return every picture of the page: file name -> (title, picture)."""
    some = spread(np.arange(len(sets.held_out)), 32)
    return {
        "list.png": (
            "The project's list: a row a radical, green where the network finds the radical anywhere in the glyph",
            list_sheet(judge, sets.listed),
        ),
        MISSES: ("The radicals it misses most often", misses_sheet(judge, sets.listed)),
        "held-out.png": (
            "Captions it never saw: drawn (left) and the real character (right)",
            pairs_sheet(sets.held_out.pictures[some], sets.real.pictures[some], [sets.real.texts[i] for i in some]),
        ),
        "closest-unseen.png": (
            "Nearest to a training glyph, of all drawn for unseen captions, in pixels: drawn (left), training (right)",
            closest_sheet(judge, sets.held_out, "pixels"),
        ),
        "closest-list.png": (
            "Nearest to a training glyph, of all drawn for the list, in features: drawn (left), training (right)",
            closest_sheet(judge, sets.listed, "features"),
        ),
        "closest-trained.png": (
            "Nearest to a training glyph, of all drawn for training captions, in pixels: drawn (left), training (right)",
            closest_sheet(judge, sets.trained, "pixels"),
        ),
    }


def page(report: Mapping[str, Any], pictures: Mapping[str, tuple[str, Image.Image]]) -> str:
    """Return the HTML page with embedded pictures."""
    model = report["model"]
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in table(report))
    parts = [
        f"<h2>{html.escape(title)}</h2><img alt='{html.escape(title)}' src='data:image/png;base64,{_base64(picture)}'>"
        for title, picture in pictures.values()
    ]
    shares = sorted(
        report["figures"].get("by_radical", {}).items(), key=lambda item: float(item[1]["anywhere"]["value"])
    )
    radicals = "".join(
        f"<tr><td>{radical(int(n))}</td>"
        + "".join(
            f"<td>{f.text(percent=True) if (f := figure(v[k])) else ''}</td>" for k in ("primary", "anywhere", "real")
        )
        + f"<td>{html.escape(' · '.join(PROMPTS[int(n)]))}</td></tr>"
        for n, v in shares
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(model['name'])}, measured</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(model['name'])}, measured</h1>"
        f"<p>{model['parameters'] / 1e6:.1f} M parameters, {model['gflops_a_call']:.2f} GFLOP a call.</p>"
        f"<table>{rows}</table>"
        f"<p class='note'>{html.escape(foot(report))}</p>{''.join(parts)}"
        f"<h2>By radical, hardest first</h2><table>"
        "<tr><th>radical</th><th>primary</th><th>anywhere</th><th>real, anywhere</th><th>prompts</th></tr>"
        f"{radicals}</table></html>\n"
    )


def _base64(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return base64.b64encode(data.getvalue()).decode()


def put_pictures(writer: Writer, pictures: Mapping[str, tuple[str, Image.Image]]) -> None:
    """Also write the page's pictures as files."""
    for name, (_, picture) in pictures.items():
        writer.put(name, png(picture))
