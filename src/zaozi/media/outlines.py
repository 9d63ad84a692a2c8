"""Vector outlines of pictures: the 50% ink contours of all strokes, as smooth closed curves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from zaozi.core.errors import ZaoziError
from zaozi.data.sheet import contact_sheet

Points = NDArray[np.float64]
TOLERANCE = 0.15
"""Maximum deviation of an outline from the 50% ink contour, in pixels."""
CORNER = 35.0
"""Turns above this angle in degrees stay corners; all others are smoothed."""
SPECK = 2.0
"""Minimum area of an outline, in square pixels; smaller ones are dropped."""


def contours(picture: Image.Image, tolerance: float = TOLERANCE) -> list[Points]:
    """Return the closed 50% ink contours of a dark-on-white picture: each `[N, 2]` (x, y) in pixels from the top left corner.

    Marching squares use antialiasing to place them between pixels. Ink is on the same side of all contours, so holes have
    the opposite orientation. Points closer than `tolerance` to the simplified line are dropped.
    """
    from contourpy import contour_generator

    ink = np.pad(255.0 - np.asarray(picture.convert("L"), np.float64), 1)
    lines = contour_generator(z=ink).lines(127.5)
    found = [_simplified(np.asarray(line, np.float64)[:-1] - 0.5, tolerance) for line in lines]
    return [points for points in found if len(points) > 2 and abs(area(points)) >= SPECK]


def area(points: Points) -> float:
    """Return the signed area inside a closed line (shoelace formula)."""
    x, y = points.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _simplified(points: Points, tolerance: float) -> Points:
    """Simplify a closed line by Douglas-Peucker (Cartographica 10, 1973), starting from two distant points."""
    start = int(np.hypot(*(points - points.mean(0)).T).argmax())
    closed = np.roll(points, -start, axis=0)
    closed = np.concatenate([closed, closed[:1]])
    far = int(np.hypot(*(closed - closed[0]).T).argmax())
    kept, todo = [], [(0, far), (far, len(closed) - 1)]
    while todo:
        a, b = todo.pop()
        chord, others = closed[b] - closed[a], closed[a + 1 : b] - closed[a]
        away = np.abs(chord[0] * others[:, 1] - chord[1] * others[:, 0]) / max(float(np.hypot(*chord)), 1e-12)
        if len(others) and away.max() > tolerance:
            middle = a + 1 + int(away.argmax())
            todo += [(a, middle), (middle, b)]
        else:
            kept.append(a)
    return closed[sorted(kept)]


def draw_outline(picture: Image.Image, pen: Any, *, scale: float = 1.0, up_from: float | None = None) -> None:
    """Draw a picture's outlines with a fontTools pen, `scale` units per pixel, y down, or up from `up_from` if given.

    Cubics between smooth points use Catmull-Rom tangents (along the chord of the neighbors), with handles a third of the
    segment's length.
    """

    def place(point: Points) -> tuple[float, float]:
        x, y = point * scale
        return float(x), float(y if up_from is None else up_from - y)

    for points in contours(picture):
        before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
        turn = np.abs(_angle(after - points) - _angle(points - before))
        soft = np.minimum(turn, 360 - turn) < CORNER
        along = after - before
        along /= np.maximum(np.hypot(*along.T), 1e-12)[:, None]
        pen.moveTo(place(points[0]))
        for i in range(len(points)):
            j = (i + 1) % len(points)
            if soft[i] or soft[j]:
                reach = float(np.hypot(*(points[j] - points[i]))) / 3
                leave = points[i] + (along[i] * reach if soft[i] else (points[j] - points[i]) / 3)
                arrive = points[j] - (along[j] * reach if soft[j] else (points[j] - points[i]) / 3)
                pen.curveTo(place(leave), place(arrive), place(points[j]))
            elif j:
                pen.lineTo(place(points[j]))
        pen.closePath()


def _angle(vectors: Points) -> Points:
    return np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0]))


def svg(picture: Image.Image, em: int = 1000) -> str:
    """Convert a picture to SVG: one black path in an em box of em x em units."""
    from fontTools.pens.svgPathPen import SVGPathPen

    pen = SVGPathPen(None, ntos=lambda value: f"{value:.1f}".rstrip("0").rstrip("."))
    draw_outline(picture, pen, scale=em / picture.width)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {em} {em}"><path d="{pen.getCommands()}"/></svg>\n'


FIRST, LAST = 0xE000, 0xF8FF
"""The Private Use Area of the Basic Multilingual Plane, used for invented characters."""


ASCENT = 0.88
"""Share of the em above the baseline."""


def write_font(pictures: Sequence[Image.Image], family: str, path: Path, *, em: int = 1000) -> None:
    """Write pictures, one square em box each, as a TrueType font from U+E000. Raises `ZaoziError` if there are too many."""
    if len(pictures) > LAST + 1 - FIRST:
        raise ZaoziError(f"{len(pictures)} characters are too many; a font holds {LAST + 1 - FIRST}")
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.cu2quPen import Cu2QuPen
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    names = [f"uni{FIRST + i:04X}" for i in range(len(pictures))]
    glyphs = {".notdef": TTGlyphPen(None).glyph()}
    for name, picture in zip(names, pictures, strict=True):
        pen = TTGlyphPen(None)
        draw_outline(picture, Cu2QuPen(pen, max_err=em / 1000), scale=em / picture.width, up_from=ASCENT * em)
        glyphs[name] = pen.glyph()
    top, bottom = round(ASCENT * em), round((1 - ASCENT) * em)
    builder = FontBuilder(em, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({FIRST + i: name for i, name in enumerate(names)})
    builder.setupGlyf(glyphs)
    table = builder.font["glyf"]
    builder.setupHorizontalMetrics({name: (em, table[name].xMin if name in names else 0) for name in glyphs})
    builder.setupHorizontalHeader(ascent=top, descent=-bottom)
    plain = re.sub(r"[^A-Za-z0-9-]", "", family) or "Zaozi"
    names_of = {"familyName": family, "styleName": "Regular", "uniqueFontIdentifier": family, "fullName": family}
    builder.setupNameTable({**names_of, "version": "Version 1.000", "psName": f"{plain}-Regular"})
    builder.setupOS2(sTypoAscender=top, sTypoDescender=-bottom, sTypoLineGap=0, usWinAscent=top, usWinDescent=bottom)
    builder.setupPost()
    builder.save(path)


def proof_sheet(font: Path, texts: Sequence[str], *, size: int = 160, columns: int = 8) -> Image.Image:
    """Render every character of a font written by `write_font`, each above its text."""
    face = ImageFont.truetype(str(font), size, layout_engine=ImageFont.Layout.BASIC)
    tiles = []
    for i in range(len(texts)):
        tile = Image.new("L", (size, size), 255)
        ImageDraw.Draw(tile).text((0, round(ASCENT * size)), chr(FIRST + i), fill=0, font=face, anchor="ls")
        tiles.append(tile)
    shelves = [range(k, min(k + columns, len(tiles))) for k in range(0, len(tiles), columns)]
    captions = [f"U+{FIRST + s[0]:04X}: " + ", ".join(dict.fromkeys(texts[i] for i in s)) for s in shelves]
    return contact_sheet([[tiles[i] for i in s] for s in shelves], captions, columns=min(columns, len(tiles)), lines=2)
