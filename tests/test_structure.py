"""What the code looks like from a distance: short signatures, and choices that are refused where they are not known."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src" / "zaozi"
MOST = 8
"""Parameters of a function; more of them make a config."""


def test_no_function_takes_more_than_eight_parameters() -> None:
    long = []
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names = [a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
                if len([name for name in names if name not in ("self", "cls")]) > MOST:
                    long.append(f"{file.relative_to(SOURCES)}: {node.name}")
    assert long == []


def test_options_are_named() -> None:
    found = [file.name for file in SOURCES.rglob("*.py") if "**options: Any" in file.read_text(encoding="utf-8")]
    assert found == []
