"""zaozi, trained as the recipe `base` trains, and drawing as `zaozi generate` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import zaozi
from benchmarks.contestant import CALLS, Contestant, Cost, How, Setup, cost_of
from zaozi import TextToImage
from zaozi.core.machine import using_matmul_precision
from zaozi.core.precision import name_of
from zaozi.core.sampling import Guidance, Sampling
from zaozi.data.glyphs import build_glyphs
from zaozi.train.batches import Batch
from zaozi.train.prepare import prepare
from zaozi.train.recipes import read_recipe
from zaozi.train.run import Run
from zaozi.train.step import some_rows, to_device
from zaozi.train.update import optimiser_step

RECIPE = Path(__file__).parents[1] / "recipes" / "base.toml"
GLYPHS, PREFETCHED = 256, 8
"""Glyphs in the dataset, which does not affect the speed, and batches prepared in advance."""
PROMPTS = ("gold", "a small song bird", "fish", "clear water")


def prepared(data: Path, out: Path, batch: int, *, device: str, compiled: bool, say: Callable[[str], None]) -> Run:
    """Return a run of the recipe `base` in the folder `out`, on a few glyphs that are kept in `data`."""
    if not data.is_dir():
        build_glyphs(data, limit=GLYPHS)
    recipe = read_recipe(RECIPE)
    train = replace(
        recipe.train,
        out=str(out / ("compiled" if compiled else "plain")),
        batch_size=batch,
        compile=compiled,
        device="cpu" if device == "cpu" else "auto",
        trackers=(),
    )
    return prepare(replace(recipe, data=replace(recipe.data, path=str(data)), train=train), say=say)


def prefetched(run: Run) -> tuple[Sequence[Batch], Sequence[Tensor]]:
    """Return batches of the run on its device, and their glyphs at 128x128. All texts have the same shape, as when compiled."""
    batches, device = run.batches, run.workers.device
    batches.multiple = run.recipe.text.max_tokens
    size = run.recipe.train.batch_size
    rows = [batches.order.rows(n * size, size) for n in range(PREFETCHED)]
    return (
        [to_device(batches.at(n), device) for n in range(PREFETCHED)],
        [batches.pairs.batch(some).to(device) for some in rows],
    )


def cost(run: Run, batch: Batch) -> Cost:
    """Return what a call of the network costs."""
    one, network = some_rows(batch, slice(0, 1)), run.training.model.network
    share = one.level.noise_share(1, one.x0.device)
    return cost_of(network, one.x0.shape[-1], lambda: type(network).forward(network, one.x0, share, one.cond))


def contestant(run: Run, setup: Setup, model: TextToImage) -> Contestant:
    """Return zaozi, trained by the run and drawing with `model`."""
    workers, compiled = run.workers, run.recipe.train.compile

    def update(number: int) -> float:
        batch = setup.batches[number % len(setup.batches)]
        batch = replace(batch, eps=torch.randn_like(batch.x0))  # the peers draw their noise in the step, too
        with using_matmul_precision("high") if workers.device.type == "cuda" else nullcontext():
            run.recent.append(optimiser_step(run, batch))
        run.step += 1
        if run.step % workers.agree_every == 0:
            run.check_finite()
            run.recent.clear()
        return len(batch.x0)

    def draw(how: How) -> float:
        prompts = [PROMPTS[i % len(PROMPTS)] for i in range(setup.draws)]
        sampling = Sampling(batch_size=setup.draws)
        if how == "equal":
            sampling = replace(sampling, steps=CALLS, guidance=Guidance(1.0))
        return sum(1 for _ in model.pictures(prompts, sampling))

    usual = Sampling()
    return Contestant(
        name="zaozi, compiled" if compiled else "zaozi",
        version=zaozi.__version__,
        precision=name_of(run.recipe.train.precision, workers.device),
        network=model.model.network,
        cost=cost(run, setup.batches[0]),
        batch=run.recipe.train.batch_size,
        update=update,
        draw=None if compiled else draw,
        compiled=compiled,
        sampler=(
            f"{usual.sampler}, {usual.steps} steps, guidance {usual.guidance.scale:g}",
            f"{usual.sampler}, {CALLS} steps",
        ),
    )
