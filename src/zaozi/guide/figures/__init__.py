"""The guide's figures: each is one function over arrays that the library's own functions return."""

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
"""The figures by name; each is a function of a file here that registers itself."""


def figure(name: str) -> Callable[[Source], Figure]:
    """The function behind a figure's name, or behind its number ('7'). Raises `ZaoziError`."""
    return figures[chosen([name])[0]]


def chosen(names: Sequence[str]) -> list[str]:
    """Full names of figures that are named in full or by number; all of them where none is. Raises `ZaoziError`."""
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
    """The files of some figures, to be written; other figures in the folder stay."""
    files = tuple(f"{name}{end}" for name in names for end in (".png", ".svg", ".json", "-*.mp4"))
    return Output(out, "figures", files, whole=False, overwrite=overwrite, keep=True)


def draw_all(source: Source, names: Sequence[str], out: Path) -> Iterator[tuple[str, list[Path]]]:
    """Draw figures one after the other into `out`, each as NAME.png, .svg and .json; yields each name and its files."""
    from zaozi.guide.figures.paper import save, styled

    for name in chosen(names):
        with styled():
            yield name, save(figure(name)(source), out, name)
