"""The state of a training run: what is trained, on which devices, and its progress."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zaozi.core.errors import ZaoziError
from zaozi.core.files import flush
from zaozi.core.machine import machine, processor
from zaozi.core.outputs import Output
from zaozi.core.precision import autocast, name_of
from zaozi.core.recipe import ModelConfig, Recipe
from zaozi.data.pairs import ORDER
from zaozi.model.checkpoint import newest
from zaozi.text.encoders import TextEncoder
from zaozi.train.batches import Batch, Batches
from zaozi.train.compiling import compile_options
from zaozi.train.state import LOG, Training, save_state

if TYPE_CHECKING:
    from zaozi.train.journal import Journal

AGREE = 10
"""Steps between clock and loss checks across processes on devices, since each check makes the device wait."""


Loss = Callable[[nn.Module, Batch], Tensor]
"""The loss of a network's answers to a batch; a scalar."""


@dataclass(frozen=True)
class Workers:
    """The processes of a distributed run, including this one, and its device."""

    accelerator: Any
    threads: int
    """Number of CPU threads in this process."""
    say: Callable[[str], None]
    """Prints a line; only in the main process."""

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return self.accelerator.is_main_process

    @property
    def rank(self) -> int:
        return self.accelerator.process_index

    @property
    def world(self) -> int:
        """The number of processes."""
        return self.accelerator.num_processes

    @property
    def agree_every(self) -> int:
        return 1 if self.device.type == "cpu" else AGREE

    def first_alone(self, work: Callable[[], Any]) -> Any:
        """Run `work` first in one process per machine; the others then find its result."""
        with self.accelerator.local_main_process_first():
            return work()

    def summed(self, *values: float) -> list[float]:
        """Return each value summed over all processes, for identical decisions in all of them."""
        if self.world == 1:
            return list(values)
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        total: Tensor = self.accelerator.reduce(torch.tensor(values, device=self.device, dtype=dtype), reduction="sum")
        return total.tolist()

    def compile(self, network: nn.Module) -> None:
        """Compile a network in place. Without a compiler that works, training continues uncompiled."""
        try:
            network.compile(options=compile_options(self.device))
        except ZaoziError as error:
            self.say(f"training without torch.compile ({error})")


@dataclass
class Run:
    """A run of one recipe in one folder; created by `zaozi.train.prepare.prepare`."""

    recipe: Recipe
    config: ModelConfig
    workers: Workers
    encoder: TextEncoder
    batches: Batches
    held_out: Batches | None
    training: Training
    loss: Loss
    data: str
    """SHA-256 of the dataset."""
    output: Output
    """The run's folder, to be written."""
    seen: Path | None
    """The newest checkpoint at the time the run was prepared."""
    saved: Path | None
    """The last checkpoint that is this run's own."""
    step: int = 0
    seconds: float = 0.0
    began_with: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    unagreed: float = 0.0
    """Seconds in this process since the clocks were last synchronised."""
    rate: float = 0.0
    """Learning rate of the last step, as a share of its peak."""
    recent: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Loss and gradient norm of each step since the last log entry; scalars on the device."""
    journal: Journal | None = None
    """The log and the trackers; only in the main process, during training."""
    asked: bool = False
    """Whether this process was asked to stop."""
    stopping: bool = False
    """Whether all processes agreed to stop."""

    @property
    def out(self) -> Path:
        return Path(self.recipe.train.out)

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context in which the network computes in the recipe's precision."""
        return autocast(self.recipe.train.precision, self.workers.device)

    @property
    def progress(self) -> float:
        """Share of the run that is complete, in [0, 1]."""
        train = self.recipe.train
        by_time = self.seconds / (60 * train.max_minutes) if train.max_minutes > 0 else 0.0
        return min(by_time if self.by_clock else max(by_time, self.step / train.steps), 1.0)

    @property
    def by_clock(self) -> bool:
        """Whether only time ends the run; a distillation ends after its steps, too."""
        return self.recipe.train.max_minutes > 0 and not self.recipe.distilled.steps

    @property
    def over(self) -> bool:
        """Whether the run is finished."""
        return self.progress >= 1.0 or self.stopping

    def every(self, steps: int) -> bool:
        """Whether an action with this interval in steps (0: never) is due; always true at the end."""
        return bool(steps) and (self.step % steps == 0 or self.progress >= 1.0)

    def tick(self, spent: float) -> None:
        """Add the seconds of a step. All processes use the main process's clock, and stop together."""
        self.unagreed += spent
        if self.workers.world > 1 and self.step % self.workers.agree_every and self.progress < 1.0:
            return
        mine = self.seconds + self.unagreed if self.workers.main else 0.0
        self.seconds, stop = self.workers.summed(mine, float(self.asked))
        self.unagreed, self.stopping = 0.0, stop > 0

    def record(self, entry: dict[str, Any]) -> None:
        """Add an entry to the log (main process only)."""
        if self.journal and entry:
            self.journal.record(entry)

    def describe(self) -> None:
        """Print what is trained, on how much data, and on which device."""
        count = sum(p.numel() for p in self.training.weights)
        how = name_of(self.recipe.train.precision, self.workers.device)
        self.workers.say(
            f"{self.recipe.name}: {count / 1e6:.1f} M parameters, {len(self.batches.pairs)} pairs, "
            f"{self.workers.world} x {self.workers.device.type} in {how}, to {self.out}"
        )

    def check_finite(self) -> None:
        """Raises `ZaoziError` if a loss or a gradient since the last log entry is not finite."""
        if not self.recent or bool(torch.stack([torch.stack(pair) for pair in self.recent]).isfinite().all()):
            return
        for i, (loss, norm) in enumerate(self.recent, start=self.step - len(self.recent)):
            if loss.isfinite() and norm.isfinite():
                continue
            last = newest(self.out)
            good = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            what = f"gradient's norm is {float(norm)}" if loss.isfinite() else f"loss is {float(loss)}"
            raise ZaoziError(
                f"the {what} at step {i} (rate {self.rate * self.recipe.optim.lr:.2g}); {good}; lower the learning rates "
                "(the keys of [optim] that end in lr)"
            )

    def save(self) -> None:
        """Write a complete checkpoint of this step, unless it exists. Raises `ZaoziError` if the weights are invalid."""
        self.check_finite()
        folder = self.out / f"step-{self.step:08d}"
        if self.workers.main and self.saved != folder:
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "data": self.data,
                "machine": machine(self.workers.device.type, self.workers.world),
                "threads": self.workers.threads,
                "processor": processor(),
                "order": ORDER,
                "began_with": self.began_with,
                "history": self.history,
            }
            save_state(folder, self.training, self.recipe, **state)
            for path in (self.out / LOG, *self.out.glob("tensorboard/*")):
                if path.is_file():
                    flush(path)
        self.saved = folder
        self.workers.accelerator.wait_for_everyone()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle Ctrl-C and termination signals (main thread only, if available); a second signal stops immediately."""
        former: Sequence[tuple[int, Any]] = ()
        if threading.current_thread() is threading.main_thread():
            former = [(n, signal.signal(n, self._ask_to_stop)) for n in (signal.SIGINT, signal.SIGTERM)]
        try:
            yield
        finally:
            for number, handler in former:
                signal.signal(number, handler)

    def _ask_to_stop(self, number: int, *_: Any) -> None:
        self.asked = True
        signal.signal(number, signal.default_int_handler)

    def newest(self) -> Path:
        """Return the last checkpoint, or the folder if there is none."""
        return newest(self.out) or self.out
