"""Logging of a run: log.jsonl, and the trackers in the recipe."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import numpy as np
from PIL import Image

from zaozi.core.errors import ZaoziError
from zaozi.core.outputs import Writer
from zaozi.data.sheet import png
from zaozi.train.run import Run
from zaozi.train.state import open_log


class Journal:
    """The open log of a run, and its trackers (TensorBoard, Weights & Biases, Trackio) through accelerate."""

    def __init__(self, writer: Writer, log: TextIO, accelerator: Any) -> None:
        self.writer, self.log, self.accelerator = writer, log, accelerator

    def record(self, entry: dict[str, Any]) -> None:
        """Add an entry; trackers receive its float values."""
        self.log.write(json.dumps(entry) + "\n")
        numbers = {key: value for key, value in entry.items() if isinstance(value, float)}
        self.accelerator.log(numbers, step=entry["step"])

    def picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Save the picture of a step as name-00000000.png, and send it to the trackers that support pictures."""
        self.writer.put(f"{name}-{step:08d}.png", png(picture))
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({name: np.asarray(picture)[None]}, step=step, dataformats="NHWC")
            elif hasattr(tracker, "log_images"):
                tracker.log_images({name: [picture]}, step=step)


@contextmanager
def opened(writer: Writer, run: Run) -> Iterator[Journal]:
    """Open the journal of a run that continues from its step; later log entries are dropped."""
    from accelerate.tracking import TensorBoardTracker

    accelerator, log = run.workers.accelerator, open_log(writer, run.step)
    board = TensorBoardTracker("tensorboard", str(run.out), purge_step=run.step)
    accelerator.log_with = [board if name == "tensorboard" else name for name in run.recipe.train.trackers]
    started = False
    try:
        accelerator.init_trackers("zaozi", init_kwargs={"wandb": {"name": run.recipe.name}})
        started = True
        yield Journal(writer, log, accelerator)
    finally:
        log.close()
        for tracker in (
            accelerator.trackers if started else ()
        ):  # others have nothing to finish, and would hide the error
            tracker.finish()
        accelerator.trackers = []


def check_trackers(names: Sequence[str]) -> None:
    """Raises `ZaoziError` if the package of a tracker is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ZaoziError(f"train.trackers names {name}, which is not installed; run: pip install {name}")
