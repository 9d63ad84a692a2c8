"""The training loop: batches in, checkpoints out, and the same bits whether it was interrupted or not.

That holds for runs that count steps, on the CPU and not compiled, with the same number of threads on the same processor and
version of PyTorch: sums are rounded in another order elsewhere. A checkpoint says which these were, and a resumed run computes
with as many threads or warns.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zaozi.core import schema
from zaozi.core.disk import need_space
from zaozi.core.errors import ZaoziError
from zaozi.core.files import as_json, flush, home, sha256
from zaozi.core.machine import machine, processor, usable_cores, using_matmul_precision, using_threads
from zaozi.core.noise import lent_generator
from zaozi.core.outputs import Writer
from zaozi.core.progress import progress
from zaozi.core.recipe import ModelConfig, Recipe
from zaozi.core.record import read_record
from zaozi.core.sampling import Sampling
from zaozi.data.pairs import ORDER, find_dataset, load_pairs, same_order
from zaozi.data.shards import data_hash, read_manifest
from zaozi.data.sheet import contact_sheet, png
from zaozi.model.checkpoint import WEIGHTS, find_model, load_model, newest, newest_sound, read_config
from zaozi.model.denoiser import make_denoiser
from zaozi.model.release import history
from zaozi.model.space import Space
from zaozi.pipeline import draw, to_pictures
from zaozi.text.cache import cached
from zaozi.text.captions import caption_report
from zaozi.text.encoders import load_encoder
from zaozi.train.batches import Batches, hints
from zaozi.train.clock import Clock
from zaozi.train.optim import ema_decay, ema_update, rate
from zaozi.train.state import (
    KEEP,
    LOG,
    RECIPE,
    filled,
    load_state,
    open_log,
    read_state,
    run_output,
    save_state,
    start_from,
    threads_of,
    with_scales_of,
)
from zaozi.train.step import loss_of, precision, self_check, some_rows, to_device
from zaozi.train.validation import x0_error

SAY_SECONDS = 60.0
"""How often a run whose output is no terminal writes a line of its progress."""

VALIDATION_PAIRS = 128
CPU = torch.device("cpu")


class Trainer:
    """A run of one recipe in one folder. `run()` trains to the end; `resume=True` goes on from the last checkpoint.

    On the CPU a resumed run computes with as many threads as before, as long as this process may use so many, and warns where
    the number of threads, the processor or PyTorch is another: its weights then differ in their last bits from those of the
    uninterrupted run. PyTorch's own number of threads is left as it was.

    Raises `ZaoziError` where the recipe, the data or the folder do not allow it.
    """

    def __init__(
        self, recipe: Recipe, *, resume: bool = False, overwrite: bool = False, say: Callable[[str], None] = print
    ) -> None:
        from accelerate import Accelerator

        train = recipe.train
        self.out = Path(train.out)
        on_cpu = train.device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
        with using_threads(torch.get_num_threads()):
            self.accelerator = Accelerator(
                cpu=on_cpu
            )  # said outright, or it takes several CPU processes for single ones
            self.threads = min(torch.get_num_threads(), usable_cores())
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        self.world = self.accelerator.num_processes
        self.say: Callable[[str], None] = say if self.main else (lambda _: None)
        if train.batch_size % (self.world * train.accumulate):
            raise ZaoziError(
                f"train.batch_size {train.batch_size} does not divide among {self.world} processes times "
                f"{train.accumulate} accumulations; use a multiple of {self.world * train.accumulate}"
            )
        self.seen = newest(self.out)
        last = newest_sound(self.out) if resume else self.seen
        if resume and last is None:
            raise ZaoziError(f"{self.out} has no checkpoint to resume; start without --resume")
        if not resume and last is not None:
            raise ZaoziError(f"{self.out} already has {last.name}; pass --resume to go on, or give another --out")
        self.saved = last
        adopted = resume and not read_record(self.out)  # a run of an older version, which kept no record
        self.output = run_output(self.out, overwrite=overwrite or adopted)
        if self.main:
            self.output.check()
        state = read_state(last) if resume and last is not None else None
        if state is not None and on_cpu:
            self.threads, differs = threads_of(state, self.threads)
            if differs and self.main:
                warnings.warn(f"{last} was trained {differs}; its last bits may come out differently", stacklevel=2)
        with using_threads(self.threads):
            self._prepare(recipe, last, state)

    def _prepare(self, recipe: Recipe, last: Path | None, state: dict[str, Any] | None) -> None:
        """Everything that training needs, from the data to the optimisers; as `state` of the checkpoint `last` has it."""
        train = recipe.train
        data = self._first_alone(lambda: find_dataset(recipe.data))
        manifest, self.data = read_manifest(data), data_hash(data)
        pairs, held_out = self._first_alone(lambda: (load_pairs(data, "train"), load_pairs(data, "validation")))
        if not len(pairs):
            raise ZaoziError(f"{data} has no training pair; build it from more pictures")
        self.encoder = load_encoder(recipe.text.encoder, recipe.text.max_tokens)
        recipe = replace(recipe, text=replace(recipe.text, encoder=self.encoder.name))  # a folder, by its whole path
        recipe = filled(recipe, pairs.column, self.encoder.width)
        where = find_model(train.init_from) if train.init_from and state is None else None
        if state is not None:
            recipe = with_scales_of(recipe, state["recipe"].properties)
        elif where is not None:
            recipe = with_scales_of(recipe, read_config(where).properties)
        self.recipe = recipe
        self.config = ModelConfig(
            name=recipe.name,
            size=manifest["size"],
            channels=manifest["channels"],
            network=recipe.network,
            space=recipe.space,
            diffusion=recipe.diffusion,
            text=recipe.text,
            properties=recipe.properties,
        )
        captions = [*pairs.texts, *held_out.texts]
        if self.main and state is None:
            for line in caption_report(self.encoder, captions).lines():
                self.say(line)
        if train.hint_rate > 0:
            captions += [hint for some in hints(pairs) for hint in some]
        texts = self._first_alone(lambda: cached(self.encoder, captions, home() / "text"))

        self.model = make_denoiser(self.config, seed=train.seed)
        space = self.model.space
        self.batches = Batches(recipe, pairs, texts, self.model.schedule, space)
        self.held_out = Batches(recipe, held_out, texts, self.model.schedule, space) if len(held_out) else None
        self.dtype = precision(train.precision, self.device)
        self.step, self.seconds = 0, 0.0
        self.began_with, self.history = "", list[dict[str, Any]]()
        self.asked = False  # this process was asked to stop
        self.stopping = False  # all processes agreed to
        space.requires_grad_(False)
        if where is not None:
            start_from(self.model, load_model(where), where, self.say)
            self.began_with, self.history = sha256(where / WEIGHTS), history(where)
        elif state is None:
            self._fit_space(space)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False).to(self.device)
        self.model.to(self.device).train()
        if self.device.type == "cuda":
            self.model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimisers = recipe.optim.build(self.model.network)
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["initial_lr"] = group["lr"]  # the peak
        if self.main:  # weights, their average and two moments, in single precision
            weights = sum(p.numel() for p in self.model.network.parameters())
            need_space(self.out, (KEEP + 1) * 16 * weights, "keeping checkpoints")
        if state is not None and last is not None:
            load_state(last, state, self.model, self.average, self.optimisers, recipe, self.data)
            self.step, self.seconds = state["step"], state["seconds"]
            self.began_with, self.history = state.get("began_with", ""), state.get("history", [])
            self.say(f"resuming {last}")
            if self.main and not same_order(state.get("order", 1), len(pairs)):
                warnings.warn(f"{last} saw its pairs in an older version's order; from here on it is new", stacklevel=3)
        space.cpu()  # batches are encoded where they are made
        if train.compile and self._can_compile():
            self.model.network.compile()
        self.network = self.accelerator.prepare_model(self.model.network)

    # -- one step ---------------------------------------------------------------------------------------------------

    def _progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        train = self.recipe.train
        done = self.seconds / (60 * train.max_minutes) if train.max_minutes > 0 else self.step / train.steps
        return min(done, 1.0)

    def _one_step(self) -> tuple[float, float]:
        """One optimiser step; returns the loss (averaged over processes) and the rate's share of its peak."""
        recipe, accelerator = self.recipe, self.accelerator
        share = rate(recipe.optim, self.step, self._progress())
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = share * group["initial_lr"]
        batch = to_device(self.batches.at(self.step, accelerator.process_index, self.world), self.device)
        parts = recipe.train.accumulate
        size = len(batch.x0) // parts
        total = 0.0
        with self._private_dropout():
            for i in range(parts):
                some = some_rows(batch, slice(i * size, (i + 1) * size)) if parts > 1 else batch
                with accelerator.no_sync(self.network) if i + 1 < parts else torch.enable_grad():
                    with self._autocast():
                        loss = loss_of(self.network, some, recipe.diffusion.prediction, recipe.diffusion.weight)
                    (loss / parts).backward()
                total += float(loss.detach()) / parts
        total = self._sum_over_processes(total / self.world)[0]
        weights = list(self.model.network.parameters())
        norm = float(nn.utils.clip_grad_norm_(weights, recipe.optim.clip))
        if not (math.isfinite(total) and math.isfinite(norm)):
            last = newest(self.out)
            good = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            what = f"loss is {total}" if not math.isfinite(total) else f"gradient's norm is {norm}"
            raise ZaoziError(
                f"the {what} at step {self.step} (rate {share * recipe.optim.lr:.2g}); {good}; "
                "lower optim.lr or optim.muon_lr"
            )
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        ema_update(list(self.average.network.parameters()), weights, ema_decay(recipe.train.ema, self.step))
        self.step += 1
        return total, share

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _private_dropout(self) -> AbstractContextManager[None]:
        """Dropout has no generator of its own: lend it the global one, seeded by the step."""
        key = (self.recipe.train.seed, self.step, self.accelerator.process_index, 1)
        return lent_generator(*key) if self.recipe.network.is_random else nullcontext()

    def _sum_over_processes(self, *values: float) -> list[float]:
        """Each value summed over all processes, so that all decide alike."""
        if self.world == 1:
            return list(values)
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        summed: Tensor = self.accelerator.reduce(torch.tensor(values, device=self.device, dtype=dtype), reduction="sum")
        return summed.tolist()

    # -- the run ----------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train to the end (or to Ctrl-C) and return the last checkpoint.

        Raises `ZaoziError` where another process is training in the folder.
        """
        with ExitStack() as stack:
            stack.enter_context(using_threads(self.threads))
            if self.device.type == "cuda":
                stack.enter_context(using_matmul_precision("high"))
            if not self.main:
                return self._run(None)
            writer = stack.enter_context(self.output.open())
            if newest(self.out) != self.seen:
                raise ZaoziError(f"another process has trained in {self.out} meanwhile; pass --resume to go on")
            return self._run(writer)

    def _run(self, writer: Writer | None) -> Path:
        """The run; the main process has a writer of the run's folder."""
        from torch.utils.tensorboard import SummaryWriter

        train = self.recipe.train
        if writer and RECIPE in writer.output.names:
            writer.put(RECIPE, as_json(schema.written(self.recipe)))
        self._describe()
        if train.self_check and self.step == 0 and self.main:
            with Clock().listening() as clock:
                passed, before, after = self_check(self.config, self.batches)
                self.seconds += clock.tick()
            self.say(f"self-check: {'pass' if passed else 'FAIL'} (eight pairs: loss {before:.3f} -> {after:.3f})")
            if not passed:
                raise ZaoziError(
                    "the self-check could not learn eight pairs; try another network, prediction or weight"
                )
        log = open_log(writer, self.step) if writer else None
        board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.step) if self.main else None

        def record(entry: dict[str, Any]) -> None:
            if log is None or board is None or not entry:
                return
            log.write(json.dumps(entry) + "\n")
            for key, value in entry.items():
                if isinstance(value, float):
                    board.add_scalar(key, value, entry["step"])

        by_clock = train.max_minutes > 0
        total = round(60 * train.max_minutes) if by_clock else train.steps
        bar = progress(
            total=total,
            initial=round(self.seconds) if by_clock else self.step,
            shown=self.main,
            desc=self.recipe.name,
            unit="s" if by_clock else "step",
            mininterval=1.0,
        )
        saved = said = window_start = time.monotonic()
        began = window_start, self._progress()
        window, window_step = 0.0, self.step
        watching = ExitStack()
        try:
            self._listen(watching)
            clock = watching.enter_context(Clock().listening())
            self.seconds = self._sum_over_processes(self.seconds if self.main else 0.0)[
                0
            ]  # all go by the main one's clock
            while self._progress() < 1.0 and not self.stopping:
                loss, share = self._one_step()
                spent, now = clock.tick(), time.monotonic()
                due = now - saved > 60 * train.save_minutes > 0
                mine = (self.seconds + spent, float(due)) if self.main else (0.0, 0.0)
                self.seconds, due_now, stop = self._sum_over_processes(*mine, float(self.asked))
                self.stopping = stop > 0
                done = self._progress() >= 1.0
                window += loss
                bar.update((min(round(self.seconds), total) - bar.n) if by_clock else 1)
                if self.step % 20 == 0 or done or self.stopping:
                    count = self.step - window_step
                    speed = count * train.batch_size / max(now - window_start, 1e-9)
                    entry = {
                        "step": self.step,
                        "samples": self.step * train.batch_size,
                        "loss": window / count,
                        "rate": share,
                        "samples_per_s": round(speed, 1),
                        "seconds": round(self.seconds, 1),
                    }
                    bar.set_postfix(loss=f"{entry['loss']:.4f}", samples_s=f"{speed:.0f}")
                    record(entry)
                    if bar.disable and now - said > SAY_SECONDS:
                        said, at = now, self._progress()
                        left = (now - began[0]) * (1.0 - at) / max(at - began[1], 1e-9)
                        self.say(
                            f"step {self.step}, loss {entry['loss']:.4f}, {speed:.0f} samples/s, {left / 60:.0f} min left"
                        )
                    window, window_start, window_step = 0.0, now, self.step
                if train.validate_every and (self.step % train.validate_every == 0 or done):
                    record(self.validate())
                if train.sample_every and (self.step % train.sample_every == 0 or done):
                    self._sample_grid(board, writer)
                if due_now or (train.save_every and self.step % train.save_every == 0):
                    self.save()
                    saved = time.monotonic()
        finally:
            bar.close()
            watching.close()
            if log:
                log.close()
            if board:
                board.close()
        self.save()
        if self.stopping:
            self.say(f"stopped at step {self.step}; go on with the same command and --resume")
        else:
            self.say(
                f"trained {self.step} steps, {self.step * train.batch_size} samples in {self.seconds / 60:.1f} min; "
                f'draw with: zaozi generate "gold" --model {self.out}'
            )
        return newest(self.out) or self.out

    def _listen(self, watching: ExitStack) -> None:
        """Watch for Ctrl-C and for being asked to end, until `watching` closes."""
        if threading.current_thread() is not threading.main_thread():
            return

        def asked_to_stop(number: int, *_: Any) -> None:
            self.asked = True
            signal.signal(number, signal.default_int_handler)  # a second time means now

        for number in (signal.SIGINT, signal.SIGTERM):
            watching.callback(signal.signal, number, signal.signal(number, asked_to_stop))

    def _first_alone(self, work: Callable[[], Any]) -> Any:
        """What the first process of a machine makes, its others then find."""
        with self.accelerator.local_main_process_first():
            return work()

    def _describe(self) -> None:
        count = sum(p.numel() for p in self.model.network.parameters())
        how = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        self.say(
            f"{self.recipe.name}: {count / 1e6:.1f} M parameters, {len(self.batches.pairs)} pairs, "
            f"{self.world} x {self.device.type} in {how}, to {self.out}"
        )

    def _can_compile(self) -> bool:
        """Whether torch.compile works on this machine (it needs a compiler); training goes on without it where not."""
        try:
            torch.compile(lambda x: x * 2 + 1)(torch.ones(8, device=self.device))
        except Exception as error:  # whatever a missing or broken compiler raises
            self.say(f"training without torch.compile ({str(error).splitlines()[0]})")
            return False
        return True

    def _fit_space(self, space: Space) -> None:
        """Let the space learn what it needs."""
        bar = progress(total=space.fit_steps, desc="space", unit="step", shown=self.main and space.fit_steps > 0)

        def watch(*_: Any) -> None:  # preparations are time of the run
            self.seconds += clock.tick()
            bar.update()

        with (
            bar,
            Clock().listening() as clock,
            torch.autocast(
                "cpu", torch.bfloat16, enabled=precision(self.recipe.train.precision, CPU) == torch.bfloat16
            ),
        ):
            line = space.fit(self.batches.pairs, seed=self.recipe.train.seed, watch=watch)
        if line:
            self.say(line)

    # -- looking up -------------------------------------------------------------------------------------------------

    def validate(self) -> dict[str, Any]:
        """The averaged model's x0 error on held-out pairs at twenty fixed levels, and its mean; text alone is given."""
        if self.held_out is None:
            return {}
        rows = self.held_out.pairs.some(VALIDATION_PAIRS)
        x0 = self.held_out.space.encode(self.held_out.pairs.batch(rows))
        with self._autocast():
            errors = x0_error(self.average, x0, replace(self.held_out.cond(rows), properties={}))
        mean = sum(errors) / len(errors)
        self.say(f"step {self.step}: validation x0 error {mean:.5f}")
        return {"step": self.step, "validation": mean, "validation_levels": [round(e, 6) for e in errors]}

    def _sample_grid(self, board: Any, writer: Writer | None) -> None:
        """Fixed prompts from fixed noise, drawn by the averaged model; training never notices."""
        if writer is None:
            return
        prompts, count = self.recipe.train.prompts, 8
        cond = self.encoder.encode(prompts).take(torch.arange(len(prompts)).repeat_interleave(count))
        with self._autocast():
            x = draw(self.average, cond, Sampling(16), pictures=list(range(count)) * len(prompts))
        made = to_pictures(x)
        sheet = contact_sheet([made[i * count : (i + 1) * count] for i in range(len(prompts))], prompts, tile=96)
        writer.put(f"samples-{self.step:08d}.png", png(sheet))
        if board:
            board.add_image("samples", np.asarray(sheet), self.step, dataformats="HWC")

    def save(self) -> None:
        """Write a whole checkpoint of this step, unless it is there already."""
        folder = self.out / f"step-{self.step:08d}"
        if self.main and self.saved != folder:
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "data": self.data,
                "machine": machine(self.device.type, self.world),
                "threads": self.threads,
                "processor": processor(),
                "order": ORDER,
                "began_with": self.began_with,
                "history": self.history,
            }
            save_state(folder, self.model, self.average, self.optimisers, self.recipe, **state)
            for path in (self.out / LOG, *self.out.glob("tensorboard/*")):
                if path.is_file():
                    flush(path)
        self.saved = folder
        self.accelerator.wait_for_everyone()
