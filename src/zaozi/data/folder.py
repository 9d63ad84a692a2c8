"""Custom datasets: a folder of pictures with `metadata.jsonl` or `metadata.csv`, or pairs of `name.png` and `name.txt`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image

from zaozi.core.errors import ZaoziError, printable
from zaozi.core.progress import progress
from zaozi.data.pictures import FITS, GREY, formats, mode_of, open_picture
from zaozi.data.shards import Record, build, dataset_output, normalised
from zaozi.data.splits import folder_splits
from zaozi.data.tables import Bad, Row, Table, read_table, read_text

LONGEST_CAPTION = 2**17
"""Maximum size of a caption file in bytes."""


@dataclass(frozen=True)
class Square:
    """How pictures are converted to squares."""

    size: int = 128
    """Side in pixels, 8 to 1024."""
    mode: Literal["auto", "grey", "rgb"] = "auto"
    """`auto` selects grey if all pictures are grey, else RGB."""
    fit: Literal["crop", "pad"] = "crop"
    """`crop` keeps the central square of a picture; `pad` keeps all of it, with white beside it."""


def is_picture(name: str) -> bool:
    """Whether a file name has the suffix of a supported format."""
    return Path(name).suffix.lower() in formats()


def _inside(path: Path, folder: Path) -> bool:
    """Whether the target of a path, with links resolved, is in a folder."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _leads_out(path: Path, folder: Path) -> str:
    return f"{path} leads out of {folder}; copy what it names into the folder"


def _utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # file name bytes that are not UTF-8
        return False
    return True


def _files(folder: Path, bad: Bad | None = None) -> list[Path]:
    """Return all files of a folder and its subfolders, sorted.

    Each folder is listed once, under its own name, including linked folders inside `folder`. Links to folders outside and
    unreadable folders are added to `bad`.
    """
    found: list[Path] = []

    def failed(error: OSError) -> None:
        if bad:
            bad.row(f"{error.filename} cannot be listed ({error.strerror}); make it readable")

    for place, folders, names in os.walk(folder, onerror=failed):
        for path in (Path(place, name) for name in sorted(folders)):
            if bad and path.is_symlink() and not _inside(path, folder):
                bad.row(_leads_out(path, folder))
        found += [Path(place, name) for name in names]
    return sorted(found)


def _beside(folder: Path, bad: Bad, left_out: list[str]) -> list[Row]:
    """Return rows from pictures and the text files next to them; text files without a matching file go to `left_out`."""
    captions: dict[Path, Path] = {}  # by path without suffix
    pictures: dict[Path, list[Path]] = {}
    others: dict[Path, Path] = {}
    for path in _files(folder, bad):
        stem = path.with_suffix("")
        if path.suffix.lower() == ".txt":
            captions.setdefault(stem, path)
        elif is_picture(path.name):
            pictures.setdefault(stem, []).append(path)
        else:
            others.setdefault(stem, path)
    rows: list[Row] = []
    for stem, (path, *more) in progress(pictures.items(), desc="reading", unit="caption"):
        caption = captions.pop(stem, None)
        if not _utf8(str(path.relative_to(folder))):
            bad.row(f"{path} has a name that is not UTF-8; rename it")
        elif caption is None:
            bad.row(f"{path} has no caption; write {stem.name}.txt beside it, or a metadata.jsonl")
        else:
            try:
                text = _caption(caption, folder)
            except ZaoziError as error:
                bad.row(str(error))
            else:
                rows.append(Row(str(path), {"file_name": path.relative_to(folder).as_posix(), "text": text}))
        for other in more:
            if caption is None:
                bad.row(f"{other} has no caption; write {stem.name}.txt beside it, or a metadata.jsonl")
            else:
                bad.row(f"{other} and {path.name} share the caption {caption.name}; rename one of them")
    for stem, caption in captions.items():
        if stem in others:
            bad.row(
                f"{others[stem]} has the caption {caption.name}, but is not in a format that is read; save it as PNG or JPEG"
            )
        else:
            left_out.append(f"{caption} has no picture")
    return rows


def _caption(path: Path, folder: Path) -> str:
    """Return the text of a caption file. Raises `ZaoziError`."""
    if not _inside(path, folder):
        raise ZaoziError(_leads_out(path, folder))
    if not path.is_file():
        raise ZaoziError(f"{path} is not a file; write the caption into one")
    if path.stat().st_size > LONGEST_CAPTION:
        raise ZaoziError(f"{path} has more than {LONGEST_CAPTION:,} bytes; shorten the caption")
    return read_text(path).strip()


def _draw(record: Record, *, folder: Path, size: int, mode: str, fit: str) -> Image.Image:
    return FITS[fit](open_picture(folder / record.key, size), size, mode)


def build_folder(
    folder: Path,
    out: Path,
    square: Square = Square(),
    *,
    limit: int = 0,
    skip_bad: bool = False,
    processes: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Build a dataset from a folder of pictures and captions; returns the manifest.

    Only pictures inside the folder in `pictures.formats` are read. See
    `splits.folder_splits` for the splits and `tables` for column types. The manifest lists bad items in `skipped` and unused
    items in `left_out`: texts without a picture, pictures without a row.
    Raises `ZaoziError` for the first unreadable picture, missing file, empty caption, duplicate name, or row that does
    not match its header, unless `skip_bad`.
    """
    if limit < 0:
        raise ZaoziError(f"limit {limit} is out of range; use 1 or more, or 0 for all")
    if not folder.is_dir():
        raise ZaoziError(f"{folder} is not a folder; give one with pictures and captions")
    if not 8 <= square.size <= 1024:
        raise ZaoziError(f"size {square.size} is out of range; use 8 to 1024")
    output = dataset_output(out, inputs=[folder], overwrite=overwrite)
    output.check()
    bad, left_out = Bad(skip_bad), list[str]()
    table = read_table(folder, bad, is_picture)
    rows = table.rows if table else _beside(folder, bad, left_out)
    if not rows and not bad.skipped:
        raise ZaoziError(
            f"{folder} has no pictures with captions; add metadata.jsonl, or name.txt beside each name.png"
        )
    good = _good(folder, rows, bad)
    if table:
        left_out += _without_row(folder, table)
    if limit:
        good = good[:limit]
    if not good:
        raise ZaoziError(f"{folder} has no usable pair; {len(bad.skipped)} were skipped, the first: {bad.skipped[0]}")
    columns = table.columns([row for _, row in good]) if table else {}
    records = [
        Record(name, row.cells["text"], normalised(row.cells["text"]), {k: v[i] for k, v in columns.items()})
        for i, (name, row) in enumerate(good)
    ]
    chosen = {"grey": "L", "rgb": "RGB"}.get(square.mode) or _common_mode(folder, records)
    about = {"source": "image folder", "folder": printable(folder.name), "left_out": [printable(w) for w in left_out]}
    return build(
        records,
        partial(_draw, folder=folder, size=square.size, mode=chosen, fit=square.fit),
        output,
        about=about,
        splits=folder_splits,
        skip_bad=skip_bad,
        already_skipped=bad.skipped,
        processes=processes,
    )


def _good(folder: Path, rows: Sequence[Row], bad: Bad) -> list[tuple[str, Row]]:
    """Return rows with a caption and a picture in the folder, each with the picture's name; the others go to `bad`."""
    good: dict[str, Row] = {}
    for row in progress(rows, desc="checking", unit="row"):
        name, text, where = row.cells.get("file_name"), row.cells.get("text"), row.place
        if not isinstance(name, str) or not name or "\0" in name:
            bad.row(f"{where} has no file_name; add it")
            continue
        path = PurePosixPath(name)
        if not isinstance(text, str) or not text.strip():
            bad.row(f"{where} ('{name}') has an empty caption; write one in 'text'")
        elif "\0" in text:
            bad.row(f"{where} ('{name}') has a caption with a NUL byte; write it as UTF-8 text")
        elif path.is_absolute() or ".." in path.parts:
            bad.row(f"{where} names '{name}', which leads out of {folder}; name a picture inside it")
        elif str(path) in good:
            bad.row(f"{where} repeats '{name}'; keep one row per picture")
        elif not _inside(folder / path, folder):
            bad.row(_leads_out(folder / path, folder))
        elif not os.path.isfile(folder / path):
            bad.row(f"{folder / path} is missing; add the picture or remove its row")
        else:
            good[str(path)] = row
    return list(good.items())


def _without_row(folder: Path, table: Table) -> list[str]:
    """Return the folder's pictures that are not in any row."""
    names = (row.cells.get("file_name") for row in table.rows)
    named = {os.path.realpath(folder / name) for name in names if isinstance(name, str) and "\0" not in name}
    pictures = (path for path in _files(folder) if is_picture(path.name))
    return [f"{path} has no row in {table.path.name}" for path in pictures if os.path.realpath(path) not in named]


def _common_mode(folder: Path, records: list[Record]) -> str:
    """Return 'L' if every readable picture is grey, else 'RGB'."""
    for record in progress(records, desc="opening", unit="picture"):
        try:
            if mode_of(folder / record.key) not in GREY:
                return "RGB"
        except Exception:  # a damaged file, reported when drawn
            continue
    return "L"
