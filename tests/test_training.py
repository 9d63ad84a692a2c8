"""Training: exact resume, private randomness, whole checkpoints, and a network that can learn."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import PROPERTIES, draw_folder, fill_randomly, random_cond, with_train
from zaozi.core import machine
from zaozi.core.components import optimisers
from zaozi.core.config import from_dict, to_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.files import sha256
from zaozi.core.machine import using_threads
from zaozi.core.noise import lent_generator, training_generator
from zaozi.core.precision import precision
from zaozi.core.recipe import DataConfig, DiffusionConfig, Recipe
from zaozi.core.sampling import Sampling
from zaozi.core.types import Cond, Level
from zaozi.data import pairs
from zaozi.data.folder import Square, build_folder
from zaozi.data.glyphs import build_glyphs
from zaozi.model.checkpoint import SHIPPED, STATE, WEIGHTS, find_model, load_model, newest, read_config, read_tensors
from zaozi.model.denoiser import make_denoiser
from zaozi.model.release import history, release_model
from zaozi.model.spaces.halved import Halved, HalvedConfig
from zaozi.nn.properties.class_ import ClassProperty
from zaozi.nn.properties.number import NumberProperty
from zaozi.nn.unet import UNetConfig
from zaozi.train.batches import Batch, Batches, drop, perturb_text, shifted
from zaozi.train.callbacks import Callback, usual
from zaozi.train.loop import train as train_run
from zaozi.train.optim import ema_decay, ema_update, flat_state, load_flat_state, rate
from zaozi.train.optimisers.adamw import AdamWConfig
from zaozi.train.optimisers.muon import MuonConfig, block_matrices
from zaozi.train.prefetch import prefetched
from zaozi.train.prepare import prepare
from zaozi.train.recipes import read_recipe
from zaozi.train.resident import Resident, on_device, size_of
from zaozi.train.run import Run
from zaozi.train.state import RAW, read_state, with_scales_of
from zaozi.train.step import self_check
from zaozi.train.validation import LOGSNRS, x0_error


def train(recipe: Recipe, *, resume: bool = False) -> dict[str, torch.Tensor]:
    """The raw weights, averaged weights and optimiser state at the end of a run, by file."""
    return tensors(train_run(prepare(recipe, resume=resume, say=lambda _: None)))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Everything in a checkpoint's safetensors files, by file and name."""
    return {f"{p.name}/{k}": v for p in sorted(folder.glob("*.safetensors")) for k, v in read_tensors(p).items()}


def rewritten(path: Path, values: object) -> None:
    """A JSON file of a checkpoint with other values, and without the record that older versions did not write."""
    path.write_text(json.dumps(values))
    (path.parent / ".zaozi.json").unlink(missing_ok=True)


class StopAfter(Callback):
    """Asks a run to stop after so many steps; `seen` gets the number of threads at each."""

    def __init__(self, steps: int, seen: list[int] | None = None) -> None:
        self.left, self.seen = steps, [] if seen is None else seen

    def after_step(self, run: Run) -> None:
        self.seen.append(torch.get_num_threads())
        self.left -= 1
        run.stopping = self.left == 0


def stopped(run: Run, steps: int, seen: list[int] | None = None) -> Path:
    """The last checkpoint of a run that is asked to stop after so many steps."""
    return train_run(run, [*usual(), StopAfter(steps, seen)])


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def rich(tiny_recipe: Recipe) -> Recipe:
    """Everything that draws random numbers, at once."""
    network = replace(tiny_recipe.network, dropout=0.1)
    return with_train(replace(tiny_recipe, network=network), shift=2, text_dropout=0.3, accumulate=2)


@pytest.mark.parametrize(("kind", "precision"), [("muon", "fp32"), ("adamw", "fp32"), ("muon", "bf16")])
def test_resume_equals_the_uninterrupted_run_bit_for_bit(
    rich: Recipe, tmp_path: Path, kind: str, precision: str
) -> None:
    rich = with_train(replace(rich, optim=optimisers[kind](warmup=2)), precision=precision)  # type: ignore[arg-type]
    whole = train(with_train(rich, out=str(tmp_path / "whole")))
    halves = with_train(rich, out=str(tmp_path / "halves"))
    assert stopped(prepare(halves, say=lambda _: None), 3).name == "step-00000003"
    assert same(train(halves, resume=True), whole)


def test_where_there_is_no_terminal_a_run_says_now_and_then_how_far_it_is(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zaozi.train.callbacks.SAY_SECONDS", 0.0)
    said: list[str] = []
    steps = 40
    train_run(prepare(with_train(tiny_recipe, out=str(tmp_path / "run"), steps=steps), say=said.append))
    lines = [line for line in said if re.fullmatch(r"step \d+, loss [\d.]+, \d+ samples/s, \d+ min left", line)]
    assert [int(line.split()[1].rstrip(",")) for line in lines] == [20, 40]
    assert capsys.readouterr().err == ""


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process that may use two cores, of which it uses one."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "_affinity", lambda: {0, 1})
    monkeypatch.setattr(machine, "_quota", lambda: 2.0)
    return monkeypatch


def test_a_resumed_run_computes_with_as_many_threads_as_before(
    rich: Recipe, tmp_path: Path, two_cores: pytest.MonkeyPatch
) -> None:
    halves = with_train(rich, out=str(tmp_path / "halves"))
    with using_threads(2):
        whole = train(with_train(rich, out=str(tmp_path / "whole")))
        stopped(prepare(halves, say=lambda _: None), 3)
    seen: list[int] = []
    assert torch.get_num_threads() == 1
    assert same(tensors(stopped(prepare(halves, resume=True, say=lambda _: None), 9, seen)), whole)
    assert seen == [2, 2, 2]
    assert torch.get_num_threads() == 1


def test_a_resumed_run_warns_where_its_bits_may_differ(tiny_recipe: Recipe, two_cores: pytest.MonkeyPatch) -> None:
    with using_threads(2):
        folder = stopped(prepare(tiny_recipe, say=lambda _: None), 3)
    two_cores.setattr(machine, "_quota", lambda: 1.0)
    with pytest.warns(UserWarning, match=r"step-00000003 was trained with threads 2, now 1; its last bits may"):
        assert prepare(tiny_recipe, resume=True, say=lambda _: None).workers.threads == 1
    two_cores.setattr(machine, "_quota", lambda: 2.0)
    state = json.loads((folder / STATE).read_text())
    for change in ({"processor": "an abacus"}, {"torch": "0.1", "threads": 64}):
        rewritten(folder / STATE, state | change)
        with pytest.warns(UserWarning, match=r"with (processor an abacus|torch 0\.1), now .*; its last bits may"):
            assert prepare(tiny_recipe, resume=True, say=lambda _: None).workers.threads == 1, (
                "as it would if it began now"
            )


def test_a_checkpoint_of_an_older_version_goes_on(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """What older versions did not write down is not missed."""
    whole = train(with_train(tiny_recipe, out=str(tmp_path / "whole")))
    folder = stopped(prepare(tiny_recipe, say=lambda _: None), 3)
    state = json.loads((folder / STATE).read_text())
    kept = {key: state[key] for key in ("step", "seconds", "data", "recipe")}
    rewritten(folder / STATE, kept)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert same(train(tiny_recipe, resume=True), whole)


def test_watching_leaves_training_unchanged(rich: Recipe, tmp_path: Path) -> None:
    """Sample grids, validation, checkpoints and the self-check use randomness of their own."""
    quiet = train(with_train(rich, out=str(tmp_path / "quiet")))
    busy = with_train(rich, out=str(tmp_path / "busy"), sample_every=2, validate_every=2, save_every=2)
    assert same(train(busy), quiet)
    assert (tmp_path / "busy" / "samples-00000006.png").exists()


def test_accumulation_gives_the_same_gradient(tiny_recipe: Recipe, tmp_path: Path) -> None:
    a = train(with_train(tiny_recipe, out=str(tmp_path / "a"), steps=1))
    b = train(with_train(tiny_recipe, out=str(tmp_path / "b"), steps=1, accumulate=4))
    moments = [k for k in a if k.endswith("exp_avg")]
    assert moments
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in moments)


def test_a_checkpoint_draws_what_the_trainer_drew(tiny_recipe: Recipe) -> None:
    run = prepare(tiny_recipe, say=lambda _: None)
    folder = train_run(run)
    model, cond = load_model(folder), random_cond(2)
    from zaozi.pipeline import draw

    made = [draw(one, cond, Sampling(3), pictures=[0, 1]) for one in (model, run.training.average)]
    assert torch.equal(*made)
    raw = read_tensors(folder / RAW)
    assert all(torch.equal(raw[k], v) for k, v in run.training.model.network.state_dict().items())


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tiny_recipe: Recipe) -> None:
    recipe = with_train(tiny_recipe, save_every=2)
    whole = {name: value.clone() for name, value in train(recipe).items()}  # not the files, which are damaged below
    place = Path(recipe.train.out)
    for name in ("model.safetensors", "state.json"):
        path = place / "step-00000006" / name
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        if name == "model.safetensors":
            with pytest.warns(
                UserWarning, match=r"step-00000006/model\.safetensors is damaged.*going back to step-00000004"
            ):
                assert find_model(str(place)) == place / "step-00000004"
        with pytest.warns(UserWarning, match=rf"step-00000006/{name} is damaged.*going back to step-00000004"):
            run = prepare(recipe, resume=True, say=lambda _: None)
        assert run.step == 4
        folder = train_run(run)
        assert folder.name == "step-00000006"
        assert same(tensors(folder), whole)
    for folder in (place / "step-00000004", place / "step-00000006"):
        (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ZaoziError, match=r"step-00000006/model\.safetensors is damaged"):
        prepare(recipe, resume=True)


def test_killed_at_any_moment_a_run_goes_on_to_the_same_weights(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """kill -9 at random moments of the real command, ten times, resuming each time."""
    recipe = with_train(tiny_recipe, steps=60, save_every=2)
    whole = train(with_train(recipe, out=str(tmp_path / "whole")))
    killed = with_train(recipe, out=str(tmp_path / "killed"))
    (tmp_path / "recipe.json").write_text(json.dumps(to_dict(killed)))
    code = f"""
import json, os, random, signal, sys, threading, time
import torch
from accelerate import Accelerator
torch.set_num_threads(1)
from pathlib import Path
from zaozi.core.config import from_dict
from zaozi.core.recipe import Recipe
from zaozi.model.checkpoint import newest
from zaozi.train.callbacks import Callback, usual
from zaozi.train.loop import train
from zaozi.train.prepare import prepare
recipe = from_dict(Recipe, json.load(open({str(tmp_path / "recipe.json")!r})))
run = prepare(recipe, resume=newest(Path(recipe.train.out)) is not None, say=lambda _: None)
attempt, dice = int(sys.argv[1]), random.Random(int(sys.argv[1]))
last, delay = run.step + dice.randint(1, 5), dice.uniform(0, 0.02)
class Kill(Callback):
    def after_step(self, run):
        if attempt < 10 and run.step == last:  # a moment from here: in a step, or while a checkpoint is written
            threading.Thread(target=lambda: (time.sleep(delay), os.kill(os.getpid(), signal.SIGKILL))).start()
        elif attempt < 10 and run.step > last + 1:
            time.sleep(1)
train(run, [Kill(), *usual()])
"""
    codes = []
    for attempt in range(11):
        command = [sys.executable, "-c", code, str(attempt)]
        codes.append(subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode)
    assert codes == [-signal.SIGKILL] * 10 + [0]
    folder = newest(tmp_path / "killed")
    assert folder is not None
    assert folder.name == "step-00000060"
    assert same(tensors(folder), whole)
    assert [p.name for p in (tmp_path / "killed").glob(".*")] == [".zaozi.json"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_a_resumed_run_says_where_the_order_of_its_pairs_is_new(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(prepare(tiny_recipe, say=lambda _: None), 3)
    state = json.loads((folder / STATE).read_text())
    assert state.pop("order") == pairs.ORDER
    monkeypatch.setattr(pairs, "SHUFFLED_WHOLE", 8)
    prepare(tiny_recipe, resume=True, say=lambda _: None)  # no warning
    rewritten(folder / STATE, state)
    with pytest.warns(UserWarning, match="step-00000003 saw its pairs in an older version's order"):
        prepare(tiny_recipe, resume=True, say=lambda _: None)


@pytest.mark.parametrize("kind", ["dit", "unet"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction", "flow"])
def test_a_network_overfits_eight_pairs(tiny_recipe: Recipe, kind: str, prediction: str) -> None:
    network = tiny_recipe.network
    if kind == "unet":
        network = UNetConfig(width=16, depth=1, head_width=16, patch=2, multipliers=(1, 2), attention_levels=(1,))
    how = DiffusionConfig(schedule="cosine", prediction=prediction, weight="unit")  # type: ignore[arg-type]
    run = prepare(replace(tiny_recipe, network=network, diffusion=how), say=lambda _: None)
    passed, before, after = self_check(run.config, run.batches)
    assert passed, (before, after)


def test_a_non_finite_loss_stops_with_the_step_and_the_last_good_checkpoint(tiny_recipe: Recipe) -> None:
    recipe = with_train(tiny_recipe, save_every=1, steps=50)
    run = prepare(recipe, say=lambda _: None)

    class Poison(Callback):
        def after_step(self, run: Run) -> None:
            if run.step == 2:
                with torch.no_grad():
                    run.training.weights[0].fill_(torch.nan)

    with pytest.raises(ZaoziError, match=r"nan at step 2 .*step-00000002; lower"):
        train_run(run, [*usual(), Poison()])


def test_weights_that_are_not_finite_are_never_saved(tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the last step either, where devices look at their losses only every few steps."""
    monkeypatch.setattr("zaozi.train.run.Workers.agree_every", 10)

    class Poison(Callback):
        def after_step(self, run: Run) -> None:
            if run.step == 5:
                with torch.no_grad():
                    run.training.weights[0].fill_(torch.nan)

    with pytest.raises(ZaoziError, match=r"nan at step 5 .*there is no checkpoint yet"):
        train_run(prepare(tiny_recipe, say=lambda _: None), [*usual(), Poison()])


def test_folders_are_guarded(tiny_recipe: Recipe) -> None:
    (Path(tiny_recipe.train.out).parent / "file").touch()
    with pytest.raises(ZaoziError, match="is a file; give a folder"):
        prepare(with_train(tiny_recipe, out=str(Path(tiny_recipe.train.out).parent / "file")))
    with pytest.raises(ZaoziError, match="no checkpoint to resume"):
        prepare(tiny_recipe, resume=True)
    train(tiny_recipe)
    with pytest.raises(ZaoziError, match="already has step-00000006; pass --resume"):
        prepare(tiny_recipe)
    other = replace(tiny_recipe, network=replace(tiny_recipe.network, depth=3))
    with pytest.raises(ZaoziError, match=r"another network\.depth"):
        prepare(other, resume=True)
    for changed in (replace(tiny_recipe, optim=AdamWConfig()), with_train(tiny_recipe, seed=4)):
        with pytest.raises(ZaoziError, match=r"was trained with another (optim\.kind|train\.seed)"):
            prepare(changed, resume=True)
    with pytest.raises(ZaoziError, match="does not divide"):
        prepare(with_train(tiny_recipe, accumulate=3))


def test_the_same_data_may_lie_elsewhere(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """A run goes on with the same bytes at another path, and with no others."""
    recipe = with_train(replace(tiny_recipe, data=DataConfig(path=str(tmp_path / "data"))), steps=8)
    shutil.copytree(tiny_recipe.data.path, recipe.data.path)
    whole = train(with_train(recipe, out=str(tmp_path / "whole")))
    stopped(prepare(recipe, say=lambda _: None), 3)
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = replace(recipe, data=DataConfig(path=str(tmp_path / "moved"), size=64))
    assert same(train(moved, resume=True), whole)
    build_folder(draw_folder(tmp_path / "others", count=8), tmp_path / "data", Square(32), processes=1)
    with pytest.raises(ZaoziError, match="was trained on other data"):
        prepare(recipe, resume=True)


def test_a_clock_ends_the_run_and_its_rates(tiny_recipe: Recipe) -> None:
    recipe = with_train(tiny_recipe, max_minutes=2 / 60)
    start = time.monotonic()
    run = prepare(recipe, say=lambda _: None)  # preparing counts
    folder = train_run(run)
    assert 2.0 <= run.seconds <= time.monotonic() - start
    entries = [json.loads(line) for line in (folder.parent / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["rate"] < 0.2 * max(e["rate"] for e in entries) + 0.05
    assert 1.9 <= entries[-1]["seconds"] < 6


def test_starting_from_other_weights(tiny_recipe: Recipe, tmp_path: Path) -> None:
    train(with_train(tiny_recipe, out=str(tmp_path / "first")))
    first = load_model(tmp_path / "first" / "step-00000006")
    second = prepare(
        with_train(tiny_recipe, out=str(tmp_path / "second"), init_from=str(tmp_path / "first")), say=lambda _: None
    )
    assert same(dict(first.state_dict()), dict(second.training.model.state_dict()))
    assert second.step == 0
    train_run(second)
    again = prepare(with_train(tiny_recipe, out=str(tmp_path / "second")), resume=True)
    assert again.history == second.history, "a resumed run knows where it came from"
    release_model(tmp_path / "second", tmp_path / "released", "both")
    runs = history(tmp_path / "released")
    assert [run["steps"] for run in runs] == [6, 6]
    assert [run["began_with"] for run in runs] == ["", sha256(tmp_path / "first" / "step-00000006" / WEIGHTS)]
    card = (tmp_path / "released" / "card.md").read_text()
    assert f"{2 * 6 * tiny_recipe.train.batch_size} samples" in card
    assert "| random weights |" in card
    assert f"| `{runs[1]['began_with'][:12]}`, the run above |" in card


def test_starting_from_a_model_with_other_properties(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Class vectors go to the class of the same value; what the other model lacks starts at zero."""
    from zaozi.train.state import start_from

    said: list[str] = []
    config = prepare(tiny_recipe, say=lambda _: None).config
    theirs = make_denoiser(replace(config, properties=(ClassProperty("kind", values=("a", "b", "c")),)), seed=1)
    fill_randomly(theirs)
    mine = (ClassProperty("kind", values=("c", "d", "a")), NumberProperty("size"))
    own = make_denoiser(replace(config, properties=mine))
    start_from(own, theirs, Path("theirs"), said.append)
    table, source = (m.network.properties.parts["of_kind"].weight for m in (own, theirs))
    assert torch.equal(table[1], source[3])
    assert torch.equal(table[3], source[1])
    assert table[2].abs().max() == table[0].abs().max() == 0
    assert torch.equal(own.network.embed.weight, theirs.network.embed.weight)
    assert said == ["the property 'size' starts from nothing; theirs has none like it"]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("train", "seed", -1),
        ("network", "patch", 0),
        ("optim", "clip", 0.0),
        ("train", "ema", 1.5),
        ("optim", "lr", -1.0),
    ],
)
def test_numbers_out_of_range_are_named(tiny_recipe: Recipe, section: str, key: str, value: float) -> None:
    with pytest.raises(ZaoziError, match=rf"^{section}\.{key} {value} is out of range; use"):
        replace(getattr(tiny_recipe, section), **{key: value})
    values = to_dict(tiny_recipe)
    values[section][key] = value
    with pytest.raises(ZaoziError, match=rf"^{section}\.{key} {value} is out of range; use"):
        from_dict(Recipe, values)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(tiny_recipe: Recipe, number: int) -> None:
    said: list[str] = []
    run = prepare(with_train(tiny_recipe, steps=10_000), say=said.append)

    class Interrupt(Callback):
        def after_step(self, run: Run) -> None:
            if run.step == 4:
                os.kill(os.getpid(), number)

    assert train_run(run, [*usual(), Interrupt()]).name == "step-00000005"
    assert "--resume" in said[-1]


@pytest.mark.parametrize(
    ("tiles", "avx512", "half"), [(True, True, True), (False, True, True), (True, False, True), (False, False, False)]
)
def test_half_precision_where_the_processor_has_instructions_for_it(
    tiles: bool, avx512: bool, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    cpu = torch.device("cpu")
    assert precision("auto", cpu) == (torch.bfloat16 if half else torch.float32)
    assert precision("fp32", cpu) == torch.float32
    assert precision("bf16", cpu) == torch.bfloat16


def test_rates_and_average() -> None:
    config = MuonConfig(warmup=10, flat=0.6, final=0.02)
    assert rate(config, 0, 0.0) == pytest.approx(0.1)
    assert rate(config, 100, 0.3) == rate(config, 100, 0.6) == 1.0
    assert rate(config, 100, 0.8) == pytest.approx(0.51)
    assert rate(config, 100, 1.0) == pytest.approx(0.02)
    assert [ema_decay(0.9, s) for s in (0, 90, 10_000)] == [0.1, 0.9, 0.9]
    average, weights = [torch.zeros(2)], [torch.ones(2)]
    ema_update(average, weights, 0.75)
    assert torch.equal(average[0], torch.full((2,), 0.25))


def test_muon_moves_the_blocks_matrices_alone(tiny_recipe: Recipe) -> None:
    model = prepare(tiny_recipe, say=lambda _: None).training.model.network
    matrices = block_matrices(model)
    assert len(matrices) == 2 * 6 + 4
    optimisers = tiny_recipe.optim.build(model)
    count = sum(p.numel() for o in optimisers.values() for g in o.param_groups for p in g["params"])
    assert count == sum(p.numel() for p in model.parameters())


def test_restored_optimisers_lie_in_memory_as_their_weights_do() -> None:
    """Checkpoints are written contiguous; fused steps refuse moments of another layout."""
    with lent_generator(0):
        network = torch.nn.Conv2d(3, 5, 3)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimisers = MuonConfig().build(network)
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimisers["adamw"].step()
    kept = {name: value.contiguous().clone() for name, value in flat_state(optimisers).items()}
    load_flat_state(optimisers, kept)
    state = optimisers["adamw"].state[network.weight]
    assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == network.weight.stride()
    assert all(torch.equal(kept[name], value) for name, value in flat_state(optimisers).items())


def test_what_is_hidden_is_hidden_at_its_rate() -> None:
    count = 8000
    cond = replace(
        random_cond(count, width=2),
        properties={"kind": torch.ones(count, dtype=torch.long), "size": torch.ones(count)},
    )
    found = drop(cond, PROPERTIES, text=0.1, together=0.5, generator=training_generator(0))
    assert float((~found.mask.any(1)).float().mean()) == pytest.approx(0.1, abs=0.015)
    kind, size = found.properties["kind"] > 0, ~found.properties["size"].isnan()
    assert float(kind.float().mean()) == pytest.approx(0.5 * 0.7, abs=0.02)
    assert float((kind & size).float().mean()) == pytest.approx(0.5 * 0.49, abs=0.02)


def test_hints_are_told_at_their_rate(tiny_recipe: Recipe) -> None:
    run = prepare(tiny_recipe, say=lambda _: None)
    plain = run.batches
    pairs = replace(plain.pairs, columns=plain.pairs.columns | {"hints": [[plain.pairs.texts[0]]] * len(plain.pairs)})
    recipe = with_train(tiny_recipe, hint_rate=0.25, batch_size=len(pairs))
    batches = Batches(recipe, pairs, plain.texts, plain.schedule, plain.space)
    rows = np.arange(len(pairs))
    told = np.stack([batches._told(rows, training_generator(i)) for i in range(200)])
    share = (told == plain.places[0]).all(-1)[:, 1:].mean()
    assert share == pytest.approx(0.25, abs=0.03)
    assert (plain._told(rows, training_generator(0)) == plain.places).all()
    with pytest.raises(ZaoziError, match="no column 'hints'"):
        _ = Batches(recipe, plain.pairs, plain.texts, plain.schedule, plain.space).hints
    held_out = replace(pairs, columns=plain.pairs.columns | {"hints": [["never read"]] * len(pairs)})
    assert len(Batches(recipe, held_out, plain.texts, plain.schedule, plain.space).cond(rows)) == len(pairs)


def test_batches_in_a_devices_memory_are_the_same_but_for_the_noise(small_glyphs: Path, tmp_path: Path) -> None:
    recipe = read_recipe(Path("base"))
    recipe = replace(recipe, data=replace(recipe.data, path=str(small_glyphs)), space=HalvedConfig(width=4, steps=1))
    recipe = with_train(recipe, out=str(tmp_path), batch_size=16, init_from="", space_from="", compile=False, shift=1)
    run = prepare(recipe, say=lambda _: None)
    held = Resident(run.batches, torch.device("cpu"))
    seen = []
    for step in (0, 7):
        one, other = run.batches.at(step, 1, 2), held.at(step, 1, 2)
        assert len(one.x0) == 8
        torch.testing.assert_close(other.x0, one.x0)
        assert torch.equal(torch.as_tensor(other.level.t), torch.as_tensor(one.level.t))
        length = one.cond.tokens.shape[1]
        assert not other.cond.mask[:, length:].any()
        assert torch.equal(other.cond.mask[:, :length], one.cond.mask)
        real = one.cond.mask[..., None]
        torch.testing.assert_close(other.cond.tokens[:, :length] * real, one.cond.tokens * real)
        torch.testing.assert_close(other.cond.pooled, one.cond.pooled)
        for name, value in one.cond.properties.items():
            torch.testing.assert_close(other.cond.properties[name], value, equal_nan=True)
        assert torch.equal(other.eps, held.at(step, 1, 2).eps)
        seen.append(other.eps)
    assert float(torch.cat(seen).std()) == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(*seen)
    assert on_device(run.batches, torch.device("cpu")) is run.batches
    assert size_of(run.batches) >= held.kept.nbytes + held.tokens.nbytes


@pytest.mark.skipif(not (SHIPPED / "base").is_dir(), reason="no shipped model")
def test_the_recipe_for_a_gpu_trains_base_for_fifty_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, with few glyphs and small batches that come from the device's memory, as they do on a GPU."""
    build_glyphs(tmp_path / "data", limit=300)
    monkeypatch.setattr("zaozi.train.prepare.on_device", Resident)
    recipe = read_recipe(Path("base-gpu"))
    base = read_config(SHIPPED / "base")
    recipe = replace(recipe, data=replace(recipe.data, path=str(tmp_path / "data")))
    recipe = with_train(
        recipe,
        out=str(tmp_path / "run"),
        max_minutes=0.0,
        steps=50,
        batch_size=4,
        compile=False,
        device="cpu",
        precision="fp32",
    )
    said: list[str] = []
    run = prepare(recipe, say=said.append)
    assert (run.config.space, run.config.diffusion) == (base.space, base.diffusion)
    assert replace(run.config.network, dropout=0.0) == base.network  # type: ignore[call-arg]
    assert run.began_with == sha256(SHIPPED / "base" / WEIGHTS)
    train_run(run)
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = {entry["step"]: entry["loss"] for entry in entries if "loss" in entry}
    assert list(losses) == [20, 40, 50]
    assert losses[50] < 2 * losses[20]


def test_an_unsure_text_is_moved_as_a_whole() -> None:
    cond = random_cond(500, width=64)
    moved = perturb_text(cond, 0.5, training_generator(1))
    by = (moved.tokens - cond.tokens)[:, 0]  # (B, D)
    assert (moved.tokens - cond.tokens)[:, -1] == pytest.approx(by, abs=1e-5)
    assert float(by.std()) == pytest.approx(0.5 * float(cond.tokens[cond.mask].square().mean().sqrt()), rel=0.05)
    two = perturb_text(cond.take(slice(0, 2)), 0.5, training_generator(1))
    assert torch.allclose(two.tokens, moved.tokens[:2]), "whatever else the batch holds"
    assert float((moved.pooled - cond.pooled).std()) == pytest.approx(0.5 * float(cond.pooled.std()), rel=0.05)
    assert perturb_text(cond, 0.0, training_generator(1)) is cond


def test_shifts_move_and_fill_with_white() -> None:
    x = torch.ones(200, 1, 8, 8)
    x[:, :, 4, 4] = -1.0
    moved = shifted(x, 2, training_generator(1))
    places = {tuple(p.squeeze(0).nonzero().tolist()[0]) for p in (moved < 0)}
    assert places == {(r, c) for r in range(2, 7) for c in range(2, 7)}
    assert shifted(x, 0, training_generator(1)) is x


def test_x0_error_of_known_denoisers(tiny_recipe: Recipe) -> None:
    """A fresh `sample` network says zero, whose error is the pictures' mean square at every level."""
    model = prepare(tiny_recipe, say=lambda _: None).training.model.eval()
    x0 = torch.rand(6, *model.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    errors = x0_error(model, x0, random_cond(6), batch=4)
    assert len(errors) == len(LOGSNRS)
    assert errors == pytest.approx([float(x0.square().mean())] * len(LOGSNRS), rel=1e-5)


def test_two_processes_end_by_one_clock(tiny_recipe: Recipe, tmp_path: Path) -> None:
    out = torchrun(with_train(tiny_recipe, max_minutes=2 / 60, save_minutes=0.3 / 60), tmp_path)
    assert "2 x cpu" in out
    assert newest(Path(tiny_recipe.train.out)) is not None


def torchrun(recipe: Recipe, folder: Path) -> str:
    """What two processes that train a recipe together print."""
    (folder / "recipe.json").write_text(json.dumps(to_dict(recipe)))
    code = f"""
import json, torch
torch.set_num_threads(1)
from zaozi.core.config import from_dict
from zaozi.core.recipe import Recipe
from zaozi.train.loop import train
from zaozi.train.prepare import prepare
train(prepare(from_dict(Recipe, json.load(open({str(folder / "recipe.json")!r})))))
"""
    (folder / "work.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(folder / "work.py")], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_two_processes_take_the_step_of_their_joint_batch(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """torchrun with two CPU processes against one process that sees both shares."""
    two = with_train(tiny_recipe, out=str(tmp_path / "two"), steps=2)
    assert "2 x cpu" in torchrun(two, tmp_path)

    one = prepare(with_train(two, out=str(tmp_path / "one")), say=lambda _: None)
    share = one.batches.at

    def joint(step: int, rank: int = 0, world: int = 1) -> Batch:
        a, b = share(step, 0, 2), share(step, 1, 2)
        level = Level(
            *(
                torch.cat([torch.as_tensor(u), torch.as_tensor(v)])
                for u, v in ((a.level.t, b.level.t), (a.level.alpha, b.level.alpha), (a.level.sigma, b.level.sigma))
            )
        )
        return Batch(torch.cat([a.x0, b.x0]), torch.cat([a.eps, b.eps]), level, Cond.cat(a.cond, b.cond))

    one.batches.at = joint  # type: ignore[method-assign]
    wanted, found = read_tensors(train_run(one) / RAW), read_tensors(tmp_path / "two" / "step-00000002" / RAW)
    assert all(torch.allclose(found[k], v, atol=1e-5) for k, v in wanted.items())


@pytest.mark.skipif(not hasattr(signal, "SIGCONT"), reason="no such signal here")
def test_a_clock_does_not_count_while_the_process_is_stopped() -> None:
    """A twin that measures pauses of 10 ms and is stopped for a second in between."""
    script = """
import time
from zaozi.train.clock import Clock
with Clock().listening() as clock:
    print("ready", flush=True)
    print(sum((time.sleep(0.01), clock.tick())[1] for _ in range(100)), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as twin:
        assert twin.stdout is not None
        assert twin.stdout.readline() == "ready\n"
        time.sleep(0.1)
        twin.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        twin.send_signal(signal.SIGCONT)
        assert 0.9 < float(twin.stdout.readline()) < 2.0


def test_speed_and_time_left_do_not_count_while_the_process_is_stopped(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes 30 s of work, however long it takes by the clock on the wall."""
    monkeypatch.setattr("zaozi.train.callbacks.SAY_SECONDS", 0.0)
    monkeypatch.setattr("zaozi.train.clock.Clock.tick", lambda _: 30.0)
    said: list[str] = []
    recipe = with_train(tiny_recipe, out=str(tmp_path / "run"), steps=40, max_minutes=0.0, self_check=False)
    train_run(prepare(recipe, say=said.append))
    speed = recipe.train.batch_size / 30
    line = next(line for line in said if line.startswith("step 20,"))
    assert line.endswith(f", {speed:.0f} samples/s, 10 min left")
    entry = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert entry["samples_per_s"] == round(speed, 1)


def test_room_for_checkpoints_is_asked_for_before_the_run(tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(ZaoziError, match=r"keeping checkpoints needs \d+ MB and .* has 0 MB left; free some space"):
        prepare(tiny_recipe, say=lambda _: None)
    assert not list(Path(tiny_recipe.train.out).glob("*"))


def test_a_run_leaves_a_released_models_recipe_as_it_is(tiny_recipe: Recipe, tmp_path: Path) -> None:
    train(tiny_recipe)
    release_model(Path(tiny_recipe.train.out), tmp_path / "mine", "mine")
    kept = (tmp_path / "mine" / "recipe.json").read_bytes()
    folder = train_run(prepare(with_train(tiny_recipe, out=str(tmp_path / "mine"), seed=3), say=lambda _: None))
    assert (tmp_path / "mine" / "recipe.json").read_bytes() == kept
    assert find_model(str(tmp_path / "mine")) == folder


def test_old_names_of_keys_still_load_with_a_warning(tiny_recipe: Recipe, tmp_path: Path) -> None:
    old = tmp_path / "old.toml"
    old.write_text("[train]\nsave_steps = 3\nvalidate_steps = 4\n")
    with pytest.warns(UserWarning, match=r"'train.save_steps' is now called 'train.save_every'"):
        recipe = read_recipe(old)
    assert (recipe.train.save_every, recipe.train.validate_every) == (3, 4)
    old.write_text("[train]\nsave_steps = 3\nsave_every = 4\n")
    with pytest.raises(ZaoziError, match=r"'train.save_steps' and 'train.save_every' are the same key"):
        read_recipe(old)

    # a run whose checkpoint has the old names goes on
    run = prepare(with_train(tiny_recipe, save_every=2), say=lambda _: None)
    folder = train_run(run)
    text = (folder / STATE).read_text()
    (folder / ".zaozi.json").unlink()
    (folder / STATE).write_text(
        text.replace('"schema": 2,', "")
        .replace('"save_every"', '"save_steps"')
        .replace('"sample_every"', '"sample_steps"')
    )
    assert read_state(folder)["recipe"].train.save_every == 2


def test_numbers_keep_the_scale_that_a_model_knows_them_by(tiny_recipe: Recipe) -> None:
    recipe = replace(tiny_recipe, properties=(NumberProperty("strokes"), ClassProperty("structure")))
    known = (NumberProperty("strokes", mean=12.0, std=4.0), NumberProperty("radical", mean=1.0))
    scaled = with_scales_of(recipe, known)
    assert (scaled.properties[0].mean, scaled.properties[0].std) == (12.0, 4.0)
    assert scaled.properties[1:] == recipe.properties[1:]


def test_batches_made_ahead_are_the_same(tiny_recipe: Recipe) -> None:
    run = prepare(tiny_recipe, say=lambda _: None)
    cpu = torch.device("cpu")
    with prefetched(run.batches, 3, cpu) as plain, prefetched(run.batches, 3, cpu, threads=3) as ahead:
        for _ in range(6):
            one, other = next(plain), next(ahead)
            assert torch.equal(one.x0, other.x0)
            assert torch.equal(one.eps, other.eps)
            assert torch.equal(one.cond.tokens, other.cond.tokens)


def test_a_batch_that_cannot_be_made_stops_training(tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare(tiny_recipe, say=lambda _: None)
    monkeypatch.setattr(run.batches, "at", lambda *_: 1 / 0)
    with prefetched(run.batches, 0, torch.device("cpu"), threads=2) as ahead, pytest.raises(ZeroDivisionError):
        next(ahead)


def test_latents_are_encoded_once_and_read_afterwards(tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(tiny_recipe)
    monkeypatch.setattr(Halved, "cacheable", True)
    cached = with_train(tiny_recipe, out=str(Path(tiny_recipe.train.out).parent / "cached"))
    run = prepare(cached, say=lambda _: None)
    assert run.batches.latents is not None
    assert run.batches.latents.shape == (len(run.batches.pairs), *run.training.model.shape)
    seen: list[int] = []
    monkeypatch.setattr(run.batches.space, "encode", lambda pictures: seen.append(len(pictures)))
    assert same(tensors(train_run(run)), plain)
    assert seen == [], "not once while it trains"
    monkeypatch.undo()
    monkeypatch.setattr(Halved, "cacheable", True)
    assert prepare(with_train(cached, out=cached.train.out + "2", shift=1), say=lambda _: None).batches.latents is None


def test_the_log_goes_to_the_trackers_that_are_named(tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare(with_train(tiny_recipe, sample_every=3), say=lambda _: None)
    folder = train_run(run).parent
    found = EventAccumulator(str(folder / "tensorboard")).Reload()
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [e.value for e in found.Scalars("loss")] == pytest.approx([e["loss"] for e in entries if "loss" in e])
    assert [e.step for e in found.Images("samples")] == [3, 6]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ZaoziError, match=r"train.trackers names wandb, which is not installed; run: pip install wandb"):
        prepare(with_train(tiny_recipe, out=str(folder) + "2", trackers=("wandb",)), say=lambda _: None)


def test_a_tracker_that_cannot_start_says_why(tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unstarted:
        def finish(self) -> None:
            raise AttributeError("run")

    def fail(accelerator: Accelerator, *_: object, **__: object) -> None:
        accelerator.trackers = [Unstarted()]
        raise ModuleNotFoundError("No module named 'client'", name="client")

    monkeypatch.setattr("accelerate.Accelerator.init_trackers", fail)
    with pytest.raises(ModuleNotFoundError, match="client"):
        train_run(prepare(tiny_recipe, say=lambda _: None))
