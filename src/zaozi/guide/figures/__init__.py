"""Figures of the guide: each is one function over arrays computed by the library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zaozi.core.errors import unknown
from zaozi.core.outputs import Output
from zaozi.core.registry import Registry

if TYPE_CHECKING:
    from zaozi.guide.figures.paper import Figure
    from zaozi.guide.figures.source import Source

figures: Registry[Callable[[Source], Figure]] = Registry("figure", __name__)
"""Registry of the figures by name; functions in this package register themselves."""


def figure(name: str) -> Callable[[Source], Figure]:
    """Return the function of a figure by name or number ('7'). Raises `ZaoziError` if it is unknown."""
    return figures[chosen([name])[0]]


def chosen(names: Sequence[str]) -> list[str]:
    """Resolve figure names or numbers to full names; all figures if none are given. Raises `ZaoziError` if one is unknown."""
    if not names:
        return sorted(figures)
    made = []
    for name in names:
        found = [n for n in sorted(figures) if n == name or n.split("-")[0].lstrip("0") == name.lstrip("0")]
        if not found:
            raise unknown("figure", name, figures)
        made += found
    return list(dict.fromkeys(made))


def figures_output(out: Path, names: Sequence[str], *, overwrite: bool = False) -> Output:
    """Return the output folder for some figures; other figures in the folder are kept."""
    files = tuple(f"{name}{end}" for name in names for end in (".png", ".svg", ".json", "-*.mp4"))
    return Output(out, "figures", files, whole=False, overwrite=overwrite, keep=True)


def draw_all(source: Source, names: Sequence[str], out: Path) -> Iterator[tuple[str, list[Path]]]:
    """Draw figures into `out`, each as NAME.png, .svg and .json; yields each name and its files."""
    from zaozi.guide.figures.paper import save, styled

    for name in chosen(names):
        with styled():
            yield name, save(figure(name)(source), out, name)
