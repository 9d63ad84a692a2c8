"""Anybody's data: a folder of pictures with `metadata.jsonl` or `metadata.csv`, or `name.png` beside `name.txt`."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from zaozi.core.errors import ZaoziError
from zaozi.data.shards import Record, build

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_GREY = ("1", "L", "LA", "I", "I;16", "F")


class _Bad:
    """Stops at the first bad row, or (`skip`) counts them."""

    def __init__(self, skip: bool) -> None:
        self.skip, self.skipped = skip, list[dict[str, str]]()

    def row(self, key: str, why: str) -> None:
        if not self.skip:
            raise ZaoziError(f"{why} (or pass --skip-bad to go on without it)")
        self.skipped.append({"key": key, "why": why})


def _metadata_rows(folder: Path) -> tuple[Path, list[dict[str, Any]]] | None:
    """The rows of metadata.jsonl or metadata.csv, or None without either. Raises `ZaoziError` for a damaged file."""
    lines = folder / "metadata.jsonl"
    if lines.is_file():
        rows = []
        for number, line in enumerate(lines.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ZaoziError(f"{lines}:{number} is not JSON ({error}); mend or remove that line") from None
                if not isinstance(row, dict):
                    raise ZaoziError(f'{lines}:{number} is not an object; write {{"file_name": ..., "text": ...}}')
                rows.append(row)
        return lines, rows
    table = folder / "metadata.csv"
    if table.is_file():
        with table.open(encoding="utf-8-sig", newline="") as file:
            return table, [{k: v for k, v in row.items() if k is not None} for row in csv.DictReader(file)]
    return None


def _beside(folder: Path, bad: _Bad) -> list[dict[str, Any]]:
    """Rows from pictures and the text files beside them."""
    rows = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        name, caption = path.relative_to(folder).as_posix(), path.with_suffix(".txt")
        if caption.is_file():
            rows.append({"file_name": name, "text": caption.read_text(encoding="utf-8-sig").strip()})
        else:
            bad.row(name, f"{path} has no caption; write {caption.name} beside it, or a metadata.jsonl")
    return rows


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
        raise ZaoziError(f"{path} cannot be read as a picture; replace or remove it") from None


def fitted(picture: Image.Image, size: int, mode: str) -> Image.Image:
    """A picture resized so that its shorter side is `size`, then cut to the middle; transparency becomes white."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        paper = Image.new("RGBA", picture.size, "white")
        paper.alpha_composite(picture.convert("RGBA"))
        picture = paper
    if picture.mode.startswith("I") and mode == "L":
        picture = picture.point(lambda v: v / 256).convert("L")
    return ImageOps.fit(picture.convert(mode), (size, size), Image.Resampling.LANCZOS)


def _draw(record: Record, *, folder: Path, size: int, mode: str) -> Image.Image:
    return fitted(_open(folder / record.key), size, mode)


def _number(value: Any) -> Any:
    """A CSV cell as the number it spells, else as it is."""
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                pass
    return value


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The columns beside file_name and text: numbers where all are, else text."""
    names = {k: None for row in rows for k in row if k not in ("file_name", "text", "image", "key")}
    made: dict[str, list[Any]] = {}
    for name in names:
        values = [_number(row.get(name)) for row in rows]
        numeric = all(isinstance(v, (int, float)) for v in values)
        made[name] = values if numeric else ["" if row.get(name) is None else str(row[name]) for row in rows]
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
) -> dict[str, Any]:
    """Build a dataset from a folder of pictures and captions; returns the manifest.

    `auto` is grey where every picture is, else RGB. Raises `ZaoziError` that names the first unreadable picture, missing
    file, empty caption or duplicate name, unless `skip_bad`.
    """
    if not folder.is_dir():
        raise ZaoziError(f"{folder} is not a folder; give one with pictures and captions")
    if not 8 <= size <= 1024:
        raise ZaoziError(f"size {size} is out of range; use 8 to 1024")
    bad = _Bad(skip_bad)
    found = _metadata_rows(folder)
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
            bad.row(where, f"{where} has no file_name; add it")
        elif not isinstance(text, str) or not text.strip():
            bad.row(name, f"{where} ('{name}') has an empty caption; write one in 'text'")
        elif name in seen:
            bad.row(name, f"{where} repeats '{name}'; keep one row a picture")
        elif not (folder / name).is_file():
            bad.row(name, f"{folder / name} is missing; add the picture or remove its row")
        else:
            seen.add(name)
            good.append(row)
    if limit:
        good = good[:limit]
    if not good:
        raise ZaoziError(
            f"{folder} has no usable pair; {len(bad.skipped)} were skipped, the first: {bad.skipped[0]['why']}"
        )
    columns = _columns(good)
    records = [
        Record(row["file_name"], row["text"], _group(row["text"]), {k: v[i] for k, v in columns.items()})
        for i, row in enumerate(good)
    ]
    chosen = {"grey": "L", "rgb": "RGB"}.get(mode) or _common_mode(folder, records)
    about: Mapping[str, Any] = {"source": "image folder", "folder": folder.name, "skipped_rows": bad.skipped}
    draw = partial(_draw, folder=folder, size=size, mode=chosen)
    return build(records, draw, out, about=about, skip_bad=skip_bad, processes=processes)


def _group(text: str) -> str:
    """Rows with one caption share a split, whatever its case and spacing."""
    return " ".join(text.casefold().split())


def _common_mode(folder: Path, records: list[Record]) -> str:
    """'L' where every picture that opens is grey, else 'RGB'."""
    for record in records:
        try:
            with Image.open(folder / record.key) as picture:
                if picture.mode not in _GREY:
                    return "RGB"
        except (OSError, SyntaxError, ValueError):
            continue
    return "L"
