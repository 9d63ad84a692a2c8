"""Glyph pictures, all drawn in the same em box; position and size within it carry information."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from zaozi.core.errors import ZaoziError
from zaozi.data.unihan import package_folder

FONT_NAME = "Noto Sans CJK TC Regular"


def default_font() -> Path:
    """Return the path of the packaged Noto Sans CJK TC Regular."""
    return package_folder("cvttf_NotoSansCJK_Regular", "cvttf-notosanscjk-regular") / "NotoSansCJKtc-Regular.otf"


@cache
def _tables(path: Path) -> tuple[frozenset[int], float, str]:
    from fontTools.ttLib import TTFont, TTLibError

    try:
        font = TTFont(path, lazy=True)
        codes = frozenset(font.getBestCmap())
        ascent = font["OS/2"].sTypoAscender / font["head"].unitsPerEm
        version = str(font["name"].getDebugName(5))
    except (OSError, TTLibError, KeyError, AttributeError) as error:
        raise ZaoziError(f"cannot read the font {path} ({error}); give a TrueType or OpenType file") from None
    return codes, ascent, version


def covered(path: Path) -> frozenset[int]:
    """Return the code points for which the font has its own glyph."""
    return _tables(path)[0]


def version(path: Path) -> str:
    """Return the version string of the font."""
    return _tables(path)[2]


@cache
def _face(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def glyph(character: str, path: Path, size: int = 128) -> Image.Image:
    """Draw one glyph, black on white, antialiased, in an em box of size x size grey pixels; ink outside the box is cropped.

    Raises `ZaoziError` if the font does not have the glyph (a placeholder box is never drawn).
    """
    codes, ascent, _ = _tables(path)
    if ord(character) not in codes:
        raise ZaoziError(f"{path.name} has no glyph for U+{ord(character):04X}; choose another font or skip it")
    picture = Image.new("L", (size, size), 255)
    ImageDraw.Draw(picture).text((0, round(ascent * size)), character, fill=0, font=_face(path, size), anchor="ls")
    return picture


def web_font(characters: str, path: Path) -> None:
    """Write a few characters of the packaged font as a WOFF file, for readers without a CJK font."""
    from fontTools import subset

    options = subset.Options(flavor="woff", layout_features=[], hinting=False, name_IDs=[], notdef_outline=True)
    font = subset.load_font(str(default_font()), options)
    thin = subset.Subsetter(options)
    thin.populate(text=characters)
    thin.subset(font)
    subset.save_font(font, str(path), options)
