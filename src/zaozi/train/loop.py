"""The training loop: batches in, checkpoints out, the same bits whether it was interrupted or not."""

from __future__ import annotations

import copy
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zaozi.core.config import Recipe, from_dict, to_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.files import home, write_json
from zaozi.core.noise import training_generator
from zaozi.data.pairs import find_dataset, load_pairs
from zaozi.data.shards import manifest_hash
from zaozi.data.sheet import contact_sheet
from zaozi.model.checkpoint import (
    CONFIG,
    WEIGHTS,
    fill,
    find_model,
    load_model,
    newest,
    read_tensors,
    save_folder,
)
from zaozi.model.denoiser import ModelConfig, make_denoiser
from zaozi.model.space import Halved
from zaozi.pipeline import draw, to_pictures
from zaozi.text.cache import cached
from zaozi.text.encoders import load_encoder
from zaozi.train.batches import Batches
from zaozi.train.optim import ema_decay, ema_update, flat_state, load_flat_state, make_optimisers, rate
from zaozi.train.step import loss_of, precision, self_check, some_rows, to_device
from zaozi.train.validation import x0_error

RAW, OPTIMISER, STATE = "training.safetensors", "optimiser.safetensors", "state.json"
KEEP = 2
VALIDATION_PAIRS = 128


class Trainer:
    """A run of one recipe in one folder. `run()` trains to the end; `resume=True` goes on from the last checkpoint."""

    def __init__(self, recipe: Recipe, *, resume: bool = False, say: Callable[[str], None] = print) -> None:
        from accelerate import Accelerator

        train = recipe.train
        if train.batch_size < 1 or train.accumulate < 1 or (train.steps < 1 and train.max_minutes <= 0):
            raise ZaoziError("train.batch_size, train.accumulate and train.steps must be 1 or more")
        self.out = Path(train.out)
        # asked for by name, since several CPU processes are otherwise taken for single ones
        self.accelerator = Accelerator(cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()))
        self.main = self.accelerator.is_main_process
        self.say: Callable[[str], None] = say if self.main else (lambda _: None)
        world = self.accelerator.num_processes
        if train.batch_size % (world * train.accumulate):
            raise ZaoziError(
                f"train.batch_size {train.batch_size} does not divide among {world} processes "
                f"times {train.accumulate} accumulations; use a multiple of {world * train.accumulate}"
            )
        last = newest(self.out)
        if resume and last is None:
            raise ZaoziError(f"{self.out} has no checkpoint to resume; start without --resume")
        if not resume and last is not None:
            raise ZaoziError(f"{self.out} already has {last.name}; pass --resume to go on, or give another --train.out")

        data = self._first_alone(lambda: find_dataset(recipe.data))
        self.data_hash = manifest_hash(data)
        manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
        pairs, held_out = load_pairs(data, "train"), load_pairs(data, "validation")
        if not len(pairs):
            raise ZaoziError(f"{data} has no training pair; build it from more pictures")
        recipe = replace(
            recipe,
            properties=tuple(p if p.values else pairs.fill(p) for p in recipe.properties),
            network=replace(recipe.network, channels=manifest["channels"]),
        )
        self.encoder = load_encoder(recipe.text.encoder, recipe.text.max_tokens)
        recipe = replace(recipe, network=replace(recipe.network, text_width=self.encoder.width))
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
        texts = self._first_alone(lambda: cached(self.encoder, captions, home() / "text"))

        self.model = make_denoiser(self.config, seed=train.seed)
        self.batches = Batches(recipe, pairs, texts, self.model.schedule, self.model.space)
        self.held_out = (
            Batches(recipe, held_out, texts, self.model.schedule, self.model.space) if len(held_out) else None
        )
        if train.init_from and not resume:
            other = load_model(find_model(train.init_from))
            fill(self.model, other.state_dict(), Path(train.init_from))
        self.device = self.accelerator.device
        self.dtype = precision(train.precision, self.device)
        self.step, self.seconds = 0, 0.0
        self.stopping = self.was_stopped = False
        self.model.space.requires_grad_(False)
        if isinstance(self.model.space, Halved) and not train.init_from and not resume:
            self._fit_space(self.model.space)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False).to(self.device)
        self.model.to(self.device).train()
        if self.device.type == "cuda":
            self.model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            torch.set_float32_matmul_precision("high")
        self.optimisers = make_optimisers(self.model.network, recipe.optim)
        if resume and last is not None:
            self._load(last)
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
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = share * (recipe.optim.muon_lr if name == "muon" else recipe.optim.lr)
        batch = to_device(self.batches.at(self.step, accelerator.process_index, accelerator.num_processes), self.device)
        parts = recipe.train.accumulate
        size = len(batch.x0) // parts
        total = 0.0
        with self._private_dropout():
            for i in range(parts):
                some = some_rows(batch, slice(i * size, (i + 1) * size)) if parts > 1 else batch
                wait = accelerator.no_sync(self.network) if i + 1 < parts else torch.enable_grad()
                with wait:
                    with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                        loss = loss_of(self.network, some, recipe.diffusion.prediction, recipe.diffusion.weight)
                    (loss / parts).backward()
                total += float(loss.detach()) / parts
        if accelerator.num_processes > 1:
            total = float(accelerator.reduce(torch.tensor(total, device=self.device), reduction="mean"))
        if not math.isfinite(total):
            last = newest(self.out)
            good = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            raise ZaoziError(
                f"the loss is {total} at step {self.step} (rate {share * recipe.optim.lr:.2g}); "
                f"{good}; lower optim.lr or optim.muon_lr"
            )
        nn.utils.clip_grad_norm_(self.model.network.parameters(), recipe.optim.clip)
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        ema_update(
            list(self.average.network.parameters()),
            list(self.model.network.parameters()),
            ema_decay(recipe.train.ema, self.step),
        )
        self.step += 1
        return total, share

    @contextmanager
    def _private_dropout(self) -> Iterator[None]:
        """Dropout has no generator of its own: lend it the global one, seeded by the step, and put that back after."""
        lent = self.recipe.network.dropout > 0
        with torch.random.fork_rng(enabled=lent):
            if lent:
                key = (self.recipe.train.seed, self.step, self.accelerator.process_index, 1)
                torch.manual_seed(training_generator(*key).initial_seed())
            yield

    # -- the run ----------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train to the end (or to Ctrl-C) and return the last checkpoint."""
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        train = self.recipe.train
        self.out.mkdir(parents=True, exist_ok=True)
        if self.main:
            write_json(self.out / "recipe.json", to_dict(self.recipe))
        self._describe()
        if train.self_check and self.step == 0 and self.main:
            passed, before, after = self_check(self.config, self.batches)
            self.say(f"self-check: {'pass' if passed else 'FAIL'} (eight pairs: loss {before:.3f} -> {after:.3f})")
            if not passed:
                raise ZaoziError("the self-check could not learn eight pairs; check the recipe's rates and network")
        log = self._open_log()
        board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.step) if self.main else None
        by_clock = train.max_minutes > 0
        total = round(60 * train.max_minutes) if by_clock else train.steps
        bar = tqdm(
            total=total,
            initial=round(self.seconds) if by_clock else self.step,
            disable=not self.main,
            desc=self.recipe.name,
            unit="s" if by_clock else "step",
            mininterval=1.0,
            file=sys.stderr,
        )
        previous = self._listen()
        tick, spent, first, saved = time.monotonic(), 0.0, self.step, time.monotonic()
        window, window_start, window_step = 0.0, time.monotonic(), self.step
        try:
            while self._progress() < 1.0 and not self._stop_everywhere():
                loss, share = self._one_step()
                if not self.was_stopped:  # a stopped process (Ctrl-Z, SIGSTOP) does not use up its clock
                    spent = time.monotonic() - tick
                self.seconds += spent
                tick, self.was_stopped = time.monotonic(), False
                window += loss
                if by_clock:
                    bar.update(min(round(self.seconds), total) - bar.n)
                else:
                    bar.update(1)
                if self.step % 20 == 0 or self._progress() >= 1.0:
                    count = self.step - window_step
                    speed = count * train.batch_size / max(time.monotonic() - window_start, 1e-9)
                    entry = {
                        "step": self.step,
                        "samples": self.step * train.batch_size,
                        "loss": window / count,
                        "rate": share,
                        "samples_per_s": round(speed, 1),
                        "seconds": round(self.seconds, 1),
                    }
                    window, window_start, window_step = 0.0, time.monotonic(), self.step
                    bar.set_postfix(loss=f"{entry['loss']:.4f}", samples_s=f"{speed:.0f}")
                    self._record(log, board, entry)
                done = self._progress() >= 1.0
                if train.validate_steps and (self.step % train.validate_steps == 0 or done):
                    self._record(log, board, self.validate())
                if train.sample_steps and (self.step % train.sample_steps == 0 or done):
                    self._sample_grid(board)
                due = time.monotonic() - saved > 60 * train.save_minutes
                if due or (train.save_steps and self.step % train.save_steps == 0):
                    self.save()
                    saved = time.monotonic()
        finally:
            bar.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
            if log:
                log.close()
            if board:
                board.close()
        if self.step > first or newest(self.out) is None:
            self.save()
        last = newest(self.out)
        assert last is not None or not self.main
        if self.stopping:
            self.say(f"stopped at step {self.step}; go on with the same command and --resume")
        else:
            self.say(
                f"trained {self.step} steps, {self.step * train.batch_size} samples in "
                f'{self.seconds / 60:.1f} min; draw with: zaozi generate "gold" --model {self.out}'
            )
        return last or self.out

    def _listen(self) -> dict[int, Any]:
        """Watch for Ctrl-C and for being continued after a stop; returns the handlers to put back."""
        if threading.current_thread() is not threading.main_thread():
            return {}

        def interrupted(*_: Any) -> None:
            self.stopping = True

        def continued(*_: Any) -> None:
            self.was_stopped = True

        watched = {signal.SIGINT: interrupted}
        if hasattr(signal, "SIGCONT"):
            watched[signal.SIGCONT] = continued
        return {number: signal.signal(number, handler) for number, handler in watched.items()}

    def _stop_everywhere(self) -> bool:
        """Whether any process was asked to stop (all must agree on the last step)."""
        if self.accelerator.num_processes > 1:
            flag = torch.tensor(float(self.stopping), device=self.device)
            self.stopping = bool(self.accelerator.reduce(flag, reduction="sum") > 0)
        return self.stopping

    def _first_alone(self, work: Callable[[], Any]) -> Any:
        """What the first process makes, the others then find."""
        with self.accelerator.main_process_first():
            return work()

    def _describe(self) -> None:
        count = sum(p.numel() for p in self.model.network.parameters())
        how = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        self.say(
            f"{self.recipe.name}: {count / 1e6:.1f} M parameters, {len(self.batches.pairs)} pairs, "
            f"{self.accelerator.num_processes} x {self.device.type} in {how}, to {self.out}"
        )

    def _can_compile(self) -> bool:
        """Whether torch.compile works on this machine (it needs a compiler); training goes on without it where not."""
        try:
            torch.compile(lambda x: x * 2 + 1)(torch.ones(8, device=self.device))
        except Exception as error:  # whatever a missing or broken compiler raises
            self.say(f"training without torch.compile ({str(error).splitlines()[0]})")
            return False
        return True

    def _fit_space(self, space: Halved) -> None:
        from tqdm import tqdm

        steps, seed = self.recipe.space.steps, self.recipe.train.seed
        pairs = self.batches.pairs
        rows = np.arange(len(pairs))

        def batch(generator: torch.Generator) -> Tensor:
            chosen = rows[torch.randint(0, len(rows), (64,), generator=generator).numpy()]
            side = min(pairs.pictures.shape[-1], 64)
            y, x = (
                int(v) * 2
                for v in torch.randint(0, (pairs.pictures.shape[-1] - side) // 2 + 1, (2,), generator=generator)
            )
            return pairs.batch(chosen)[:, :, y : y + side, x : x + side]

        with tqdm(total=steps, desc="2x stage", unit="step", disable=not self.main, leave=False) as bar:
            error = space.fit(batch, steps, seed=seed, watch=lambda *_: bar.update() and None)
        self.say(f"2x stage: mean absolute error {error / 2:.4f} of the range")

    # -- looking up -------------------------------------------------------------------------------------------------

    def validate(self) -> dict[str, Any]:
        """The averaged model's x0 error on held-out pairs at twenty fixed levels, and its mean."""
        if self.held_out is None:
            return {}
        rows = np.arange(min(VALIDATION_PAIRS, len(self.held_out.pairs)))
        x0 = self.held_out.space.encode(self.held_out.pairs.batch(rows))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            errors = x0_error(self.average, x0, replace(self.held_out.cond(rows), properties={}))
        mean = sum(errors) / len(errors)
        self.say(f"step {self.step}: validation x0 error {mean:.5f}")
        return {"step": self.step, "validation": mean, "validation_levels": [round(e, 6) for e in errors]}

    def _sample_grid(self, board: Any) -> None:
        """Fixed prompts from fixed noise, drawn by the averaged model; training never notices."""
        if not self.main:
            return
        prompts, count = self.recipe.train.prompts, 8
        cond = self.encoder.encode(prompts)
        cond = cond.take(torch.arange(len(prompts)).repeat_interleave(count))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            x = draw(self.average, cond, pictures=list(range(count)) * len(prompts), num_steps=16)
        made = to_pictures(x)
        sheet = contact_sheet([made[i * count : (i + 1) * count] for i in range(len(prompts))], prompts, tile=96)
        sheet.save(self.out / f"samples-{self.step:08d}.png")
        if board:
            board.add_image("samples", np.asarray(sheet), self.step, dataformats="HWC")

    def _open_log(self) -> Any:
        """log.jsonl, opened to append; entries past the step we start from are dropped."""
        if not self.main:
            return None
        path = self.out / "log.jsonl"
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            path.write_text("".join(line + "\n" for line in kept))
        return path.open("a", encoding="utf-8", buffering=1)

    def _record(self, log: Any, board: Any, entry: dict[str, Any]) -> None:
        if not entry or not self.main:
            return
        log.write(json.dumps(entry) + "\n")
        for key, value in entry.items():
            if isinstance(value, float):
                board.add_scalar(key, value, entry["step"])

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a whole checkpoint, then remove the older ones but one."""
        if self.main:
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "data": self.data_hash,
                "recipe": to_dict(self.recipe),
                "torch": torch.__version__,
            }
            save_folder(
                self.out / f"step-{self.step:08d}",
                {
                    WEIGHTS: self.average.state_dict(),
                    RAW: self.model.network.state_dict(),
                    OPTIMISER: flat_state(self.optimisers),
                },
                {CONFIG: to_dict(self.config), STATE: state},
            )
            import shutil

            for old in sorted(self.out.glob("step-*"))[:-KEEP]:
                shutil.rmtree(old)
            for half in self.out.glob(".step-*-partial-*"):
                shutil.rmtree(half)
        self.accelerator.wait_for_everyone()

    def _load(self, folder: Path) -> None:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state["data"] != self.data_hash:
            raise ZaoziError(
                f"{folder} was trained on other data; give the same data, or start anew with --train.init-from {folder}"
            )
        before = from_dict(Recipe, state["recipe"])
        if (before.network, before.diffusion, before.space) != (
            self.recipe.network,
            self.recipe.diffusion,
            self.recipe.space,
        ):
            raise ZaoziError(f"{folder} has another network, diffusion or space; resume with its own recipe")
        self.step, self.seconds = state["step"], state["seconds"]
        fill(self.average, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
        fill(self.model.network, read_tensors(folder / RAW), folder / RAW)
        self.model.space.load_state_dict(self.average.space.state_dict())
        load_flat_state(self.optimisers, read_tensors(folder / OPTIMISER))
        self.say(f"resuming {folder}")
