"""`zaozi distill MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from zaozi.core.config import Config, config
from zaozi.core.recipe import DistillConfig


@config()
class Distilling(Config):
    """Distill a model into students that draw in few steps without guidance, each with half the steps of the one before.

    Writes one training run per student: DIR/8-steps, DIR/4-steps, ..., with --consistency also DIR/4-steps-or-fewer. DIR is
    then the last of them.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the Hugging Face hub."""
    steps: str = "8,4,2,1"
    """Comma-separated numbers of steps, each half of the one before."""
    how: Annotated[DistillConfig, tyro.conf.arg(name="")] = DistillConfig()
    """Distillation."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/distill")
    """The output folder."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with a distillation that was stopped, with the same options."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Overwrite files with the names of a run that zaozi did not write; by default this is an error."""


def distill(s: Distilling) -> None:
    """Run a distillation. Raises `ZaoziError`."""
    from zaozi.cli.compare import step_counts
    from zaozi.train.students import distill

    if not distill(s.model, step_counts(s.steps), s.how, s.out, resume=s.resume, overwrite=s.overwrite):
        raise SystemExit(130)
