"""Evaluation measures, one file per measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from zaozi.core.registry import Registry

if TYPE_CHECKING:
    from zaozi.evaluate.measure import Judge
    from zaozi.evaluate.report import Drawn


@dataclass(frozen=True)
class Row:
    """One row of the table. The paths are locations in the report: 'measure.set.name'."""

    place: int
    """Sort key of the table."""
    label: str
    drawn: str
    real: str = ""
    lookup: str = ""
    """Path for the training glyph whose caption is closest in meaning."""
    unit: Literal["%", ""] = ""
    """`%` for a share."""
    better: Literal["higher", "lower", "as real"] = "higher"
    headline: bool = False
    """Whether the README shows it; the card and the report show all rows."""


@dataclass(frozen=True)
class Measure:
    """A function of the judge and the generated sets that returns (nested) figures by name, and its table rows."""

    compute: Callable[[Judge, Drawn], Any]
    rows: tuple[Row, ...] = ()
    version: int = 1
    """Increased if the same glyphs would get different figures; recorded in reports."""


measures: Registry[Measure] = Registry("measure", __name__)


def measure(name: str, *rows: Row, version: int = 1) -> Callable[[Callable[[Judge, Drawn], Any]], Measure]:
    """Decorator that registers a function as a measure; `name` is its key in the report's figures."""

    def add(compute: Callable[[Judge, Drawn], Any]) -> Measure:
        return measures.register(name)(Measure(compute, rows, version))

    return add


def all_rows() -> list[Row]:
    """Return the rows of all measures, in table order."""
    return sorted((row for one in measures.values() for row in one.rows), key=lambda row: row.place)
