"""The guide's figures: each is one function over arrays that the library's own functions return."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zaozi.core.errors import unknown
from zaozi.core.outputs import Output

if TYPE_CHECKING:
    from zaozi.guide.figures.paper import Figure
    from zaozi.guide.figures.source import Source

FIGURES: dict[str, str] = {
    "01-gaussian": "probability.gaussian",
    "02-real-and-drawn": "live.real_and_drawn",
    "03-picture-as-vector": "probability.picture_as_vector",
    "04-atlas": "atlas.atlas",
    "05-chain": "forward.chain",
    "06-one-step": "forward.one_step",
    "07-fields": "forward.fields",
    "08-schedules": "forward.schedules",
    "09-predictions": "live.predictions",
    "10-films": "live.films",
    "11-joint-density": "probability.joint_density",
    "12-words-as-vectors": "words.words_as_vectors",
    "13-attention": "words.attention",
    "14-first-guess": "live.first_guess",
    "15-guidance-and-steps": "live.guidance_and_steps",
    "15-radicals": "live.radicals",
    "16-training-step": "learning.training_step",
    "17-network": "learning.network",
    "18-independent-noise": "probability.independent_noise",
    "19-origins": "atlas.origins",
}
"""Name -> module and function; a figure is one function and one line here."""


def figure(name: str) -> Callable[[Source], Figure]:
    """The function behind a figure's name, or behind its number ('7'). Raises `ZaoziError`."""
    module, _, function = FIGURES[chosen([name])[0]].partition(".")
    made: Callable[[Source], Figure] = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return made


def chosen(names: Sequence[str]) -> list[str]:
    """Full names of figures that are named in full or by number; all of them where none is. Raises `ZaoziError`."""
    if not names:
        return list(FIGURES)
    made = []
    for name in names:
        found = [n for n in FIGURES if n == name or n.split("-")[0].lstrip("0") == name.lstrip("0")]
        if not found:
            raise unknown("figure", name, FIGURES)
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
