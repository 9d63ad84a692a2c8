"""Strict parsing of metadata.jsonl and metadata.csv: each invalid row is reported with its line."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaozi.core.errors import ZaoziError, printable

RESERVED = ("file_name", "text", "image", "key")
"""Reserved columns; the last two are written by the build itself."""


class Bad:
    """Raises at the first bad row or picture, or (`skip`) collects the errors."""

    def __init__(self, skip: bool) -> None:
        self.skip, self.skipped = skip, list[str]()

    def row(self, why: str) -> None:
        if not self.skip:
            raise ZaoziError(f"{why} (or pass --skip-bad to go on without it)")
        self.skipped.append(printable(why))


@dataclass(frozen=True)
class Row:
    """One row: its position, as file:line, and its cells by column."""

    place: str
    cells: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A parsed metadata file. `typed`: values have their own types (JSON); otherwise all are text (CSV)."""

    path: Path
    rows: list[Row]
    typed: bool

    def columns(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        """Return the non-reserved columns of some rows, each of one type; see `json_column` and `csv_column`."""
        names = {name: None for row in rows for name in row.cells if name not in RESERVED}
        column = json_column if self.typed else csv_column
        return {name: column([row.cells.get(name) for row in rows]) for name in names}


def read_text(path: Path, newline: str | None = None) -> str:
    """Read a UTF-8 file, with or without a byte order mark; `newline` as in `open`. Raises `ZaoziError`."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ZaoziError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from None


def read_table(folder: Path, bad: Bad, is_picture: Callable[[str], bool]) -> Table | None:
    """Return the rows of metadata.jsonl or metadata.csv, or None if there is neither.

    Rows that do not match the file's header or are invalid JSON go to `bad`. `is_picture` says whether a text looks like the
    name of a picture file. Raises `ZaoziError` if both files exist, or the file as a whole cannot be read.
    """
    lines, table = folder / "metadata.jsonl", folder / "metadata.csv"
    if lines.is_file() and table.is_file():
        raise ZaoziError(f"{folder} has both {lines.name} and {table.name}; keep one of them")
    if lines.is_file():
        return Table(lines, list(_json_rows(lines, bad)), typed=True)
    if table.is_file():
        return Table(table, list(_csv_rows(table, bad, is_picture)), typed=False)
    return None


# -- JSON lines -----------------------------------------------------------------------------------------------------


def _json_rows(path: Path, bad: Bad) -> Iterator[Row]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # JSON may contain other line separators
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            cells = json.loads(line, object_pairs_hook=_unique, parse_constant=_not_json, parse_float=_finite)
            json.dumps(cells, ensure_ascii=False).encode()  # rejects a lone surrogate
        except UnicodeEncodeError:
            bad.row(f"{place} holds half of a surrogate pair (such as \\ud83d alone), which is not text; fix that line")
        except (ValueError, RecursionError) as error:
            bad.row(f"{place} is not JSON ({error}); fix or remove that line")
        else:
            if isinstance(cells, dict):
                yield Row(place, cells)
            else:
                bad.row(f'{place} is not an object; write {{"file_name": ..., "text": ...}}')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it gives '{next(n for n in names if names.count(n) > 1)}' twice")
    return made


def _not_json(literal: str) -> Any:
    raise ValueError(f"{literal} is not a JSON number; write null")


def _finite(literal: str) -> float:
    if not math.isfinite(value := float(literal)):
        raise ValueError(f"{literal[:40]} is too large a number")
    return value


def json_column(values: Sequence[Any]) -> list[Any]:
    """Convert a column of JSON values to one type. A missing value is None in numbers and booleans, '' in text, [] in lists.

    All booleans, all 64-bit integers, all numbers, or all lists keep their type (list items become text). Other columns
    become text: strings are unchanged, other values are written as JSON. Integers beyond 64 bits, and those among floats that
    a float cannot represent exactly (beyond 2^53), make the column text.
    """
    given = [value for value in values if value is not None]
    kinds = {type(value) for value in given}
    if kinds == {bool} or (kinds == {int} and all(abs(value) < 2**63 for value in given)):
        return list(values)
    if kinds and kinds <= {int, float} and all(type(v) is float or abs(v) <= 2**53 for v in given):
        return [None if value is None else float(value) for value in values]
    if kinds == {list}:
        return [[_written(one) for one in value or []] for value in values]
    return ["" if value is None else _written(value) for value in values]


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# -- CSV ------------------------------------------------------------------------------------------------------------


def _csv_rows(path: Path, bad: Bad, is_picture: Callable[[str], bool]) -> Iterator[Row]:
    lines = list(io.StringIO(read_text(path, newline=""), newline=""))
    place, header = 0, list[str]()
    while place < len(lines):
        start, (cells, wrong, used) = place, _csv_row(lines, place)
        place += used
        if not cells and not wrong:  # a blank line
            continue
        if not header:
            _check_header(path, start + 1, cells, wrong)
            header = cells
            continue
        wrong = wrong or _wrong(cells, header, is_picture)
        if wrong:
            bad.row(f"{path}:{start + 1} {wrong}; fix or remove that row")
            place = start + 1  # the lines it consumed may be separate rows
        else:
            yield Row(f"{path}:{start + 1}", dict(zip(header, cells, strict=True)))


def _csv_row(lines: list[str], start: int) -> tuple[list[str], str, int]:
    """Return the cells of the row that starts at a line, its error, and its number of lines."""
    reader = csv.reader((lines[n] for n in range(start, len(lines))), strict=True)
    try:
        cells, wrong = next(reader), ""
    except csv.Error as error:
        cells, wrong = [], f"cannot be read ({error}); a quote inside a quoted cell is written twice"
        if "unexpected end" in str(error):
            wrong = "opens a quote that is not closed"
        elif "field larger" in str(error):
            wrong = (
                f"has a cell of more than {csv.field_size_limit():,} characters, perhaps for a quote that is not closed"
            )
        elif reader.line_num > 1:
            wrong = f"opens a quote that seems not to be closed before line {start + reader.line_num}"
    return cells, wrong, max(reader.line_num, 1)


def _check_header(path: Path, line: int, header: list[str], wrong: str) -> None:
    if wrong:
        raise ZaoziError(f"{path}:{line} {wrong}; fix the header")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ZaoziError(f"{path}:{line} names the column '{twice}' twice; rename one of them")
    for name in ("file_name", "text"):
        if name not in header:
            raise ZaoziError(
                f"{path}:{line} has no column '{name}' (it has: {', '.join(header)}); "
                "the first line names the columns, separated by commas"
            )


def _wrong(cells: list[str], header: list[str], is_picture: Callable[[str], bool]) -> str:
    if any("\0" in cell for cell in cells):
        return "holds a NUL byte"
    name = header.index("file_name")
    for cell in cells:
        for line in cell.splitlines()[1:]:
            inner = next(csv.reader([line]), [])
            if len(inner) > 1 and len(inner) > name and is_picture(inner[name].strip()):
                return f"seems to have swallowed the row of '{inner[name].strip()}': its quote is not closed"
    if len(cells) != len(header):
        return f"has {len(cells)} cells where the header names {len(header)} (quote a cell that holds a comma)"
    return ""


_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]+)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def csv_column(values: Sequence[str | None]) -> list[Any]:
    """Convert a column of CSV cells to integers or floats, or keep it as text.

    Integers if every cell is a 64-bit integer (no leading zero, plus sign or underscore); floats if every cell is a finite
    number (1.5, .5, 1e5), or an integer that a float represents exactly (up to 2^53). Surrounding spaces, empty cells and
    'nan' are accepted, and the last two become None. Any other cell makes the whole column text, with each cell unchanged.
    """
    stripped = [(value or "").strip() for value in values]
    given = [value for value in stripped if value and value.lower() != "nan"]
    kind: Callable[[str], Any] = str
    if given and all(_INTEGER.fullmatch(v) and abs(int(v)) < 2**63 for v in given):
        kind = int
    elif given and all(_NUMBER.fullmatch(v) and math.isfinite(float(v)) and _exact(v) for v in given):
        kind = float
    if kind is str:
        return [value or "" for value in values]
    return [kind(value) if value and value.lower() != "nan" else None for value in stripped]


def _exact(value: str) -> bool:
    return not value.lstrip("-").isdecimal() or (len(value) < 18 and abs(int(value)) <= 2**53)
