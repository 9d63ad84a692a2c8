"""Distillation to few steps: a student learns to make in one step what its teacher makes in two.

Progressive distillation (Salimans and Ho 2022, arXiv:2202.00512, algorithm 2) of a teacher with guidance (Meng et al. 2023,
arXiv:2210.03142, sec. 3). The teacher is a model with guidance, or an earlier student with twice the steps. The last student
can be a consistency model (Song et al. 2023, arXiv:2303.01469) on levels of its teacher: it learns the end of the teacher's
path from each of them, below pure noise from pictures of its own with noise, as in drawing (Yin et al. 2024, arXiv:2405.14867,
sec. 4.5). An adversarial loss makes its pictures as sharp as real ones (Sauer et al. 2023, arXiv:2311.17042).
`zaozi.train.students` runs one stage after the other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zaozi.core.errors import ZaoziError
from zaozi.core.files import sha256
from zaozi.core.recipe import DistilledConfig, ModelConfig, Recipe
from zaozi.core.sampling import Guidance
from zaozi.core.types import Cond, Denoise, Level, Shape
from zaozi.diffusion.levels import levels
from zaozi.diffusion.prediction import estimate
from zaozi.diffusion.process import add_noise
from zaozi.diffusion.schedules import T
from zaozi.model.adversary import Adversary
from zaozi.model.checkpoint import WEIGHTS, find_model, load_model
from zaozi.model.denoiser import Denoiser
from zaozi.model.snap import differing
from zaozi.pipeline import guided
from zaozi.train.batches import Batch

HUBER = 0.03
"""Error of a pixel, in [-1, 1], below which its loss is quadratic and above which it is linear."""
LEAST_SIGMA = 0.05


def ddim_step(denoise: Denoise, x_t: Tensor, t: Level, s: Level) -> Tensor:
    """Return x_s = alpha_s * x0_hat + sigma_s * eps_hat, `[B, C, h, w]`: one deterministic step of ddim, with a level per
    picture (arXiv:2010.02502, eq. 12).
    """
    guess = denoise(x_t, t)
    return add_noise(guess.x0, guess.eps, s)


def one_step_target(x_t: Tensor, x_s: Tensor, t: Level, s: Level) -> Tensor:
    """Return the x0_hat with which one step of ddim leads from x_t to x_s, `[B, C, h, w]`.

    x0 = (x_s - r * x_t) / (alpha_s - r * alpha_t) with r = sigma_s / sigma_t (arXiv:2202.00512, algorithm 2); on `linear_path`
    this is (t * x_s - s * x_t) / (t - s). If s is clean, it is x_s. Needs sigma_t > 0.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = t.per_picture(x_t), s.per_picture(x_t)
    ratio = sigma_s / sigma_t
    return (x_s - ratio * x_t) / (alpha_s - ratio * alpha_t)


def pseudo_huber(error: Tensor, c: float = HUBER) -> Tensor:
    """Return sqrt(error^2 + c^2) - c, element by element (Song and Dhariwal 2023, arXiv:2310.14189, eq. 7, per pixel)."""
    return (error.square() + c * c).sqrt() - c


class Distillation:
    """The loss of a student that draws in `steps` steps: from the two half steps of its teacher or, for a consistency model,
    from all steps that the teacher makes from there.
    """

    def __init__(
        self, teacher: Denoiser, how: DistilledConfig, device: torch.device, adversary: Adversary | None = None
    ) -> None:
        self.teacher, self.adversary = teacher.to(device), adversary
        self.prediction = teacher.config.diffusion.prediction
        # at all levels, since those of a batch differ
        self.guidance = Guidance(1.0 if teacher.config.distilled.steps else how.guidance, low=0.0)
        self.how, self.halves = how, how.teacher_steps
        ladder = levels(teacher.schedule, self.halves)[::-1]  # clean first: place k is the time k * T / halves
        where = device if device.type == "cuda" else torch.device("cpu")  # where the levels of batches are
        self.ladder = torch.tensor([(v.t, v.alpha, v.sigma) for v in ladder], dtype=torch.float64, device=where)

    def place(self, level: Level) -> Tensor:
        """Return how many of the teacher's steps lead from the levels of a batch to the clean end, `[B]`."""
        return (torch.as_tensor(level.t) * (self.halves / T)).round().long()

    def at(self, place: Tensor) -> Level:
        """Return the levels from which that many of the teacher's steps lead to the clean end."""
        return Level(*self.ladder[place].unbind(-1))

    @torch.no_grad()
    def target(self, x_t: Tensor, level: Level, cond: Cond) -> Tensor:
        """Return the x0_hat that takes the student in one step where the teacher's two steps lead, `[B, C, h, w]`; for a
        consistency model, where all of the teacher's steps lead.

        The teacher is guided towards everything that `cond` gives, and clamped as in drawing. Where nothing is given, there is
        nothing to guide towards, and its estimate is the unconditional one.
        """
        if self.how.is_consistent:
            return self.path_end(x_t, level, cond)
        denoise, place = guided(self.teacher, [(cond, 1.0)], self.guidance), self.place(level)
        middle, end = self.at(place - 1), self.at(place - 2)
        x_m = ddim_step(denoise, x_t, level, middle)
        return one_step_target(x_t, ddim_step(denoise, x_m, middle, end), level, end)

    def path_end(self, x_t: Tensor, level: Level, cond: Cond) -> Tensor:
        """Return the pictures to which the teacher's steps lead, `[B, C, h, w]`; those at noisier levels take more steps."""
        x, place = x_t.clone(), self.place(level)
        for step in range(self.halves, 0, -1):
            rows = (place >= step).nonzero().flatten()
            if len(rows):
                denoise = guided(self.teacher, [(cond.take(rows), 1.0)], self.guidance)
                begin, end = (self.at(torch.full_like(rows, to)) for to in (step, step - 1))
                x[rows] = ddim_step(denoise, x[rows], begin, end)
        return x

    def picture(self, network: nn.Module, x_t: Tensor, level: Level, cond: Cond) -> Tensor:
        """Return the student's x0_hat, `[B, C, h, w]`, in float32."""
        f = network(x_t, level.noise_share(len(x_t), x_t.device), cond).float()
        return estimate(self.prediction, f, x_t, level).x0

    @torch.no_grad()
    def drawn(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the x_t of a batch as a consistency model meets them in drawing, `[B, C, h, w]`: noise at the noisiest level,
        and below it the student's own pictures from the level above, clamped, with noise.

        The new noise of each level is that of other rows of the batch.
        """
        place, stride = self.place(batch.level), self.halves // self.how.steps
        x_t = add_noise(torch.zeros_like(batch.x0), batch.eps, self.at(torch.full_like(place, self.halves)))
        for number, step in enumerate(range(self.halves - stride, 0, -stride), start=1):
            rows = (place <= step).nonzero().flatten()
            if len(rows):
                eps = batch.eps.roll(number, 0)[rows]
                before, after = (self.at(torch.full_like(rows, to)) for to in (step + stride, step))
                x0 = self.picture(network, x_t[rows], before, batch.cond.take(rows)).clamp(-1, 1)
                x_t[rows] = add_noise(x0, eps, after)
        return x_t

    def __call__(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the mean of pseudo_huber(x0_hat - target) / max(sigma, 0.05) over a batch; a scalar.

        x_t is a noised training picture, at pure noise the noise alone, and for a consistency model `drawn`. With an adversary,
        its loss for x0_hat is added, times its weight; where gradients are computed, it makes a step before. Targets are float32
        in every precision of the networks.
        """
        x_t = self.drawn(network, batch) if self.how.is_consistent else add_noise(batch.x0, batch.eps, batch.level)
        wanted = self.target(x_t, batch.level, batch.cond)
        x0 = self.picture(network, x_t, batch.level, batch.cond)
        _, sigma = batch.level.per_picture(x_t)
        loss = (pseudo_huber(x0 - wanted) / sigma.clamp(min=LEAST_SIGMA)).mean()
        if self.adversary is not None:
            if torch.is_grad_enabled():
                self.adversary.step(x0, batch.x0)
            loss = loss + self.how.adversarial * self.adversary.loss(x0, batch.x0)
        return loss


def adversary_of(recipe: Recipe, shape: Shape, device: torch.device, world: int) -> Adversary | None:
    """Return the adversary of a recipe for pictures of `shape`, untrained; None if it has none. Raises `ZaoziError`."""
    if not recipe.distilled.adversarial:
        return None
    check_adversary(shape, world)
    return Adversary(shape[0], seed=recipe.train.seed, device=device)


def check_adversary(shape: Shape, world: int) -> None:
    """Raises `ZaoziError` if there can be no adversary for pictures of `shape` in `world` processes."""
    if world > 1:
        raise ZaoziError(f"an adversarial loss is trained in one process, not {world}; start without torchrun")
    _, height, width = shape
    if height % 2 or width % 2:
        raise ZaoziError(f"an adversarial loss needs an even width and height, not {width}x{height}; set it to 0")


def teacher_of(recipe: Recipe, state: dict[str, Any] | None) -> Denoiser | None:
    """Return the teacher of a recipe, `train.init_from`; None if it is no distillation. `state` is that of a resumed run.

    Raises `ZaoziError` if there is no teacher, it is not the one that the run began with, or it cannot be distilled so.
    """
    if not recipe.distilled.steps:
        return None
    if not recipe.train.init_from:
        raise ZaoziError("a distillation needs a teacher; give it with --init-from, or use zaozi distill MODEL")
    if recipe.distilled.teacher_steps % recipe.distilled.steps:
        raise ZaoziError(
            f"distilled.path {recipe.distilled.path} is not a multiple of distilled.steps {recipe.distilled.steps}; use one"
        )
    where = find_model(recipe.train.init_from)
    if state is not None and state.get("began_with") != sha256(where / WEIGHTS):
        raise ZaoziError(
            f"{where} is not the teacher with which this distillation began; put that one back, or start again with another --out"
        )
    teacher = load_model(where)
    check_teacher(teacher.config, recipe.distilled.teacher_steps)
    return teacher


def check_teacher(config: ModelConfig, steps: int) -> None:
    """Raises `ZaoziError` if a model cannot be a teacher that makes that number of steps."""
    if config.stage.factor > 1:
        raise ZaoziError(f"{config.name} is a super-resolution stage; distill the model whose pictures it enlarges")
    if config.diffusion.prediction == "epsilon":
        raise ZaoziError(
            f"{config.name} predicts epsilon, which says nothing of the picture at pure noise; distill a model that predicts "
            "sample, flow or v_prediction"
        )
    known = config.distilled
    if known.is_consistent:
        raise ZaoziError(
            f"{config.name} is a consistency model, whose path is a single step; distill {known.model} instead"
        )
    if (own := known.steps) and own != steps:
        way = f"distill it to {own // 2}, or" if own % 2 == 0 else "distill"
        raise ZaoziError(f"{config.name} draws in {own} steps, not {steps}; {way} {known.model} instead")


def check_student(student: ModelConfig, teacher: ModelConfig) -> None:
    """Raises `ZaoziError` if a student differs from its teacher in more than its name, its steps and the reach of its snap."""
    names = ("size", "channels", "network", "space", "diffusion", "text", "properties", "stage")
    if apart := differing(student, teacher, names):
        raise ZaoziError(
            f"the student has another {apart[0]} than {teacher.name}; use the same, or zaozi distill MODEL"
        )
