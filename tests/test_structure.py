"""What the code looks like from a distance: short signatures, and choices that are refused where they are not known."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import zaozi
from zaozi.core.components import networks, optimisers, properties, spaces

SOURCES = Path(__file__).parents[1] / "src" / "zaozi"
MOST, LONGEST = 8, 350
"""Parameters of a function (more of them make a configuration), and lines of a module."""


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


def test_no_module_is_longer_than_350_lines() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in SOURCES.rglob("*.py")}
    assert {str(file.relative_to(SOURCES)): n for file, n in lengths.items() if n > LONGEST} == {}


def test_a_kind_is_asked_for_in_its_own_file_alone() -> None:
    """No second switch on the kind of a component: what differs is a method of its configuration."""
    kinds = "|".join([*networks, *spaces, *properties, *optimisers])
    switches = re.compile(rf'\b(network|space|optim|property|p|twin)\.kind (==|!=|in) |\bkind == "({kinds})"')
    sources = sorted(SOURCES.rglob("*.py"))
    found = [str(f.relative_to(SOURCES)) for f in sources if switches.search(f.read_text(encoding="utf-8"))]
    assert found == []


def test_every_public_name_of_the_package_is_there() -> None:
    for name in zaozi.__all__:
        assert getattr(zaozi, name) is not None
