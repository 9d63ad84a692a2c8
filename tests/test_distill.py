"""Distillation: the target, the loss, exact resume, and how a student draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import PROPERTIES, fill_randomly, random_cond
from zaozi import Guidance, TextToImage, ZaoziError
from zaozi.cli.main import main
from zaozi.core import schema
from zaozi.core.config import to_dict
from zaozi.core.files import sha256
from zaozi.core.recipe import DiffusionConfig, DistillConfig, DistilledConfig, ModelConfig, Recipe, TextConfig
from zaozi.core.types import Denoise, Level
from zaozi.diffusion.levels import levels
from zaozi.diffusion.mixture import TWO
from zaozi.diffusion.prediction import from_x0
from zaozi.diffusion.process import add_noise
from zaozi.diffusion.samplers import ddim
from zaozi.diffusion.schedules import schedule
from zaozi.model.adversary import Adversary
from zaozi.model.checkpoint import STATE, STUDENT, WEIGHTS, find_model, read_config, read_tensors, save_model
from zaozi.model.denoiser import Denoiser, make_denoiser
from zaozi.model.release import release_model
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.nn.dit import DiTConfig
from zaozi.pipeline import guided
from zaozi.pipeline.likelihood import likelihood
from zaozi.train import students
from zaozi.train.batches import Batch
from zaozi.train.callbacks import Callback, usual
from zaozi.train.distill import Distillation, adversary_of, one_step_target, teacher_of
from zaozi.train.loop import train
from zaozi.train.prepare import prepare
from zaozi.train.run import Run
from zaozi.train.state import ADVERSARY
from zaozi.train.students import Stage, check_steps, distill, planned, student_recipe

CONFIG = ModelConfig(
    "teacher",
    32,
    1,
    DiTConfig(width=32, depth=1, head_width=16, patch=8),
    PixelsConfig(),
    DiffusionConfig(),
    TextConfig(max_tokens=16),
)


def trained(config: ModelConfig = CONFIG) -> Denoiser:
    """A model whose answers depend on everything."""
    model = make_denoiser(config).eval().requires_grad_(False)
    fill_randomly(model.network, 0.1)
    return model


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "model"
    save_model(folder, trained())
    return folder


@pytest.fixture(scope="module")
def how(tiny_data: Path) -> DistillConfig:
    return DistillConfig(samples=24, batch_size=8, precision="fp32", data=str(tiny_data), device="cpu")


@pytest.fixture(scope="module")
def student(teacher: Path, how: DistillConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distillation to two steps and to one."""
    out = tmp_path_factory.mktemp("student") / "run"
    assert distill(str(teacher), (2, 1), how, out)
    return out


def answering(x0: torch.Tensor) -> Denoise:
    """A denoiser with this estimate of the picture."""
    return lambda x, level: from_x0(x0, x, level)


def silence(draw: int) -> torch.Tensor:
    raise AssertionError("deterministic steps take no noise")


@pytest.mark.parametrize("name", ["linear_path", "cosine", "scaled_linear"])
def test_one_step_towards_the_target_leads_where_two_steps_of_an_exact_teacher_do(name: str) -> None:
    path = schedule(name)
    g = torch.Generator().manual_seed(0)
    x0, eps = TWO.sample(50, g), torch.randn(50, 1, 1, 2, dtype=torch.float64, generator=g)
    for t, m, s in ((1000.0, 937.5, 875.0), (500.0, 437.5, 375.0), (125.0, 62.5, 0.0)):
        way = [path.level(time) for time in (t, m, s)]
        x_t = add_noise(x0, eps, way[0])
        x_s = ddim(TWO.denoise, x_t, way, noise=silence)
        x = one_step_target(x_t, x_s, way[0], way[2])
        once = ddim(answering(x), x_t, [way[0], way[2]], noise=silence)
        torch.testing.assert_close(once, x_s, rtol=0, atol=1e-12)
        if name == "linear_path":
            torch.testing.assert_close(x, (t * x_s - s * x_t) / (t - s), rtol=0, atol=1e-12)


def test_targets_of_a_batch_are_those_of_the_guided_teacher_one_by_one() -> None:
    """Levels differ within the batch; the steps are those of the sampler, with a number as level."""
    model, steps, scale = trained(replace(CONFIG, properties=PROPERTIES)), 4, 3.0
    distillation = Distillation(model, DistilledConfig(steps, scale), torch.device("cpu"))
    fine = levels(model.schedule, 2 * steps)
    places = torch.tensor([0, 2, 6, 4, 0])
    cond = random_cond(5)
    given = {"kind": torch.tensor([1, 2, 0, 0, 1]), "size": torch.tensor([5.0, torch.nan, torch.nan, torch.nan, 3.0])}
    cond = replace(cond.without_text(torch.arange(5) == 3), properties=given)
    x_t = torch.randn(5, *model.shape, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([float(fine[k].t) for k in places], dtype=torch.float64)
    targets = distillation.target(x_t, model.schedule.level(times), cond)
    for row, k in enumerate(places.tolist()):
        own, x = cond.take(slice(row, row + 1)), x_t[row : row + 1]
        denoise = guided(model, [(own, 1.0)], Guidance(1.0 if row == 3 else scale, low=0.0))  # row 3 has no condition
        x_s = ddim(denoise, x, fine[k : k + 3], noise=silence)
        once = ddim(answering(targets[row : row + 1]), x, [fine[k], fine[k + 2]], noise=silence)
        torch.testing.assert_close(once, x_s, rtol=0, atol=2e-5)
    assert targets.abs().max() <= 1 + 1e-5, "a mean of the teacher's clamped estimates"


@pytest.mark.parametrize("how", [(4, 3.0, "teacher", "consistency"), (2, 3.0, "teacher", "consistency", 4)])
def test_targets_of_a_consistency_model_are_the_ends_of_its_teachers_paths(how: tuple[Any, ...]) -> None:
    model, steps = trained(replace(CONFIG, distilled=DistilledConfig(4, 3.0))), 4
    distillation = Distillation(model, DistilledConfig(*how), torch.device("cpu"))
    grid, cond, places = levels(model.schedule, steps), random_cond(5), [0, 2, 3, 1, 0]
    x_t = torch.randn(5, *model.shape, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([float(grid[k].t) for k in places], dtype=torch.float64)
    targets = distillation.target(x_t, model.schedule.level(times), cond)
    for row, k in enumerate(places):
        denoise = guided(model, [(cond.take(slice(row, row + 1)), 1.0)], Guidance(1.0))
        end = ddim(denoise, x_t[row : row + 1], grid[k:], noise=silence)
        torch.testing.assert_close(targets[row : row + 1], end, rtol=0, atol=2e-5)


@pytest.mark.parametrize("path", [0, 4, 8])
def test_a_consistency_model_learns_from_what_it_draws(path: int) -> None:
    """Its x_t are those of the sampler: noise, then its own pictures with new noise."""
    model, steps = trained(), 4
    distillation = Distillation(
        trained(), DistilledConfig(steps, 3.0, "teacher", "consistency", path), torch.device("cpu")
    )
    grid, cond, places = levels(model.schedule, steps), random_cond(5), [0, 2, 3, 1, 0]
    eps = torch.randn(5, *model.shape, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([float(grid[k].t) for k in places], dtype=torch.float64)
    x_t = distillation.drawn(model.network, Batch(torch.zeros_like(eps), eps, model.schedule.level(times), cond))
    for row, k in enumerate(places):
        denoise = guided(model, [(cond.take(slice(row, row + 1)), 1.0)], Guidance(1.0))
        new = [eps[row - draw : row - draw + 1] if row >= draw else eps[row - draw :][:1] for draw in range(5)]
        x = eps[row : row + 1]
        for draw in range(1, k + 1):
            x = add_noise(denoise(x, grid[draw - 1]).x0, new[draw], grid[draw])
        torch.testing.assert_close(x_t[row : row + 1], x, rtol=0, atol=2e-5)


def test_an_adversary_learns_in_training_only_and_is_part_of_the_loss() -> None:
    model = trained()
    adversary = Adversary(1)
    how = DistilledConfig(2, 3.0, "teacher", adversarial=0.5)
    plain = Distillation(trained(), replace(how, adversarial=0.0), torch.device("cpu"))
    judged = Distillation(trained(), how, torch.device("cpu"), adversary)
    eps = torch.randn(4, *model.shape, generator=torch.Generator().manual_seed(1))
    level = model.schedule.level(torch.tensor([1000.0, 500.0, 500.0, 1000.0], dtype=torch.float64))
    batch = Batch(torch.ones_like(eps), eps, level, random_cond(4))
    with torch.no_grad():
        before, without = judged(model.network, batch), plain(model.network, batch)
    assert adversary.steps == 0
    made = judged.picture(model.network, add_noise(batch.x0, eps, level), level, batch.cond)
    torch.testing.assert_close(before - without, 0.5 * adversary.loss(made, batch.x0).detach())
    for _ in range(20):
        loss = judged(model.network, batch)
    assert adversary.steps == 20
    assert float(loss) > float(before), "it tells the student's pictures from the others"


def test_an_adversary_needs_one_process_and_an_even_size() -> None:
    recipe = Recipe(distilled=DistilledConfig(2, adversarial=0.5))
    with pytest.raises(ZaoziError, match="in one process, not 2"):
        adversary_of(recipe, (1, 32, 32), torch.device("cpu"), 2)
    with pytest.raises(ZaoziError, match="even width and height, not 9x9"):
        adversary_of(recipe, (1, 9, 9), torch.device("cpu"), 1)
    assert adversary_of(Recipe(), (1, 9, 9), torch.device("cpu"), 2) is None


def test_an_adversary_that_cannot_be_is_refused_before_the_first_student(
    teacher: Path, how: DistillConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ZaoziError, match="in one process, not 2"):
        distill(str(teacher), (2, 1), replace(how, adversarial=0.5), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_distillation_can_end_with_a_consistency_model(teacher: Path, how: DistillConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert distill(str(teacher), (2,), replace(how, consistency=True), out)
    assert sorted(p.name for p in out.iterdir()) == ["2-steps", "2-steps-or-fewer"]
    config = read_config(find_model(str(out)))
    assert config.distilled == DistilledConfig(2, 4.0, "teacher", "consistency")
    assert config.distilled.usual().sampler == "consistency"
    began = json.loads((find_model(str(out)) / STATE).read_text())["began_with"]
    assert began == sha256(find_model(str(out / "2-steps")) / WEIGHTS)
    with pytest.raises(ZaoziError, match="is a consistency model"):
        distill(str(out), (1,), how, tmp_path / "more")


def test_a_consistency_model_can_have_fewer_levels_than_its_teacher(
    teacher: Path, how: DistillConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert distill(str(teacher), (2,), replace(how, consistency=True, consistency_steps=1), out)
    assert sorted(p.name for p in out.iterdir()) == ["1-steps-or-fewer", "2-steps"]
    config = read_config(find_model(str(out)))
    assert config.distilled == DistilledConfig(1, 4.0, "teacher", "consistency", 2)
    with pytest.raises(ZaoziError, match="--consistency-steps 3 does not divide 4"):
        distill(str(teacher), (4,), replace(how, consistency=True, consistency_steps=3), tmp_path / "more")
    odd = Recipe(distilled=DistilledConfig(2, 4.0, "teacher", "consistency", 3))
    with pytest.raises(ZaoziError, match=r"distilled\.path 3 is not a multiple of distilled\.steps 2"):
        teacher_of(replace(odd, train=replace(odd.train, init_from=str(teacher))), None)
    with pytest.raises(ZaoziError, match="--consistency-steps 2 needs --consistency"):
        distill(str(teacher), (4,), replace(how, consistency_steps=2), tmp_path / "more")


def test_the_last_student_can_start_from_an_earlier_one(
    teacher: Path, how: DistillConfig, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[dict[str, torch.Tensor]]()
    earlier = find_model(str(student))

    def seen(run: Run) -> Path:
        begun.append({k: v.clone() for k, v in run.training.model.network.state_dict().items()})
        return train(run)

    monkeypatch.setattr(students, "train", seen)
    assert distill(str(teacher), (2, 1), replace(how, student_from=str(earlier)), tmp_path / "run")
    known = read_tensors(earlier / WEIGHTS)
    for name, value in begun[1].items():
        assert torch.equal(value, known[f"network.{name}"])
    assert not all(torch.equal(value, known[f"network.{name}"]) for name, value in begun[0].items())
    state = json.loads((find_model(str(tmp_path / "run")) / STATE).read_text())
    assert state["began_with"] == sha256(find_model(str(tmp_path / "run" / "2-steps")) / WEIGHTS), "its teacher"
    unlike = replace(read_config(earlier), text=TextConfig(max_tokens=8))
    save_model(tmp_path / "unlike", make_denoiser(unlike))
    with pytest.raises(ZaoziError, match="has another text"):
        distill(str(teacher), (2, 1), replace(how, student_from=str(tmp_path / "unlike")), tmp_path / "more")


def test_a_student_learns_what_its_teacher_does(teacher: Path, how: DistillConfig, tmp_path: Path) -> None:
    recipe = student_recipe(teacher, Stage(2, 320), how)
    recipe = replace(recipe, optim=replace(recipe.optim, warmup=5), train=replace(recipe.train, out=str(tmp_path)))
    run = prepare(recipe, say=lambda _: None)
    batch = run.batches.at(1000)
    assert {float(t) for t in torch.as_tensor(batch.level.t)} == {500.0, 1000.0}
    with torch.no_grad():
        before = float(run.loss(run.training.model.network, batch))
    train(run)
    with torch.no_grad():
        assert float(run.loss(run.training.average.network, batch)) < 0.8 * before
    entry = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert entry["step"] == 40


def test_rates_are_a_third_and_the_last_student_sees_more(teacher: Path, how: DistillConfig) -> None:
    usual_recipe, recipe = Recipe(), student_recipe(teacher, Stage(8, 100), how)
    assert recipe.optim.lr == usual_recipe.optim.lr / 3
    assert to_dict(recipe.optim)["muon_lr"] == to_dict(usual_recipe.optim)["muon_lr"] / 3
    assert recipe.train.steps == 13
    assert [stage.samples for stage in planned((8, 4, 2), DistillConfig())] == [60_000, 60_000, 80_000]
    stages = planned((4, 2), DistillConfig(consistency=True, adversarial=0.5))
    assert [(stage.sampler, stage.adversarial) for stage in stages] == [("ddim", 0), ("ddim", 0), ("consistency", 0.5)]


class StopAfter(Callback):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def after_step(self, run: Run) -> None:
        self.left -= 1
        run.stopping = self.left == 0


@pytest.mark.parametrize("adversarial", [0.0, 0.5])
def test_a_resumed_distillation_equals_the_uninterrupted_one_bit_for_bit(
    adversarial: float,
    teacher: Path,
    how: DistillConfig,
    student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, seen = tmp_path / "run", list[str]()
    if adversarial:
        how, student = replace(how, adversarial=adversarial), tmp_path / "whole"
        assert distill(str(teacher), (2, 1), how, student)

    def stopped(run: Run) -> Path:
        """The first run is trained to its end, the second is stopped."""
        seen.append(run.out.name)
        return train(run, [*usual(), StopAfter(1 if len(seen) == 2 else 9)])

    monkeypatch.setattr(students, "train", stopped)
    assert not distill(str(teacher), (2, 1), how, out)
    assert seen == ["2-steps", "1-steps"]
    monkeypatch.undo()
    with pytest.raises(ZaoziError, match="already has a checkpoint; pass --resume"):
        distill(str(teacher), (2, 1), how, out)
    assert distill(str(teacher), (2, 1), how, out, resume=True)
    for name in ("2-steps", "1-steps"):
        whole, halves = find_model(str(student / name)), find_model(str(out / name))
        assert whole.name == halves.name == "step-00000003"
        assert (whole / ADVERSARY).is_file() == (adversarial > 0 and name == "1-steps")
        for file in sorted(whole.glob("*.safetensors")):
            a, b = read_tensors(file), read_tensors(halves / file.name)
            assert a.keys() == b.keys()
            assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_distillation_resumes_only_with_its_own_teacher(
    teacher: Path, how: DistillConfig, student: Path, tmp_path: Path
) -> None:
    other = make_denoiser(CONFIG, seed=1)
    save_model(tmp_path / "other", other)
    with pytest.raises(ZaoziError, match="is not the teacher with which this distillation began"):
        distill(str(tmp_path / "other"), (2, 1), how, student, resume=True)


@pytest.mark.parametrize("released", [False, True])
def test_a_student_draws_in_its_steps_and_takes_no_guidance(
    student: Path, released: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = student
    if released:
        model = tmp_path / "released"
        release_model(student, model, "quick")
    assert read_config(find_model(str(model))).distilled == DistilledConfig(1, 4.0, "teacher")

    def generated(*words: str) -> int:
        return main(["generate", "--model", str(model), "--count", "1", "--out", str(tmp_path / "out"), *words])

    assert generated("a disc") == 0
    made = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["sampling"]
    assert (made["steps"], made["sampler"], made["guidance"]["scale"]) == (1, "ddim", 1.0)
    assert generated("a disc", "--steps", "3", "--guidance=1") == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["sampling"]["steps"] == 3
    capsys.readouterr()
    for words in (["--guidance", "5"], ["--negative", "a box"], ["--to", "a box", "--count", "2"]):
        assert generated("a disc", *words) == 2
        said = capsys.readouterr().err
        assert "does not take" in said
        assert said.endswith("or the undistilled model teacher\n")
        assert said.count("\n") == 1
    assert generated("--compose", "a disc", "--compose", "a box=0.5") == 2
    assert "composition" in capsys.readouterr().err
    artist = TextToImage.from_pretrained(model)
    assert artist.usual.steps == 1
    assert len(artist("a disc")) == 1
    with pytest.raises(ZaoziError, match="does not take a negative prompt"):
        artist("a disc", negative="a box")
    with pytest.raises(ZaoziError, match="does not take guidance 5"):
        artist("a disc", guidance_scale=5.0)
    with pytest.raises(ZaoziError, match="follows no path; use the undistilled model teacher"):
        likelihood(artist, artist("a disc"))


def test_a_student_draws_what_its_network_says_in_one_step(student: Path) -> None:
    artist = TextToImage.from_pretrained(student)
    seen: list[tuple[float, torch.Tensor, torch.Tensor]] = []
    artist("a disc", seed=3, on_step=lambda t, x, x0, eps: seen.append((t, x, x0)))
    ((t, x, x0),) = seen
    said = artist.model(x, Level(1000.0, 0.0, 1.0), artist.encode(["a disc"])).x0
    assert t == 1000.0
    torch.testing.assert_close(x0, said.clamp(-1, 1))


def test_configs_without_the_section_are_those_of_undistilled_models() -> None:
    values = schema.written(CONFIG)
    del values["distilled"]
    config = schema.read(ModelConfig, values)
    assert config == CONFIG
    assert config.distilled.usual().guidance.scale > 1
    recipe = schema.written(Recipe())
    del recipe["distilled"]
    assert schema.read(Recipe, recipe).distilled.steps == 0


def test_what_cannot_be_distilled_is_said_before_any_work(
    teacher: Path, how: DistillConfig, student: Path, tmp_path: Path
) -> None:
    for steps in ((8, 2), (3, 1), (0,), ()):
        with pytest.raises(ZaoziError, match="write for instance 8,4,2,1"):
            check_steps(steps)
    with pytest.raises(ZaoziError, match="draws in 2 steps, not 4; distill it to 1, or teacher instead"):
        distill(str(student / f"2{STUDENT}"), (2, 1), how, tmp_path / "a")
    noise = replace(CONFIG, diffusion=DiffusionConfig(prediction="epsilon"))
    save_model(tmp_path / "noise", make_denoiser(noise))
    with pytest.raises(ZaoziError, match="predicts epsilon"):
        distill(str(tmp_path / "noise"), (1,), how, tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
