"""Prepare a run from a recipe: data, text cache, space, model, optimisers, and the resumed state."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zaozi.core.disk import need_space
from zaozi.core.errors import ZaoziError
from zaozi.core.files import home, sha256
from zaozi.core.machine import usable_cores, using_threads
from zaozi.core.noise import lent_generator
from zaozi.core.outputs import Output
from zaozi.core.precision import autocast, for_convolutions
from zaozi.core.progress import progress
from zaozi.core.recipe import ModelConfig, Recipe, TrainConfig
from zaozi.core.record import read_record
from zaozi.data.latents import encoded
from zaozi.data.pairs import Pairs, find_dataset, load_pairs, same_order
from zaozi.data.shards import data_hash, read_manifest
from zaozi.model.checkpoint import WEIGHTS, fill, find_model, load_model, local_model, newest, newest_sound, read_config
from zaozi.model.denoiser import make_denoiser
from zaozi.model.fitted import read_space
from zaozi.model.release import history
from zaozi.model.space import Space
from zaozi.model.stage import check_stage
from zaozi.text.cache import cached
from zaozi.text.captions import caption_report
from zaozi.text.encoders import load_encoder
from zaozi.train.batches import Batches, hints
from zaozi.train.callbacks import SAY_SECONDS
from zaozi.train.clock import Clock
from zaozi.train.distill import Distillation, adversary_of, check_student, teacher_of
from zaozi.train.journal import check_trackers
from zaozi.train.redraw import redrawn
from zaozi.train.resident import on_device
from zaozi.train.run import Loss, Run, Workers
from zaozi.train.state import (
    KEEP,
    Training,
    filled,
    load_state,
    read_state,
    run_output,
    start_from,
    threads_of,
    with_scales_of,
)
from zaozi.train.step import loss_of

CPU = torch.device("cpu")


def prepare(
    recipe: Recipe, *, resume: bool = False, overwrite: bool = False, say: Callable[[str], None] = print
) -> Run:
    """Return a run of a recipe, ready for `zaozi.train.loop.train`; `resume=True` continues from the last checkpoint.

    A run resumed on the CPU uses the same number of threads as before, if this process may use that many. It warns if the
    number of threads, the processor or PyTorch differs: the weights then differ in their last bits from those of an
    uninterrupted run. PyTorch's own number of threads is not changed.

    Raises `ZaoziError` if the recipe, the data or the folder do not allow it.
    """
    train = recipe.train
    workers = _workers(train, say)
    out = Path(train.out)
    seen = newest(out)
    last = newest_sound(out) if resume else seen
    if resume and last is None:
        raise ZaoziError(f"{out} has no checkpoint to resume; start without --resume")
    if not resume and last is not None:
        raise ZaoziError(f"{out} already has {last.name}; pass --resume to go on, or give another --out")
    adopted = resume and not read_record(out)  # a run of an older version without a record
    output = run_output(out, overwrite=overwrite or adopted)
    if workers.main:
        output.check()
    state = read_state(last) if resume and last is not None else None
    if state is not None and workers.device.type == "cpu":
        threads, differs = threads_of(state, workers.threads)
        workers = replace(workers, threads=threads)
        if differs and workers.main:
            warnings.warn(f"{last} was trained {differs}; its last bits may come out differently", stacklevel=2)
    with using_threads(workers.threads):
        return _ready(recipe, workers, output, seen, last, state)


def _workers(train: TrainConfig, say: Callable[[str], None]) -> Workers:
    """Return the processes of the run. Raises `ZaoziError` if the batch cannot be divided among them."""
    from accelerate import Accelerator

    check_trackers(train.trackers)
    on_cpu = train.device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    with using_threads(torch.get_num_threads()):
        accelerator = Accelerator(cpu=on_cpu)  # explicit, or several CPU processes are taken for single ones
        threads = min(torch.get_num_threads(), usable_cores())
    parts = accelerator.num_processes * train.accumulate
    if train.batch_size % parts:
        raise ZaoziError(
            f"train.batch_size {train.batch_size} does not divide among {accelerator.num_processes} processes times "
            f"{train.accumulate} accumulations; use a multiple of {parts}"
        )
    return Workers(accelerator, threads, say if accelerator.is_main_process else (lambda _: None))


def _ready(
    recipe: Recipe,
    workers: Workers,
    output: Output,
    seen: Path | None,
    last: Path | None,
    state: dict[str, Any] | None,
) -> Run:
    """Build everything that training needs, restoring `state` from the checkpoint `last`."""
    train, say = recipe.train, workers.say
    data = workers.first_alone(lambda: find_dataset(recipe.data))
    manifest, digest = read_manifest(data), data_hash(data)
    pairs, held_out = workers.first_alone(lambda: (load_pairs(data, "train"), load_pairs(data, "validation")))
    if not len(pairs):
        raise ZaoziError(f"{data} has no training pair; build it from more pictures")
    encoder = load_encoder(recipe.text.encoder, recipe.text.max_tokens, base=_owner(recipe))
    recipe = replace(recipe, text=replace(recipe.text, encoder=encoder.name))  # the full path, if a folder
    recipe = replace(filled(recipe, pairs.column, encoder.width), space=recipe.space.filled())
    where = find_model(train.init_from) if train.init_from and state is None else None
    teacher = teacher_of(recipe, state)
    if teacher is not None:
        recipe = replace(recipe, properties=teacher.config.properties)
    elif state is not None:
        recipe = with_scales_of(recipe, state["recipe"].properties)
    elif where is not None:
        recipe = with_scales_of(recipe, read_config(where).properties)
    config = ModelConfig(
        name=recipe.name,
        size=manifest["size"],
        channels=manifest["channels"],
        network=recipe.network,
        space=recipe.space,
        diffusion=recipe.diffusion,
        text=recipe.text,
        properties=recipe.properties,
        stage=recipe.stage,
        distilled=recipe.distilled,
    )
    check_stage(config)
    if teacher is not None:
        check_student(config, teacher.config)
    elif train.student_from:
        raise ZaoziError("train.student_from is for distillation; use train.init_from, or zaozi distill MODEL")
    captions = [*pairs.texts, *held_out.texts]
    if workers.main and state is None:
        for line in caption_report(encoder, captions).lines():
            say(line)
    if train.hint_rate > 0:
        captions += [hint for some in hints(pairs) for hint in some]
    texts = workers.first_alone(lambda: cached(encoder, captions, home() / "text"))

    model = make_denoiser(config, seed=train.seed)
    space = model.space.requires_grad_(False)
    seconds, began_with, earlier = 0.0, "", list[dict[str, Any]]()
    fitted = state is not None
    if where is not None:
        start = find_model(train.student_from) if train.student_from else where
        fitted = start_from(model, load_model(start), start, say)
        began_with, earlier = sha256(where / WEIGHTS), history(where)
    if train.drawn_by and state is None and (fitted or train.space_from):
        raise ZaoziError("train.drawn_by is used when a space is fitted, and this run has one; remove it")
    if train.space_from and state is None:
        fill(space, read_space(train.space_from, recipe.space)[1], Path(train.space_from))
    elif not fitted:
        seconds = fit_space(space, pairs, recipe, workers)
    average = copy.deepcopy(model).eval().requires_grad_(False).to(workers.device)
    model.to(workers.device).train()
    if workers.device.type == "cuda":
        model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adversary = adversary_of(recipe, model.shape, workers.device, workers.world)
    optimisers = recipe.optim.build(model.network)
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]  # the peak
    training = Training(model, average, model.network, optimisers, adversary)
    if workers.main:  # weights, EMA and two moments in float32
        weights = sum(p.numel() for p in model.network.parameters())
        need_space(Path(train.out), (KEEP + 1) * 16 * weights, "keeping checkpoints")
    step = 0
    if state is not None and last is not None:
        load_state(last, state, training, recipe, digest)
        step, seconds = state["step"], state["seconds"]
        began_with, earlier = state.get("began_with", ""), state.get("history", [])
        say(f"resuming {last}")
        if workers.main and not same_order(state.get("order", 1), len(pairs)):
            warnings.warn(f"{last} saw its pairs in an older version's order; from here on it is new", stacklevel=4)
    space.cpu()  # batches are encoded on the CPU
    latents = None
    if space.cacheable and not train.shift:
        latents = workers.first_alone(lambda: encoded(pairs, space, digest))
    batches = on_device(Batches(recipe, pairs, texts, model.schedule, space, latents), workers.device)
    how = recipe.diffusion
    loss: Loss = partial(loss_of, prediction=how.prediction, weight=how.weight)
    if teacher is not None:
        loss = Distillation(teacher, recipe.distilled, workers.device, adversary)
    if train.compile:
        for network in (model.network, *([teacher.network] if teacher is not None else [])):
            workers.compile(network)
    return Run(
        recipe=recipe,
        config=config,
        workers=workers,
        encoder=encoder,
        batches=batches,
        held_out=Batches(recipe, held_out, texts, model.schedule, space) if len(held_out) else None,
        training=replace(training, network=workers.accelerator.prepare_model(model.network)),
        loss=loss,
        data=digest,
        output=output,
        seen=seen,
        saved=last,
        step=step,
        seconds=seconds,
        began_with=began_with,
        history=earlier,
    )


def _owner(recipe: Recipe) -> Path | None:
    """Return the model to start from, if the text encoder is a folder inside its folder, named as in its config.json."""
    name, start = recipe.text.encoder, recipe.train.init_from
    _, _, where = name.partition(":")
    folder = local_model(start) if start and where and not Path(where).is_absolute() else None
    return folder if folder is not None and read_config(folder).text.encoder == name else None


def fit_space(space: Space, pairs: Pairs, recipe: Recipe, workers: Workers) -> float:
    """Fit the space to the data. Returns the seconds taken, which count as time of the run. Raises `ZaoziError` if
    `train.drawn_by` does not suit it.
    """
    train, drawn, spent, said = recipe.train, None, 0.0, 0.0
    if train.drawn_by:
        if not space.learns_from_drawn:
            raise ZaoziError(
                f"the space '{recipe.space.kind}' does not learn from drawn pictures; remove train.drawn_by"
            )
        with Clock().listening() as clock:
            drawn = redrawn(train.drawn_by, recipe, pairs, device=str(workers.device), shown=workers.main)
            spent = clock.tick()
    bar = progress(total=space.fit_steps, desc="space", unit="step", shown=workers.main and space.fit_steps > 0)

    def watch(step: int, error: float) -> None:
        nonlocal spent, said
        spent += clock.tick()
        bar.update()
        if bar.disable and spent >= said + SAY_SECONDS:
            said = spent
            workers.say(f"space: step {step + 1} of {space.fit_steps}, error {error:.4f}")

    precision = for_convolutions(train.precision, CPU)
    with bar, Clock().listening() as clock, autocast(precision, CPU, cache=False):
        line = space.fit(pairs, seed=train.seed, drawn=drawn, watch=watch)
    if line:
        workers.say(line)
    return spent


def fitted_space(recipe: Recipe) -> tuple[Space, Pairs, float]:
    """Fit the space of a recipe alone. Returns it, the held-out pairs, and the seconds taken. Raises `ZaoziError`."""
    workers = _workers(recipe.train, print)
    data = find_dataset(recipe.data)
    pairs, held_out = load_pairs(data, "train"), load_pairs(data, "validation")
    if not len(pairs):
        raise ZaoziError(f"{data} has no training pair; build it from more pictures")
    manifest = read_manifest(data)
    recipe.space.shape(manifest["size"], manifest["channels"])  # raises if they do not fit
    with lent_generator(recipe.train.seed):
        space: Space = recipe.space.build(manifest["channels"])
    return space, held_out, fit_space(space, pairs, recipe, workers)
