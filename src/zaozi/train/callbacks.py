"""Callbacks: hooks that run when training begins, after every step, and when it ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from zaozi.core.noise import training_generator
from zaozi.core.progress import progress
from zaozi.core.sampling import Sampling
from zaozi.data.sheet import contact_sheet
from zaozi.pipeline import draw, enlarge, to_pictures
from zaozi.train.run import Run
from zaozi.train.validation import x0_error

SAY_SECONDS = 60.0
"""Seconds between progress lines if the output is not a terminal."""
LOG_EVERY = 20
VALIDATION_PAIRS = 128


class Callback:
    """Observes a run without changing the weights. Its methods are called in every process."""

    def begin(self, run: Run) -> None:
        """Called before the first step."""

    def after_step(self, run: Run) -> None:
        """Called after each step."""

    def end(self, run: Run) -> None:
        """Called after the last step, or when training is interrupted."""


class Log(Callback):
    """Show a progress bar (or periodic lines), and write a log entry every 20 steps."""

    def begin(self, run: Run) -> None:
        train = run.recipe.train
        self.by_clock = run.by_clock
        self.total = round(60 * train.max_minutes) if self.by_clock else train.steps
        self.bar: Any = progress(
            total=self.total,
            initial=round(run.seconds) if self.by_clock else run.step,
            shown=run.workers.main,
            desc=run.recipe.name,
            unit="s" if self.by_clock else "step",
            mininterval=1.0,
        )
        self.said, self.since = time.monotonic(), run.seconds
        self.began, self.step = (self.since, run.progress), run.step

    def after_step(self, run: Run) -> None:
        self.bar.update((min(round(run.seconds), self.total) - self.bar.n) if self.by_clock else 1)
        if run.step % LOG_EVERY and not run.over:
            return
        count, spent = run.step - self.step, run.seconds + run.unagreed  # without the time while stopped
        batch = run.recipe.train.batch_size
        loss = sum(float(one) for one, _ in run.recent)
        loss = run.workers.summed(loss / run.workers.world)[0] / count
        speed = count * batch / max(spent - self.since, 1e-9)
        entry = {
            "step": run.step,
            "samples": run.step * batch,
            "loss": loss,
            "rate": run.rate,
            "samples_per_s": round(speed, 1),
            "seconds": round(run.seconds, 1),
        }
        self.bar.set_postfix(loss=f"{loss:.4f}", samples_s=f"{speed:.0f}")
        run.record(entry)
        if self.bar.disable and (now := time.monotonic()) - self.said > SAY_SECONDS:
            self.said, at = now, run.progress
            left = (spent - self.began[0]) * (1.0 - at) / max(at - self.began[1], 1e-9)
            run.workers.say(f"step {run.step}, loss {loss:.4f}, {speed:.0f} samples/s, {left / 60:.0f} min left")
        run.recent.clear()
        self.since, self.step = spent, run.step

    def end(self, run: Run) -> None:
        self.bar.close()


class Validate(Callback):
    """Measure the averaged model's x0 error on held-out pairs at twenty fixed levels, and its mean; conditioned on text only."""

    def after_step(self, run: Run) -> None:
        if run.every(run.recipe.train.validate_every):
            run.record(validate(run))


class SampleGrid(Callback):
    """Draw fixed prompts from fixed noise with the averaged model; for a super-resolution stage, enlarge held-out pictures."""

    def after_step(self, run: Run) -> None:
        train, journal = run.recipe.train, run.journal
        if journal is None or not run.every(train.sample_every):
            return
        if run.recipe.stage.factor > 1:
            journal.picture("samples", enlargements(run), run.step)
            return
        prompts, count = train.prompts, 8
        cond = run.encoder.encode(prompts).take(torch.arange(len(prompts)).repeat_interleave(count))
        with run.autocast():
            how = run.config.distilled.usual(Sampling(16))
            x = draw(run.training.average, cond, how, pictures=list(range(count)) * len(prompts))
        made = to_pictures(x)
        sheet = contact_sheet([made[i * count : (i + 1) * count] for i in range(len(prompts))], prompts, tile=96)
        journal.picture("samples", sheet, run.step)


def enlargements(run: Run) -> Image.Image:
    """Return a sheet of held-out pictures (of training pictures, if there are none): smaller, enlarged, and real."""
    batches, factor = run.held_out or run.batches, run.recipe.stage.factor
    rows = batches.pairs.some(8)
    real = batches.pairs.batch(rows)
    small = F.avg_pool2d(real, factor)
    nothing = run.encoder.encode([""] * len(rows))
    with run.autocast():
        drawn = enlarge(run.training.average, small, nothing, Sampling(), pictures=range(len(rows)), number=1)
    lines = [F.interpolate(small, scale_factor=factor), drawn, real]
    return contact_sheet([to_pictures(line) for line in lines], ["smaller", "enlarged", "real"], tile=128)


class Checkpoint(Callback):
    """Write a checkpoint every given number of minutes or steps."""

    def begin(self, run: Run) -> None:
        self.saved = time.monotonic()

    def after_step(self, run: Run) -> None:
        train, workers = run.recipe.train, run.workers
        due = bool(train.save_every) and run.step % train.save_every == 0
        if train.save_minutes and run.step % workers.agree_every == 0:
            late = workers.main and time.monotonic() - self.saved > 60 * train.save_minutes
            due = due or workers.summed(float(late))[0] > 0
        if due:
            run.save()
            self.saved = time.monotonic()


def usual() -> Sequence[Callback]:
    """Return the default callbacks."""
    return [Log(), Validate(), SampleGrid(), Checkpoint()]


def validate(run: Run) -> dict[str, Any]:
    """Return the log entry of a validation; empty if there are no held-out pairs."""
    if run.held_out is None:
        return {}
    rows = run.held_out.pairs.some(VALIDATION_PAIRS)
    x0 = run.held_out.space.encode(run.held_out.pairs.batch(rows))
    cond = replace(run.held_out.cond(rows), properties={})
    cond = run.held_out.with_lower(cond, x0, training_generator(0, 0, 0, 6))
    with run.autocast():
        errors = x0_error(run.training.average, x0, cond)
    mean = sum(errors) / len(errors)
    run.workers.say(f"step {run.step}: validation x0 error {mean:.5f}")
    return {"step": run.step, "validation": mean, "validation_levels": [round(e, 6) for e in errors]}
