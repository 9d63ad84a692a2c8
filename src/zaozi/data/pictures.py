"""Read user pictures: open raster formats safely, with correct values, and crop them to a square."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

from zaozi.core.errors import ZaoziError

SIGNED = (
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
    "HEIF",
    "JPEG2000",
    "PPM",
    "QOI",
)  # detected by their first bytes
UNSIGNED = ("TGA", "PCX", "SGI", "DIB")  # tried only if the file has that suffix
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")

MAX_PIXELS = 89_478_485
"""Maximum number of pixels: the size at which Pillow warns of a decompression bomb (a third of a GB as RGB)."""
LARGE = 2**24
"""Number of pixels from which a picture is processed in strips."""


@cache
def formats() -> dict[str, str]:
    """Return suffix (lower case, with its dot) -> Pillow format, for the supported raster formats.

    Formats that run other programs (EPS, PDF) or draw vectors (WMF) are excluded. HEIC needs `pillow-heif`.
    """
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    known = Image.registered_extensions()
    return {suffix: name for suffix, name in known.items() if name in (*SIGNED, *UNSIGNED) and name in Image.OPEN}


def _open(path: Path) -> Image.Image:
    """Open a picture without reading its pixels. Raises Pillow's errors, or `ZaoziError` if it is too large."""
    named = formats().get(path.suffix.lower())
    tried = [name for name in SIGNED if name in Image.OPEN] + ([named] if named in UNSIGNED else [])
    try:
        picture = Image.open(path, formats=tried)
    except Image.DecompressionBombError as error:
        found = re.search(r"([0-9]+) pixels", str(error))
        raise _too_large(path, f"{int(found[1]):,} pixels" if found else "too many pixels") from None
    if picture.width * picture.height > MAX_PIXELS:
        picture.close()
        raise _too_large(path, f"{picture.width}x{picture.height} pixels")
    return picture


def _too_large(path: Path, size: str) -> ZaoziError:
    return ZaoziError(f"{path} has {size}, and at most {MAX_PIXELS:,} are read; make the picture smaller or remove it")


def mode_of(path: Path) -> str:
    """Return a picture's mode in Pillow, from its header only. Can raise any exception on a damaged file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(path) as picture:
            return picture.mode


def open_picture(path: Path, size: int = 0) -> Image.Image:
    """Return the first frame of a picture file, rotated according to its EXIF data.

    A large JPEG is decoded at a half, a quarter or an eighth if that leaves at least twice `size` on both sides.
    Raises `ZaoziError` if its format is not supported, it is damaged, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _open(path) as picture:
                if size and picture.width * picture.height > LARGE:
                    picture.draft(None, (2 * size, 2 * size))
                raw = next((str(tile[3]) for tile in getattr(picture, "tile", ()) if picture.format == "PNG"), "")
                picture.load()
                _mark_transparent(picture, raw, path)
                with suppress(Exception):  # ignore a damaged EXIF block
                    ImageOps.exif_transpose(picture, in_place=True)
                return _sixteen_bits(picture)
    except ZaoziError:
        raise
    except Exception:  # decoders can raise anything on damaged files
        if path.suffix and path.suffix.lower() not in formats():
            raise ZaoziError(f"{path} is not in a format that is read; save it as PNG or JPEG") from None
        raise ZaoziError(f"{path} cannot be read as a picture; replace or remove it") from None


def _mark_transparent(picture: Image.Image, raw: str, path: Path) -> None:
    """Fix the transparent value of a PNG where Pillow compares it with pixels of another depth."""
    key = picture.info.get("transparency")
    if raw in ("1", "L;2", "L;4") and isinstance(key, int):  # the key uses the file's own 2 to 16 levels
        steps = {"1": 1, "L;2": 3, "L;4": 15}[raw]
        picture.info["transparency"] = key * 255 // steps if key <= steps else key
    elif raw == "RGB;16B" and isinstance(key, tuple):  # the key has 16 bits, but only the pixels' high bytes were read
        with Image.open(path, formats=["PNG"]) as low:
            low.tile = [(*low.tile[0][:3], "RGB;16L")]  # type: ignore[list-item]
            low.load()
            same = [
                band.point([255 * (value == level >> shift & 255) for value in range(256)])
                for part, shift in ((picture, 8), (low, 0))
                for band, level in zip(part.split(), key, strict=True)
            ]
        clear = same[0]
        for one in same[1:]:
            clear = ImageChops.darker(clear, one)
        del picture.info["transparency"]
        picture.putalpha(ImageChops.invert(clear))


def _sixteen_bits(picture: Image.Image) -> Image.Image:
    """Convert a picture of 9 to 16 bits, by its format's own scale, to 16 bits with black 0; others are unchanged."""
    info = picture.info
    if picture.mode == "I" and picture.format in ("PNG", "PPM", "JPEG2000"):
        picture = Image.fromarray(np.asarray(picture).clip(0, 65535).astype(np.uint16))
    elif picture.mode.startswith("I;16") and picture.format == "TIFF":
        tags: Any = picture.tag_v2  # type: ignore[attr-defined]
        bits, white_is_zero = tags.get(258, (16,))[0], tags.get(262) == 0
        if bits < 16 or white_is_zero:
            values = (np.asarray(picture).astype(np.uint32) * 65535 // (2**bits - 1)).clip(0, 65535).astype(np.uint16)
            picture = Image.fromarray(65535 - values if white_is_zero else values)
    picture.info = info
    return picture


def fitted(picture: Image.Image, size: int, mode: str, *, paper: str = "white") -> Image.Image:
    """Resize a picture to a shorter side of `size`, then crop the central square, in `mode` (L or RGB).

    Transparent parts and NaN values become `paper`. White is 65535 for 16 bits. For 32-bit integers or floats it is the
    smallest of 1 (floats only), 255 and 65535 that no value exceeds, or else the largest value.
    """
    top = _white(picture)
    if picture.width * picture.height > LARGE:
        side = min(picture.size)
        left, upper = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, upper, left + side, upper + side)
        factor = side // (2 * size)
        if factor > 1:
            small = _reduced(picture, box, factor, lambda strip: _opaque(strip, mode, paper, top))
            return small.resize((size, size), Image.Resampling.LANCZOS, (0, 0, side / factor, side / factor))
        picture = picture.crop(box)
    return ImageOps.fit(_opaque(picture, mode, paper, top), (size, size), Image.Resampling.LANCZOS)


def padded(picture: Image.Image, size: int, mode: str, *, paper: str = "white") -> Image.Image:
    """Resize a picture to a longer side of `size`, centred on a square of `paper`, in `mode` (L or RGB); see `fitted`."""
    top = _white(picture)
    factor = min(picture.size) // (2 * size) if picture.width * picture.height > LARGE else 1
    if factor > 1:
        small = _reduced(picture, (0, 0, *picture.size), factor, lambda strip: _opaque(strip, mode, paper, top))
    else:
        small = _opaque(picture, mode, paper, top)
    return ImageOps.pad(small, (size, size), Image.Resampling.LANCZOS, color=paper)


FITS = {"crop": fitted, "pad": padded}
"""The ways in which a picture becomes square, by name."""


def _reduced(
    picture: Image.Image, box: tuple[int, int, int, int], factor: int, opaque: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Return a box of a large picture, made opaque and reduced by a factor, strip by strip."""
    parts = [opaque(strip).reduce(factor) for strip in _strips(picture, box, factor)]
    small = Image.new(parts[0].mode, (parts[0].width, sum(part.height for part in parts)))
    row = 0
    for part in parts:
        small.paste(part, (0, row))
        row += part.height
    return small


def _strips(picture: Image.Image, box: tuple[int, int, int, int], multiple: int) -> Iterator[Image.Image]:
    """Yield a box of a picture from top to bottom, in strips of a few million pixels and a multiple of `multiple` rows."""
    left, upper, right, lower = box
    rows = max(1, LARGE // 4 // (right - left) // multiple) * multiple
    for row in range(upper, lower, rows):
        yield picture.crop((left, row, right, min(row + rows, lower)))


def _deep(picture: Image.Image) -> bool:
    """Whether the values have more than 8 bits."""
    return picture.mode.startswith("I") or picture.mode == "F"


def _white(picture: Image.Image) -> float:
    """Return the value of white."""
    if not _deep(picture):
        return 255.0
    if picture.mode.startswith("I;16"):
        return 65535.0
    largest = 0.0
    for strip in _strips(picture, (0, 0, *picture.size), 1):
        values = np.asarray(strip)
        largest = max(largest, float(values.max(where=np.isfinite(values), initial=0)))
    return next((top for top in (1.0, 255.0, 65535.0) if largest <= top and (top > 1 or picture.mode == "F")), largest)


def _opaque(picture: Image.Image, mode: str, paper: str, top: float) -> Image.Image:
    """Convert a picture of any mode to `mode`, 8 bits per channel, with transparent parts on paper."""
    if _deep(picture):
        values: NDArray[np.float64] = np.asarray(picture).astype(np.float64)
        clear = np.isnan(values)
        if isinstance(key := picture.info.get("transparency"), int):
            clear |= values == key
        values[clear] = 0
        levels = (values.clip(0, top) * (255 / top)).astype(np.uint8)
        levels[clear] = 255 if paper == "white" else 0
        return Image.fromarray(levels).convert(mode)
    if picture.has_transparency_data:
        if picture.mode == "La":
            picture = picture.convert("LA")
        sheet = Image.new("RGBA", picture.size, paper)
        sheet.alpha_composite(picture.convert("RGBA"))
        picture = sheet
    return picture.convert(mode)


KEPT = {
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.5, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.5, 1.0, 1.0),
}
"""The halves of a picture: left, top, right and bottom, as fractions of its side."""


def half_mask(side: str, size: int) -> Image.Image:
    """Return a mask with one of the halves in `KEPT` white and the other black."""
    mask = Image.new("L", (size, size), "black")
    left, top, right, bottom = (round(size * v) for v in KEPT[side])
    mask.paste("white", (left, top, right, bottom))
    return mask
