"""Contact sheets: rows of pictures with a caption under each row."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from zaozi.core.errors import ZaoziError

_PAPER, _INK, _FRAME = "white", "#222222", "#dddddd"


def label_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The packaged CJK font where it is installed, else Pillow's own."""
    try:
        from zaozi.data.font import default_font

        return ImageFont.truetype(str(default_font()), size)
    except (ZaoziError, OSError):
        return ImageFont.load_default(size)


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], captions: Sequence[str], *, tile: int = 0, columns: int = 0
) -> Image.Image:
    """Pictures in rows, each row's caption under it; a row longer than `columns` wraps. White paper, RGB.

    `tile` is the side at which pictures are shown (0: their own); captions too long for the sheet end in an ellipsis.
    """
    gap, first = 6, rows[0][0]
    tile = tile or first.width
    columns = columns or max(len(r) for r in rows)
    text_size = max(13, tile // 8)
    font, label = label_font(text_size), text_size + 12
    width = gap + columns * (tile + gap)
    lines = [[list(r[i : i + columns]) for i in range(0, len(r), columns)] for r in rows]
    height = gap + sum(len(ls) * (tile + gap) + label for ls in lines)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    y = gap
    for wrapped, text in zip(lines, captions, strict=True):
        caption = " ".join(text.split())
        for line in wrapped:
            for i, picture in enumerate(line):
                x = gap + i * (tile + gap)
                shown = picture if picture.width == tile else picture.resize((tile, tile), Image.Resampling.LANCZOS)
                sheet.paste(shown, (x, y))
                pen.rectangle((x - 1, y - 1, x + tile, y + tile), outline=_FRAME)
            y += tile + gap
        while caption and pen.textlength(caption, font) > width - 2 * gap:
            caption = caption[:-2].rstrip("…") + "…" if len(caption) > 2 else ""
        pen.text((gap, y), caption, fill=_INK, font=font)
        y += label
    return sheet
