"""The stages of a distillation: one training run per student, each with half the steps of the one before, and at the end
perhaps a consistency model with as many.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from zaozi.core import schema
from zaozi.core.components import OptimConfig
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import DistillConfig, DistilledConfig, Recipe
from zaozi.model.checkpoint import CONSISTENT, STATE, STUDENT, find_model, newest, read_config
from zaozi.train.distill import check_adversary, check_student, check_teacher
from zaozi.train.loop import train
from zaozi.train.prepare import prepare
from zaozi.train.state import RECIPE, read_state, run_output

SAMPLES, LAST_SAMPLES = 60_000, 80_000
"""Usual number of training pictures of a stage, and of the last one."""
EMA = 0.999
SLOWER = 3.0
"""How many times lower than in training the learning rates are."""
WARMUP, FLAT = 50, 0.7
SHEETS = 4
"""Sample sheets per stage."""


def known_recipe(folder: Path) -> Recipe:
    """Return the recipe with which a model was trained, or for one without a record the default recipe. Raises `ZaoziError`."""
    if (folder / STATE).is_file():
        found: Recipe = read_state(folder)["recipe"]
        return found
    if not (folder / RECIPE).is_file():
        return Recipe()
    try:
        return schema.read(Recipe, json.loads((folder / RECIPE).read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, ZaoziError) as error:
        raise ZaoziError(f"{folder / RECIPE} cannot be read ({error}); copy the model again") from None


@dataclass(frozen=True)
class Stage:
    """One student of a distillation: its steps and sampler, the number of training pictures, the steps of its teacher's path if
    it is a consistency model with fewer, the weight of the adversarial loss, and the earlier student that it starts from, if any.
    """

    steps: int
    samples: int
    sampler: Literal["ddim", "consistency"] = "ddim"
    path: int = 0
    adversarial: float = 0.0
    student_from: str = ""

    @property
    def distilled(self) -> DistilledConfig:
        return self.of(DistilledConfig())

    def of(self, model: DistilledConfig) -> DistilledConfig:
        """Return how its student is distilled, with the guidance and the name of `model`."""
        mine = {name: getattr(self, name) for name in ("steps", "sampler", "path", "adversarial")}
        return replace(model, **mine)

    @property
    def folder(self) -> str:
        return f"{self.steps}{STUDENT}{CONSISTENT if self.distilled.is_consistent else ''}"


def student_recipe(folder: Path, stage: Stage, how: DistillConfig) -> Recipe:
    """Return the recipe of the student of the model in `folder`: that of the model, with its texts without noise as in drawing.

    Without an output folder and a time limit.
    """
    recipe, teacher = known_recipe(folder), read_config(folder)
    known = teacher.distilled
    first = known if known.steps else DistilledConfig(guidance=how.guidance, model=teacher.name)
    batch = how.batch_size or recipe.train.batch_size
    count = -(-stage.samples // batch)
    section = replace(
        recipe.train,
        steps=count,
        max_minutes=0.0,
        batch_size=batch,
        device=how.device,
        precision=how.precision or recipe.train.precision,
        compile=how.compile,
        text_noise=0.0,
        ema=EMA,
        validate_every=0,
        sample_every=-(-count // SHEETS),
        self_check=False,
        init_from=str(folder),
        student_from=stage.student_from,
        space_from="",
        drawn_by="",
    )
    return Recipe(
        name=f"{first.model}-{stage.folder}",
        data=replace(recipe.data, path=how.data) if how.data else recipe.data,
        text=teacher.text,
        network=teacher.network,
        space=teacher.space,
        diffusion=teacher.diffusion,
        stage=teacher.stage,
        distilled=stage.of(first),
        properties=teacher.properties,
        optim=slower(recipe.optim),
        train=section,
    )


def slower(optim: OptimConfig) -> OptimConfig:
    """Return the optimiser with a third of its learning rates: a short warm-up, constant, and a decay at the end."""
    rates = {f.name: getattr(optim, f.name) / SLOWER for f in fields(optim) if f.name.endswith("lr")}
    return replace(optim, warmup=WARMUP, flat=FLAT, **rates)


def planned(steps: Sequence[int], how: DistillConfig) -> list[Stage]:
    """Return the stages of a distillation to these steps."""
    found = [Stage(number, how.samples or SAMPLES) for number in steps]
    if how.consistency:
        last = found[-1].steps
        few = how.consistency_steps or last
        found.append(replace(found[-1], steps=few, sampler="consistency", path=last if few < last else 0))
    samples = how.samples or LAST_SAMPLES
    found[-1] = replace(found[-1], samples=samples, adversarial=how.adversarial, student_from=how.student_from)
    return found


def check_steps(steps: Sequence[int]) -> None:
    """Raises `ZaoziError` unless there are steps, each half of those before."""
    if not steps or min(steps) < 1 or any(before != 2 * after for before, after in pairwise(steps)):
        said = ",".join(map(str, steps))
        raise ZaoziError(f"steps '{said}' do not halve from one to the next; write for instance 8,4,2,1")


def check_consistency(last: int, how: DistillConfig) -> None:
    """Raises `ZaoziError` if a consistency model cannot have those levels."""
    if not (few := how.consistency_steps):
        return
    if not how.consistency:
        raise ZaoziError(f"--consistency-steps {few} needs --consistency")
    if last % few:
        raise ZaoziError(
            f"--consistency-steps {few} does not divide {last}, the steps of the last student; use a divisor"
        )


def recipes(
    model: str, steps: Sequence[int], how: DistillConfig, out: Path, *, resume: bool = False, overwrite: bool = False
) -> Iterator[Recipe]:
    """Yield the recipes of the stages, each when the one before is trained; its averaged weights are the next teacher.

    Raises `ZaoziError` before the first one if the model cannot be distilled so, or a folder of a stage is not free.
    """
    check_steps(steps)
    check_consistency(steps[-1], how)
    folder = find_model(model)
    stages = planned(steps, how)
    teacher = read_config(folder)
    check_teacher(teacher, stages[0].distilled.teacher_steps)
    if how.student_from:
        check_student(read_config(find_model(how.student_from)), teacher)
    if how.adversarial:  # used in the last stage only
        check_adversary(teacher.space.shape(teacher.size, teacher.channels), int(os.environ.get("WORLD_SIZE", "1")))
    for place in (out / stage.folder for stage in stages):
        run_output(place, overwrite=overwrite).check()
        if not resume and newest(place) is not None:
            raise ZaoziError(f"{place} already has a checkpoint; pass --resume to go on, or give another --out")
    whole = sum(stage.samples for stage in stages)
    for stage in stages:
        recipe, run = student_recipe(folder, stage, how), str(out / stage.folder)
        minutes = how.max_minutes * stage.samples / whole
        yield replace(recipe, train=replace(recipe.train, out=run, max_minutes=minutes))
        folder = find_model(run)


def distill(
    model: str, steps: Sequence[int], how: DistillConfig, out: Path, *, resume: bool = False, overwrite: bool = False
) -> bool:
    """Distill a model into the runs 8-steps, 4-steps, ... of a folder, the last perhaps
    4-steps-or-fewer; returns whether all were trained to their end.

    `resume` goes on with one that was stopped. Raises `ZaoziError` as `prepare` and `train` do.
    """
    for recipe in recipes(model, steps, how, out, resume=resume, overwrite=overwrite):
        begun = newest(Path(recipe.train.out)) is not None
        run = prepare(recipe, resume=begun, overwrite=overwrite)
        if not run.over:
            train(run)
        if run.stopping:
            return False
    return True
