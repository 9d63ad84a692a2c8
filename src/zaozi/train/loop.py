"""The training loop: batches in, checkpoints out. Interrupted and resumed runs give the same bits.

This holds for uncompiled runs with a step count on the CPU, with the same number of threads, processor and version of
PyTorch; otherwise sums are rounded in a different order. A checkpoint records these values, and a resumed run uses the same
number of threads or warns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from zaozi.core import schema
from zaozi.core.errors import ZaoziError
from zaozi.core.files import as_json
from zaozi.core.machine import using_matmul_precision, using_threads
from zaozi.core.outputs import Writer
from zaozi.model.checkpoint import newest
from zaozi.train.callbacks import Callback, usual
from zaozi.train.clock import Clock
from zaozi.train.journal import opened
from zaozi.train.prefetch import prefetched
from zaozi.train.run import Run
from zaozi.train.state import RECIPE
from zaozi.train.step import self_check
from zaozi.train.update import optimiser_step


def train(run: Run, callbacks: Sequence[Callback] | None = None) -> Path:
    """Train a run to its end (or to Ctrl-C) with `callbacks` (default: `usual`), and return the last checkpoint.

    Raises `ZaoziError` if another process is training in the folder, or the loss is not finite.
    """
    workers, callbacks = run.workers, usual() if callbacks is None else callbacks
    with ExitStack() as stack:
        stack.enter_context(using_threads(workers.threads))
        if workers.device.type == "cuda":
            stack.enter_context(using_matmul_precision("high"))
        writer = _begin(run, stack)
        with ExitStack() as watching:
            if writer is not None:
                run.journal = watching.enter_context(opened(writer, run))
            ours = {"rank": workers.rank, "world": workers.world}
            batches = watching.enter_context(prefetched(run.batches, run.step, workers.device, **ours))
            watching.enter_context(run.listening())
            clock = watching.enter_context(Clock().listening())
            run.tick(0.0)  # synchronise with the main process's clock
            for callback in callbacks:
                callback.begin(run)
                watching.callback(callback.end, run)
            while not run.over:
                run.recent.append(optimiser_step(run, next(batches)))
                run.step += 1
                run.tick(clock.tick())
                if run.step % workers.agree_every == 0 or run.over:
                    run.check_finite()
                for callback in callbacks:
                    callback.after_step(run)
        run.journal = None
        run.save()
    if run.stopping:
        workers.say(f"stopped at step {run.step}; go on with the same command and --resume")
    else:
        samples = run.step * run.recipe.train.batch_size
        workers.say(
            f"trained {run.step} steps, {samples} samples in {run.seconds / 60:.1f} min; draw with: {_drawing(run)}"
        )
    return run.newest()


def _drawing(run: Run) -> str:
    """Return the command that draws with what was trained."""
    prompt = next(iter(run.recipe.train.prompts), "gold")
    if run.recipe.stage.factor == 1:
        return f'zaozi generate "{prompt}" --model {run.out}'
    return f'zaozi generate "{prompt}" --size {run.config.size} --stage {run.out} --model SMALLER_MODEL'


def _begin(run: Run, stack: ExitStack) -> Writer | None:
    """Open the run's files (main process only) until `stack` closes, and check that the recipe can learn."""
    if not run.workers.main:
        return None
    writer = stack.enter_context(run.output.open())
    if newest(run.out) != run.seen:
        raise ZaoziError(f"another process has trained in {run.out} meanwhile; pass --resume to go on")
    if RECIPE in writer.output.names:
        writer.put(RECIPE, as_json(schema.written(run.recipe)))
    run.describe()
    if run.recipe.train.self_check and run.step == 0:
        with Clock().listening() as clock:
            passed, before, after = self_check(run.config, run.batches)
            run.seconds += clock.tick()
        run.workers.say(f"self-check: {'pass' if passed else 'FAIL'} (eight pairs: loss {before:.3f} -> {after:.3f})")
        if not passed:
            raise ZaoziError("the self-check could not learn eight pairs; try another network, prediction or weight")
    return writer
