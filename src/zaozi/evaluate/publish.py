"""Publish a report's table in the model card and in a README."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zaozi.core.errors import ZaoziError
from zaozi.core.files import as_json, sha256
from zaozi.core.outputs import Output, edit
from zaozi.evaluate.report import MISSES
from zaozi.evaluate.table import as_markdown, headlines
from zaozi.model.checkpoint import MODEL, WEIGHTS
from zaozi.model.release import facts

MARK = "quality"
BEGIN, END = f"<!-- {MARK} -->", f"<!-- /{MARK} -->"
REPORT = "report.json"


def read_report(path: Path) -> dict[str, Any]:
    """Read a report. Raises `ZaoziError` if it is missing or invalid."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        as_markdown(report)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZaoziError(f"{path} is not a report ({error}); make one: zaozi evaluate MODEL") from None
    return report


def between_marks(text: str, mark: str, value: str) -> str:
    """Replace the text between the lines <!-- mark --> and <!-- /mark -->. Raises `ZaoziError` unless each occurs once."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ZaoziError(f"the text needs one line {begin} and after it one line {end}; add them")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{value}\n{end}{rest.partition(end)[2]}"


def readme_with(text: str, report: Mapping[str, Any], model: Path) -> str:
    """Return a README with the report's headlines between its `quality` marks, and the model's facts between `model` marks."""
    text = between_marks(text, MARK, headlines(report))
    return between_marks(text, "model", facts(model)) if "<!-- model -->" in text else text


def publish(report_path: Path, model: Path, readme: Path | None = None, *, overwrite: bool = False) -> None:
    """Store the report with the model, add its table and picture of misses to the card, and its headlines to the README.

    The card and the README change only between the marks. Raises `ZaoziError` if the report is for other weights, or if the
    model's report or picture of misses was not written by zaozi (unless `overwrite`).
    """
    report = read_report(report_path)
    if report["model"]["weights"] != sha256(model / WEIGHTS):
        raise ZaoziError(f"{report_path} measured other weights than those in {model}; run: zaozi evaluate {model}")
    card, misses = model / "card.md", report_path.parent / MISSES
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {report['model']['name']}\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n## Measured\n\n{BEGIN}\n{END}\n"
    below = (
        f"\n\nThe radicals of the list that it misses most often:\n\n![misses]({MISSES})" if misses.is_file() else ""
    )
    page = readme_with(readme.read_text(encoding="utf-8"), report, model) if readme is not None else ""
    picture = misses.read_bytes() if misses.is_file() else None
    Output(model, MODEL, (REPORT, MISSES), whole=False, overwrite=overwrite).check()
    names = (REPORT, MISSES, card.name)
    with Output(model, MODEL, names, whole=False, overwrite=True, keep=True).open() as writer:
        writer.put(REPORT, as_json(report))
        writer.put(card.name, between_marks(text, MARK, f"{as_markdown(report)}{below}"))
        if picture is not None:
            writer.put(MISSES, picture)
        else:
            writer.remove(MISSES)
    if readme is not None:
        edit(readme, page)
