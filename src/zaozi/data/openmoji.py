"""OpenMoji: colour emoji with names and tags, from the npm package `openmoji` or its unpacked folder.

OpenMoji is by the HfG Schwaebisch Gmuend, licensed under CC BY-SA 4.0 (https://openmoji.org). Nothing of it is part of zaozi:
`npm pack openmoji` fetches the package, and models trained on it share its licence.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from zaozi.core.errors import ZaoziError
from zaozi.core.files import sha256
from zaozi.data.shards import Record, build, dataset_output, normalised

LICENCE = "CC BY-SA 4.0, OpenMoji (https://openmoji.org), HfG Schwaebisch Gmuend"
LIST, PICTURE = "data/openmoji.json", "color/svg/{}.svg"
EDITION = 1
"""Version of the pictures and columns."""
LARGEST = 2**20
"""Maximum size of one drawing, in bytes, far above that of any drawing in the package."""
LARGEST_LIST = 2**25
_LOADS = re.compile(r"<\s*([\w.-]+:)?(fe)?image\b|<!(doctype|entity)", re.IGNORECASE)

Read = Callable[[str, int], bytes]
"""(name inside the package, maximum size) -> content; raises `ZaoziError` if it is missing or too large."""


@contextmanager
def opened(source: Path) -> Iterator[Read]:
    """Open the package: a folder, or the .tgz that `npm pack openmoji` writes. Raises `ZaoziError` if it is neither."""

    def checked(name: str, content: bytes, most: int) -> bytes:
        if len(content) > most:
            raise ZaoziError(f"{name} in {source} has more than {most:,} bytes; it is not of OpenMoji")
        return content

    if source.is_dir():

        def from_folder(name: str, most: int) -> bytes:
            try:
                with (source / name).open("rb") as file:
                    return checked(name, file.read(most + 1), most)
            except OSError as error:
                raise ZaoziError(
                    f"{source / name} cannot be read ({error.strerror}); unpack the package again"
                ) from None

        yield from_folder
        return
    try:
        with tarfile.open(source, "r:gz") as archive:
            members = {member.name.partition("/")[2]: member for member in archive if member.isfile()}

            def from_archive(name: str, most: int) -> bytes:
                file = archive.extractfile(members[name]) if name in members else None
                if file is None:
                    raise ZaoziError(f"{source} has no {name}; give the package openmoji, from npm pack openmoji")
                return checked(name, file.read(most + 1), most)

            yield from_archive
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ZaoziError(
            f"{source} cannot be read ({error}); give the .tgz that npm pack openmoji writes, or its unpacked folder"
        ) from None


def rasterised(svg: str, size: int) -> Image.Image:
    """Draw an SVG on white, `size` x `size` pixels, RGB, with resvg. System fonts are not used.

    Raises `ValueError` if it is not an SVG, or could load a file: it has an image, or a document type with entities.
    """
    import resvg_py

    if _LOADS.search(svg):
        raise ValueError("it has an image or a document type, which could load other files")
    made = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(made))) as picture:
        return picture.convert("RGB")


def _draw(record: Record, *, drawings: dict[str, str], size: int) -> Image.Image:
    try:
        return rasterised(drawings[record.key], size)
    except ValueError as error:
        raise ZaoziError(
            f"{record.key}.svg cannot be drawn ({str(error)[:80]}); leave it out with --skip-bad"
        ) from None


def build_openmoji(
    source: Path,
    out: Path,
    *,
    size: int = 128,
    skin_tones: bool = False,
    limit: int = 0,
    skip_bad: bool = False,
    processes: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Build a dataset of RGB emoji at `size` pixels; returns the manifest.

    The caption is the emoji's name, its tags are the hints, and `group` and `subgroup` are columns. `skin_tones` adds the
    variants with skin tones, which share the split of the emoji without one; `limit` keeps that many, evenly spaced.
    Raises `ZaoziError` if a size or limit is out of range, or the package cannot be read.
    """
    if not 8 <= size <= 1024:
        raise ZaoziError(f"size {size} is out of range; use 8 to 1024")
    if limit < 0:
        raise ZaoziError(f"limit {limit} is out of range; use 1 or more, or 0 for all")
    output = dataset_output(out, inputs=[source], overwrite=overwrite)
    output.check()
    with opened(source) as read:
        listed, rows = _rows(read, source)
        rows = [row for row in rows if skin_tones or not row["skintone"]]
        if 0 < limit < len(rows):
            rows = [rows[i * len(rows) // limit] for i in range(limit)]
        records = [_record(row, listed) for row in rows]
        drawings = {record.key: read(PICTURE.format(record.key), LARGEST).decode("utf-8") for record in records}
    about = {
        "source": "OpenMoji",
        "edition": EDITION,
        "licence": LICENCE,
        "package": {"name": source.name, **({"sha256": sha256(source)} if source.is_file() else {})},
        "skin_tones": skin_tones,
        "limit": limit,
    }
    draw = partial(_draw, drawings=drawings, size=size)
    return build(records, draw, output, about=about, skip_bad=skip_bad, processes=processes)


def _rows(read: Read, source: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the name of each emoji by its code, and the package's list. Raises `ZaoziError` if it is not OpenMoji's."""
    try:
        rows = json.loads(read(LIST, LARGEST_LIST))
        names = {row["hexcode"]: row["annotation"] for row in rows}
        good = all(re.fullmatch(r"[0-9A-F]+(-[0-9A-F]+)*", code) and name.strip() for code, name in names.items())
        for row in rows:
            _ = (row["skintone"], row["tags"], row["openmoji_tags"], row["group"], row["subgroups"])
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good or not rows:
        raise ZaoziError(f"{LIST} in {source} is not OpenMoji's list; get the package again with npm pack openmoji")
    return names, rows


def _record(row: dict[str, Any], names: dict[str, str]) -> Record:
    tags = dict.fromkeys(tag.strip() for tag in f"{row['tags']},{row['openmoji_tags']}".split(",") if tag.strip())
    base = names.get(row.get("skintone_base_hexcode") or "", row["annotation"])
    columns = {
        "emoji": row["emoji"],
        "group": row["group"],
        "subgroup": row["subgroups"],
        "hints": [tag for tag in tags if tag != row["annotation"]],
    }
    return Record(row["hexcode"], row["annotation"], normalised(base), columns)
