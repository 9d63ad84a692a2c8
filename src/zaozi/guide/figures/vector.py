"""SVG files for the page: small, transparent, and legible on light and dark backgrounds."""

from __future__ import annotations

import base64
import io
import re

from PIL import Image

from zaozi.guide.figures.paper import ACCENT, INK, ON_PICTURE, QUIET, SECOND

PAPER_DARK, INK_DARK = 0x17, 0xE8
"""Gray values of background and ink on dark pages, replacing white and black."""
DARK = {INK: "#ece8df", ACCENT: "#f0795f", SECOND: "#74b4d4", QUIET: "#6f6a60"}
"""Maps colors on light pages to colors on dark pages. Grays are inverted; all others are unchanged."""
COLOUR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")
PATH = re.compile(r'(<path [^>]*?\bd=")([^"]*)"')
USE = re.compile(r"<use [^>]*>")
PICTURE = re.compile(r'(<image [^>]*?href="data:image/png;base64,)([^"]*)("[^>]*>)')
SHARP = 64
"""Pictures with a side below this many pixels are enlarged without smoothing."""


def for_pages(svg: str) -> str:
    """Convert a matplotlib SVG for use in pages.

    An embedded style sheet recolors it for dark color schemes, except for pictures and elements on top of them.
    Coordinates are rounded to two decimals, and gray embedded pictures are stored with one channel.
    """
    svg = PATH.sub(lambda m: f'{m[1]}{_rounded(m[2])}"', svg)
    svg = USE.sub(lambda m: _rounded(m[0]), svg)
    svg = PICTURE.sub(lambda m: _picture(m[1], m[2], m[3]), svg)
    rules = [
        f'[style*="{kind}: {colour}"]{{{kind}:{dark}!important}}'
        for kind, colour in sorted(set(COLOUR.findall(svg)))
        if (dark := on_dark(colour)) != colour
    ]
    style = f"<style>@media (prefers-color-scheme: dark){{{''.join(rules)}}}</style>"
    return svg.replace("</defs>", f"{style}</defs>", 1)


def on_dark(colour: str) -> str:
    """Map a color on light pages to the color on dark pages.

    >>> on_dark("#222222"), on_dark("#ffffff"), on_dark("#6a8f3c"), on_dark("#f0f0f0")
    ('#ece8df', '#ffffff', '#6a8f3c', '#232323')
    """
    if colour in ON_PICTURE:
        return colour
    if colour in DARK:
        return DARK[colour]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    if max(red, green, blue) - min(red, green, blue) > 8:
        return colour
    grey = round(INK_DARK + (PAPER_DARK - INK_DARK) * green / 255)
    return f"#{grey:02x}{grey:02x}{grey:02x}"


def _rounded(text: str) -> str:
    return re.sub(r"(-?\d+\.\d{2})\d+", r"\1", " ".join(text.split()))


def _picture(before: str, data: str, after: str) -> str:
    """Re-encode an embedded picture in as few bytes as possible; small pictures are enlarged without smoothing."""
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        least = min(picture.size)
        kept: Image.Image = picture.convert("RGBA")
        if kept.getchannel("A").getextrema() == (255, 255):
            kept = kept.convert("RGB")
            red, green, blue = kept.split()
            if red.tobytes() == green.tobytes() == blue.tobytes():
                kept = red
    held = io.BytesIO()
    kept.save(held, "PNG", optimize=True)
    if least >= SHARP:
        after = re.sub(r' style="image-rendering[^"]*"', "", after)
    return before + base64.b64encode(held.getvalue()).decode() + after
