"""`zaozi evaluate sweep` and `zaozi compare`: compare many settings of one model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zaozi.cli.evaluate import Dir, Model, judges
from zaozi.core.sampling import MEASURING, Guidance, Sampling


@dataclass(frozen=True)
class Sweep:
    """Measure adherence, distance, diversity and copies over guidance, steps and samplers; write a plot, a table and the data."""

    model: Model = "base"
    """Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the Hugging Face hub."""
    data: Dir = None
    """The glyph dataset; built if missing."""
    samples: int = 192
    """Glyphs per setting."""
    guidance: str = "0,1,2,3,5,7,10,15"
    """Comma-separated guidance scales, at 20 steps of the first sampler."""
    steps: str = "1,2,5,10,20,50,120"
    """Comma-separated step counts for each sampler, at guidance 5."""
    samplers: str = "dpmpp-2m,ddim,ddpm"
    """Comma-separated sampler names, or all."""
    reference: Dir = None
    """A folder with your own judges."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/sweep")
    """The output folder."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Overwrite existing files of these names that zaozi did not write; by default this is an error."""


def sweep(s: Sweep) -> None:
    from zaozi.core.outputs import Output
    from zaozi.evaluate.drawing import ParallelSampler
    from zaozi.evaluate.sweep import sweep
    from zaozi.model.checkpoint import find_model

    output = Output(s.out, "sweep", ("sweep.json", "sweep.md", "sweep.png"), whole=False, overwrite=s.overwrite)
    output.check()
    studio = ParallelSampler(find_model(s.model))
    names = _samplers(s.samplers)
    scales, counts = _numbers(s.guidance, "guidance"), step_counts(s.steps)
    sweep(studio, judges(studio, s.data, s.reference), output, s.samples, scales, counts, names)


@dataclass(frozen=True)
class Comparison:
    """Compare samplers: adherence and distance against network calls, as a table and a grid of pictures."""

    model: Model = "base"
    """Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the Hugging Face hub."""
    samplers: str = "all"
    """Comma-separated sampler names, or all."""
    steps: str = "1,2,5,10,20,50,120"
    """Comma-separated step counts."""
    samples: int = 192
    """Glyphs per setting."""
    guidance: Guidance = Sampling.guidance
    """Guidance; --guidance 5 is short for --guidance.scale 5."""
    weak: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """A weaker model, such as an early checkpoint, to guide away from (autoguidance)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the network; auto selects the faster one."""
    prompt: str = "gold"
    """Prompt for the grid of pictures."""
    data: Dir = None
    """The glyph dataset; built if missing."""
    reference: Dir = None
    """A folder with your own judges."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/compare")
    """The output folder."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Overwrite existing files of these names that zaozi did not write; by default this is an error."""


def compare(s: Comparison) -> None:
    from zaozi.core.outputs import Output
    from zaozi.evaluate.compare import compare
    from zaozi.evaluate.drawing import ParallelSampler
    from zaozi.model.checkpoint import find_model

    names, counts = _samplers(s.samplers), step_counts(s.steps)
    how = replace(MEASURING, guidance=s.guidance, precision=s.precision)
    output = Output(s.out, "compare", ("compare.json", "compare.md", "compare.png"), whole=False, overwrite=s.overwrite)
    output.check()
    studio = ParallelSampler(find_model(s.model), find_model(s.weak) if s.weak else None)
    compare(studio, judges(studio, s.data, s.reference), output, names, counts, s.samples, how, s.prompt)


def _numbers(text: str, name: str) -> list[float]:
    """Parse '1,2,5' as numbers. Raises `ZaoziError`."""
    from zaozi.core.errors import ZaoziError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ZaoziError(f"--{name} '{text}' is not a list of numbers; write for instance --{name} 1,2,5") from None


def step_counts(text: str) -> list[int]:
    """Parse '1,2,5' as integers. Raises `ZaoziError`."""
    from zaozi.core.errors import ZaoziError

    found = _numbers(text, "steps")
    if any(n != int(n) for n in found):
        raise ZaoziError(f"--steps '{text}' holds a fraction; use whole numbers")
    return [int(n) for n in found]


def _samplers(text: str) -> list[str]:
    """Parse 'ddim,heun' as sampler names; 'all' selects every sampler. Raises `ZaoziError`."""
    from zaozi.core.components import samplers

    names = list(samplers) if text == "all" else [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        samplers[name]  # raises if unknown
    return names
