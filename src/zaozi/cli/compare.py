"""`zaozi evaluate sweep` and `zaozi compare`: many settings of one model side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zaozi.cli.asked import check_guide
from zaozi.cli.evaluate import Dir, Model, judges
from zaozi.cli.main import parse
from zaozi.core.sampling import Guidance, Sampling


@dataclass(frozen=True)
class Sweep:
    """Adherence, distance, diversity and copies against guidance, steps and sampler: a picture, a table, and the figures."""

    model: Model = "base"
    """A shipped name, or the folder of a model or training run."""
    data: Dir = None
    """The glyph dataset; built when it is not there."""
    samples: int = 192
    """Glyphs a setting."""
    guidance: str = "0,1,2,3,5,7,10,15"
    """Scales with commas between, at 20 steps of the first sampler."""
    steps: str = "1,2,5,10,20,50,120"
    """Numbers of steps with commas between, of each sampler, at guidance 5."""
    samplers: str = "dpmpp-2m,ddim,ddpm"
    """Their names with commas between, or all."""
    reference: Dir = None
    """A folder with judges of your own."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/sweep")
    """The output folder."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace files of these names that zaozi did not write; without it they are refused."""


def sweep(args: list[str]) -> None:
    s: Sweep = parse(Sweep, args, "evaluate sweep")
    from zaozi.core.outputs import Output
    from zaozi.evaluate.drawing import ParallelSampler
    from zaozi.evaluate.sweep import sweep
    from zaozi.model.checkpoint import find_model

    output = Output(s.out, "sweep", ("sweep.json", "sweep.md", "sweep.png"), whole=False, overwrite=s.overwrite)
    output.check()
    studio = ParallelSampler(find_model(s.model))
    names = _samplers(s.samplers)
    scales, counts = _numbers(s.guidance, "guidance"), _counts(s.steps)
    sweep(studio, judges(studio, s.data, s.reference), output, s.samples, scales, counts, names)


@dataclass(frozen=True)
class Comparison:
    """Samplers side by side: adherence and distance against calls of the network, as a table and a grid of pictures."""

    model: Model = "base"
    """A shipped name, or the folder of a model or training run."""
    samplers: str = "all"
    """Their names with commas between, or all."""
    steps: str = "1,2,5,10,20,50,120"
    """Numbers of steps with commas between."""
    samples: int = 192
    """Glyphs a setting."""
    guidance: float = Guidance.scale
    """Guidance scale."""
    guide: Guidance = Sampling.guidance
    """More about guidance; its scale is --guidance."""
    weak: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """A lesser model, an early checkpoint say, to guide away from (autoguidance)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """In which the network is called; auto takes the faster."""
    prompt: str = "gold"
    """Of the grid of pictures."""
    data: Dir = None
    """The glyph dataset; built when it is not there."""
    reference: Dir = None
    """A folder with judges of your own."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/compare")
    """The output folder."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace files of these names that zaozi did not write; without it they are refused."""


def compare(args: list[str]) -> None:
    s: Comparison = parse(Comparison, args, "compare")
    from zaozi.core.outputs import Output
    from zaozi.evaluate.compare import compare
    from zaozi.evaluate.drawing import MEASURING, ParallelSampler
    from zaozi.model.checkpoint import find_model

    check_guide(s.guide)
    names, counts = _samplers(s.samplers), _counts(s.steps)
    how = replace(MEASURING, guidance=replace(s.guide, scale=s.guidance), precision=s.precision)
    output = Output(s.out, "compare", ("compare.json", "compare.md", "compare.png"), whole=False, overwrite=s.overwrite)
    output.check()
    studio = ParallelSampler(find_model(s.model), find_model(s.weak) if s.weak else None)
    compare(studio, judges(studio, s.data, s.reference), output, names, counts, s.samples, how, s.prompt)


def _numbers(text: str, name: str) -> list[float]:
    """'1,2,5' as numbers. Raises `ZaoziError`."""
    from zaozi.core.errors import ZaoziError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ZaoziError(f"--{name} '{text}' is no list of numbers; write for instance --{name} 1,2,5") from None


def _counts(text: str) -> list[int]:
    """'1,2,5' as whole numbers. Raises `ZaoziError`."""
    from zaozi.core.errors import ZaoziError

    found = _numbers(text, "steps")
    if any(n != int(n) for n in found):
        raise ZaoziError(f"--steps '{text}' holds a fraction; use whole numbers")
    return [int(n) for n in found]


def _samplers(text: str) -> list[str]:
    """'ddim,heun' as samplers' names, or 'all' of them. Raises `ZaoziError`."""
    from zaozi.core.components import samplers

    names = list(samplers) if text == "all" else [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        samplers[name]  # an unknown one is an error
    return names
