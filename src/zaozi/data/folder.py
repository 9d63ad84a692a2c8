"""Anybody's data: a folder of pictures with `metadata.jsonl` or `metadata.csv`, or `name.png` beside `name.txt`."""

from __future__ import annotations

import csv
import io
import json
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from zaozi.core.errors import ZaoziError
from zaozi.data.shards import Record, build, dataset_output, normalised

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")


class _Bad:
    """Stops at the first bad row, or (`skip`) counts them."""

    def __init__(self, skip: bool) -> None:
        self.skip, self.skipped = skip, list[str]()

    def row(self, why: str) -> None:
        if not self.skip:
            raise ZaoziError(f"{why} (or pass --skip-bad to go on without it)")
        self.skipped.append(why)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ZaoziError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from None


def _metadata_rows(folder: Path, bad: _Bad) -> tuple[Path, list[dict[str, Any]]] | None:
    """The rows of metadata.jsonl or metadata.csv, or None without either. Raises `ZaoziError` for a damaged file."""
    lines = folder / "metadata.jsonl"
    if lines.is_file():
        rows = []
        for number, line in enumerate(_read(lines).split("\n"), start=1):  # JSON may hold other line ends
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    bad.row(f"{lines}:{number} is not JSON ({error}); mend or remove that line")
                    continue
                if isinstance(row, dict):
                    rows.append(row)
                else:
                    bad.row(f'{lines}:{number} is not an object; write {{"file_name": ..., "text": ...}}')
        return lines, rows
    table = folder / "metadata.csv"
    if table.is_file():
        try:
            found = list(csv.DictReader(io.StringIO(_read(table), newline="")))
        except csv.Error as error:
            raise ZaoziError(f"{table} is not a CSV table ({error}); mend it") from None
        return table, [{k: v for k, v in row.items() if k is not None} for row in found]
    return None


def _beside(folder: Path, bad: _Bad) -> list[dict[str, Any]]:
    """Rows from pictures and the text files beside them."""
    rows: list[dict[str, Any]] = []
    taken: dict[Path, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        name, caption = path.relative_to(folder).as_posix(), path.with_suffix(".txt")
        if not caption.is_file():
            bad.row(f"{path} has no caption; write {caption.name} beside it, or a metadata.jsonl")
        elif caption in taken:
            bad.row(f"{path} and {taken[caption].name} share the caption {caption.name}; rename one of them")
        else:
            taken[caption] = path
            try:
                rows.append({"file_name": name, "text": _read(caption).strip()})
            except ZaoziError as error:
                bad.row(str(error))
    return rows


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except Exception:  # decoders raise all kinds of things on damaged files
        raise ZaoziError(f"{path} cannot be read as a picture; replace or remove it") from None


def fitted(picture: Image.Image, size: int, mode: str) -> Image.Image:
    """A picture resized so that its shorter side is `size`, then cut to the middle; transparency becomes white."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        paper = Image.new("RGBA", picture.size, "white")
        paper.alpha_composite(picture.convert("RGBA"))
        picture = paper
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 bits a pixel, or more
        values = np.asarray(picture).astype(np.float64).clip(0)
        white = next(
            (top for top in (1, 255, 65535) if values.max() <= top and (top > 1 or picture.mode == "F")), values.max()
        )
        picture = Image.fromarray((values * (255 / white)).astype(np.uint8))
    return ImageOps.fit(picture.convert(mode), (size, size), Image.Resampling.LANCZOS)


def _draw(record: Record, *, folder: Path, size: int, mode: str) -> Image.Image:
    return fitted(_open(folder / record.key), size, mode)


def _number(value: Any) -> Any:
    """A CSV cell as the number it spells, None where it is empty or not a number, else as it is."""
    if isinstance(value, str):
        for kind in (int, float):
            try:
                value = kind(value)
                break
            except ValueError:
                pass
    return None if value == "" or (isinstance(value, float) and not math.isfinite(value)) else value


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The columns beside file_name and text: lists of texts or numbers where all that are given are, else text."""
    names = {k: None for row in rows for k in row if k not in ("file_name", "text", "image", "key")}
    made: dict[str, list[Any]] = {}
    for name in names:
        given = [row.get(name) for row in rows]
        if any(isinstance(v, list) for v in given) and all(isinstance(v, list) for v in given if v is not None):
            made[name] = [[str(one) for one in v or []] for v in given]
            continue
        values = [_number(v) for v in given]
        numeric = all(isinstance(v, (int, float)) for v in values if v is not None)
        made[name] = values if numeric else ["" if v is None else str(v) for v in given]
    return made


def build_folder(
    folder: Path,
    out: Path,
    *,
    size: int = 128,
    mode: Literal["auto", "grey", "rgb"] = "auto",
    limit: int = 0,
    skip_bad: bool = False,
    processes: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Build a dataset from a folder of pictures and captions; returns the manifest.

    `auto` is grey where every picture is, else RGB. Raises `ZaoziError` that names the first unreadable picture, missing
    file, empty caption or duplicate name, unless `skip_bad`.
    """
    if limit < 0:
        raise ZaoziError(f"limit {limit} is out of range; use 1 or more, or 0 for all")
    if not folder.is_dir():
        raise ZaoziError(f"{folder} is not a folder; give one with pictures and captions")
    if not 8 <= size <= 1024:
        raise ZaoziError(f"size {size} is out of range; use 8 to 1024")
    dataset_output(out, inputs=[folder], overwrite=overwrite).check()
    bad = _Bad(skip_bad)
    found = _metadata_rows(folder, bad)
    rows = found[1] if found else _beside(folder, bad)
    if not rows and not bad.skipped:
        raise ZaoziError(
            f"{folder} has no pictures with captions; add metadata.jsonl, or name.txt beside each name.png"
        )
    good: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        name, text = str(row.get("file_name") or ""), row.get("text")
        where = f"{found[0]}: row {number}" if found else str(folder / name)
        if not name:
            bad.row(f"{where} has no file_name; add it")
        elif not isinstance(text, str) or not text.strip():
            bad.row(f"{where} ('{name}') has an empty caption; write one in 'text'")
        elif name in seen:
            bad.row(f"{where} repeats '{name}'; keep one row a picture")
        elif not (folder / name).is_file():
            bad.row(f"{folder / name} is missing; add the picture or remove its row")
        else:
            seen.add(name)
            good.append(row)
    if limit:
        good = good[:limit]
    if not good:
        raise ZaoziError(f"{folder} has no usable pair; {len(bad.skipped)} were skipped, the first: {bad.skipped[0]}")
    columns = _columns(good)
    records = [
        Record(row["file_name"], row["text"], normalised(row["text"]), {k: v[i] for k, v in columns.items()})
        for i, row in enumerate(good)
    ]
    chosen = {"grey": "L", "rgb": "RGB"}.get(mode) or _common_mode(folder, records)
    about = {"source": "image folder", "folder": folder.name}
    draw = partial(_draw, folder=folder, size=size, mode=chosen)
    return build(
        records,
        draw,
        out,
        about=about,
        skip_bad=skip_bad,
        already_skipped=bad.skipped,
        processes=processes,
        inputs=[folder],
        overwrite=overwrite,
    )


def _common_mode(folder: Path, records: list[Record]) -> str:
    """'L' where every picture that opens is grey, else 'RGB'."""
    for record in records:
        try:
            with Image.open(folder / record.key) as picture:
                if picture.mode not in _GREY:
                    return "RGB"
        except Exception:  # a damaged file, which drawing will name
            continue
    return "L"
