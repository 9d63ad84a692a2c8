"""Strokes at the same scale: real glyphs, drawings of 128 pixels, and the same drawings at 256 pixels.

python tools/draw_strokes.py docs/pictures/strokes.png [MODEL]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from zaozi.data.font import default_font, glyph
from zaozi.data.sheet import contact_sheet, png
from zaozi.pipeline import TextToImage

DRAWN = {"gold": "銘", "a small song bird": "鴻", "fish": "鯨", "tree": "樺"}
"""Prompts, and a real character with the radical of each."""
LARGE, PART = 256, (48, 48, 176, 176)
"""Side of the large pictures, and the part of them that is shown."""


def part(picture: Image.Image) -> Image.Image:
    """Cut the part out of a picture of any size, with its pixels visible."""
    whole = picture.convert("L").resize((LARGE, LARGE), Image.Resampling.NEAREST)
    return whole.crop(PART).resize((256, 256), Image.Resampling.NEAREST)


def strokes(model: str) -> Image.Image:
    """Draw the sheet."""
    artist = TextToImage.from_pretrained(model)
    real = [glyph(character, default_font(), LARGE) for character in DRAWN.values()]
    rows = [real, *([artist(prompt, size=size)[0] for prompt in DRAWN] for size in (artist.model.config.size, LARGE))]
    small = artist.model.config.size
    labels = [f"real glyphs, {LARGE} pixels", f"drawings, {small} pixels", f"the same drawings, {LARGE} pixels"]
    return contact_sheet(
        [[part(picture) for picture in row] for row in rows], labels, columns=len(DRAWN), tile=256, text_size=20
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(png(strokes(sys.argv[2] if len(sys.argv) > 2 else "base")))
