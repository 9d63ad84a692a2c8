"""Contact sheets: rows of pictures with a caption under each row."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from zaozi.core.errors import ZaoziError
from zaozi.core.outputs import Output, file_output

_PAPER, _INK, _FRAME = "white", "#222222", "#dddddd"


def label_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the packaged CJK font if installed, else Pillow's default font."""
    try:
        from zaozi.data.font import default_font

        return ImageFont.truetype(str(default_font()), size)
    except (ZaoziError, OSError):
        return ImageFont.load_default(size)


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, lines: int) -> list[str]:
    """Wrap text at spaces to at most `lines` lines of at most `width` pixels; longer text ends in an ellipsis."""
    made: list[str] = []
    words = text[: 4 * width * lines].split()  # more than fits
    while words and len(made) < lines:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width:
            line = f"{line} {words.pop(0)}"
        if words and len(made) == lines - 1:
            line += "…"
        while font.getlength(line) > width and len(line) > 1:
            line = line.rstrip("…")[:-1].rstrip() + "…"
        made.append(line)
    return made


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]],
    captions: Sequence[str],
    *,
    tile: int = 0,
    columns: int = 0,
    lines: int = 1,
    text_size: int = 0,
) -> Image.Image:
    """Draw rows of pictures, with each row's caption below in up to `lines` lines; rows wrap at `columns`. RGB on white.

    `tile` is the displayed side of the pictures (0: original), `text_size` the caption size in pixels (0: based on the tile).
    """
    gap, first = 6, rows[0][0]
    tile = tile or first.width
    columns = columns or max(len(r) for r in rows)
    text_size = text_size or max(13, tile // 8)
    font, label = label_font(text_size), lines * (text_size + 4) + 8
    width = gap + columns * (tile + gap)
    shelves = [[list(r[i : i + columns]) for i in range(0, len(r), columns)] for r in rows]
    height = gap + sum(len(shelf) * (tile + gap) + label for shelf in shelves)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    y = gap
    for shelf, caption in zip(shelves, captions, strict=True):
        for line in shelf:
            for i, picture in enumerate(line):
                x = gap + i * (tile + gap)
                shown = picture if picture.width == tile else picture.resize((tile, tile), Image.Resampling.LANCZOS)
                sheet.paste(shown, (x, y))
                pen.rectangle((x - 1, y - 1, x + tile, y + tile), outline=_FRAME)
            y += tile + gap
        for i, text in enumerate(wrapped(caption, font, width - 2 * gap, lines)):
            pen.text((gap, y + i * (text_size + 4)), text, fill=_INK, font=font)
        y += label
    return sheet


def png(picture: Image.Image) -> bytes:
    """Return a picture as PNG bytes."""
    made = io.BytesIO()
    picture.save(made, "PNG")
    return made.getvalue()


def picture_output(path: Path, kind: str, *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> Output:
    """Return the output for a picture. Raises `ZaoziError` if Pillow cannot write the suffix."""
    Image.init()
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise ZaoziError(f"cannot write '{path.name}'; a picture's name ends in .png, .jpg or .webp")
    return file_output(path, kind, overwrite=overwrite, inputs=inputs)
