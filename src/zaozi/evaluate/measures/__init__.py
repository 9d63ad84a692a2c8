"""What is measured of a model, one file per measure."""

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
    """One figure of a measure as people read it. The paths say where it stands in the report: 'measure.set.name'."""

    place: int
    """Rows of a table are sorted by it."""
    label: str
    drawn: str
    real: str = ""
    lookup: str = ""
    """Of the training glyph whose caption is nearest in meaning."""
    unit: Literal["%", ""] = ""
    """`%` for a share."""
    better: Literal["higher", "lower", "as real"] = "higher"
    headline: bool = False
    """Whether README shows it; the card and the report show all."""


@dataclass(frozen=True)
class Measure:
    """A function of the judge and the drawn sets that returns figures by name (nested), and how people read them."""

    compute: Callable[[Judge, Drawn], Any]
    rows: tuple[Row, ...] = ()
    version: int = 1
    """Raised where the same glyphs would get other figures: a report says which version it holds."""


measures: Registry[Measure] = Registry("measure", __name__)


def measure(name: str, *rows: Row, version: int = 1) -> Callable[[Callable[[Judge, Drawn], Any]], Measure]:
    """A decorator that makes a measure of a function and registers it; `name` is its key in the report's figures."""

    def add(compute: Callable[[Judge, Drawn], Any]) -> Measure:
        return measures.register(name)(Measure(compute, rows, version))

    return add


def all_rows() -> list[Row]:
    """The rows of every measure, as a table has them."""
    return sorted((row for one in measures.values() for row in one.rows), key=lambda row: row.place)
