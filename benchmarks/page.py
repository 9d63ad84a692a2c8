"""The page docs/benchmarks.md, rendered whole from results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parent / "page.md"
COSTS = {"equal": "Training at equal cost per call", "own": "Training at the peers' own widths"}
DRAWING = {"usual": "Sampling as each side usually draws", "equal": "Sampling with equally many calls of the network"}


def number(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> number(1234.5), number(12.345), number(0.00123456)
    ('1,234', '12.3', '0.00123')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2
    while value and abs(value) < 10 ** (2 - digits) and digits < 8:
        digits += 1
    return f"{value:.{1 if abs(value) >= 10 else digits}f}"


def ratio(row: dict[str, Any]) -> str:
    return f"{number(row['ratio'])} ({number(row['lowest'])} to {number(row['highest'])})"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(cells) + " |" for cells in rows), ""]


def rendered(results: dict[str, Any]) -> str:
    """Return the page for the results of `make bench`."""
    lines = [TEMPLATE.read_text(encoding="utf-8").rstrip(), ""]
    lines += [f"Measured on {results['date']} with PyTorch {results['torch']} and Python {results['python']}.", ""]
    for part in results["devices"]:
        lines += device(part)
    return "\n".join(lines).rstrip() + "\n"


def device(part: dict[str, Any]) -> list[str]:
    """Return the section of one device."""
    known = {side["name"]: side for side in part["contestants"]}
    title = "GPU" if part["device"] == "cuda" else "CPU"
    threads = "" if part["device"] == "cuda" else f", {part['threads']} thread{'s' if part['threads'] != 1 else ''}"
    lines = [f"## {title}: {part['machine']}{threads}", "", "### The sides", ""]
    head = ["", "version", "training in", "resolution", "GFLOPs per call", "parameters", "batch", "weight average"]
    lines += table(head, [about(side) for side in part["contestants"]])
    for cost, name in COSTS.items():
        rows = [row for row in part["training"] if row["cost"] == cost]
        if rows:
            lines += [f"### {name}", ""]
            head = [
                "zaozi",
                "peer",
                "resolution",
                "GFLOPs per call",
                "parameters",
                "zaozi, samples/s",
                "peer, samples/s",
            ]
            lines += table([*head, "ratio"], [trained(row, known) for row in rows])
    for how, name in DRAWING.items():
        rows = [row for row in part["sampling"] if row["how"] == how]
        if rows:
            lines += [
                f"### {name}",
                "",
                "In fp32, several pictures at once; calls are evaluations of the network per picture.",
            ]
            lines += ["Where fewer steps were timed than it takes, their time was scaled to all steps.", ""]
            head = ["zaozi", "calls", "peer", "calls", "zaozi, pictures/s", "peer, pictures/s", "ratio"]
            lines += table(head, [drawn(row) for row in rows])
    if part["missing"]:
        lines += ["### Not measured", "", *(f"- {one['name']}: {one['reason']}" for one in part["missing"]), ""]
    return lines


def size(side: dict[str, Any]) -> list[str]:
    side_pixels = side["resolution"]
    return [f"{side_pixels}x{side_pixels}", number(side["flops"] / 1e9), f"{number(side['parameters'] / 1e6)} M"]


def about(side: dict[str, Any]) -> list[str]:
    own = [side["name"], side["version"], side["precision"], *size(side)]
    return [*own, str(side["batch"]), "yes" if side["ema"] else "no"]


def trained(row: dict[str, Any], known: dict[str, dict[str, Any]]) -> list[str]:
    rates = [number(row[which]["median"]) for which in "ab"]
    return [row["zaozi"], row["peer"], *size(known[row["peer"]]), *rates, ratio(row)]


def drawn(row: dict[str, Any]) -> list[str]:
    calls, samplers = row["calls"], row["samplers"]
    return [
        samplers["zaozi"],
        f"{calls['zaozi']:g}",
        f"{row['peer'].removesuffix(', fp32')}: {samplers['peer']}",
        f"{calls['peer']:g}",
        number(row["a"]["median"]),
        number(row["b"]["median"]),
        ratio(row),
    ]
