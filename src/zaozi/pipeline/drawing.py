"""Sample one batch of pictures from one set of conditions: `draw` and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from zaozi.core.arrays import Tensor, averaged, lerp, library, like, on, single, without_gradients
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.noise import between, picture_noise
from zaozi.core.precision import autocast
from zaozi.core.recipe import ModelConfig
from zaozi.core.sampling import Guidance, Sampling
from zaozi.core.types import Cond, Conditional, Denoise, Level
from zaozi.diffusion.guidance import Scale, Weight, checked, clamped, composed, dynamic, inpainted, interval, rising
from zaozi.diffusion.levels import check_levels, levels
from zaozi.diffusion.samplers import sampler as find_sampler
from zaozi.model.stage import augmented, enlarged

if TYPE_CHECKING:
    from zaozi.model.denoiser import Denoiser

Watch = Callable[[float, Tensor, Tensor, Tensor], None]
"""Callback `on_step(t, x_t, x0_hat, eps_hat)`: the time before the step and three tensors `[B, C, s, s]`."""


def guided(
    model: Denoiser,
    wanted: Sequence[tuple[Cond, Weight]],
    how: Guidance,
    *,
    negative: Cond | None = None,
    weak: Conditional | None = None,
) -> Denoise:
    """Wrap the model with guidance and range limiting. Scale 0 ignores the condition at every level.

    Raises `ZaoziError` if a guidance value is out of range.
    """
    if how.curve not in ("constant", "rising"):
        raise unknown("guidance curve", how.curve, ("constant", "rising"))
    if how.threshold not in ("clamp", "dynamic", "none"):
        raise unknown("threshold", how.threshold, ("clamp", "dynamic", "none"))
    if how.plus and how.curve == "rising":
        raise ZaoziError("CFG++ and a rising scale do not go together; choose one")
    scale: Scale = (
        checked(how.scale, plus=how.plus) if how.curve == "constant" else rising(how.scale, how.low, how.high)
    )
    within = interval(scale, how.low, how.high)
    if how.scale != 0.0 and (how.low, how.high) != (0.0, 1.0):
        scale = within
    denoise = composed(model, wanted, scale, negative=negative, weak=weak, rescale=how.rescale, plus=how.plus)
    if model.space.bounds is None or how.threshold == "none":
        return denoise
    limit = clamped if how.threshold == "clamp" else dynamic
    return limit(denoise, *model.space.bounds, plus=how.plus)


def check_sampling(how: Sampling) -> None:
    """Raises `ZaoziError` if a number is out of range, a name is unknown, or options do not go together."""
    find_sampler(how.sampler)
    if how.batch_size < 1:
        raise ZaoziError(f"batch size {how.batch_size} is out of range; use 1 or more")
    check_levels(how.steps, how.grid)
    if how.eta and (how.sampler != "ddim" or not 0 <= how.eta <= 1):
        raise ZaoziError(f"eta {how.eta} does not suit '{how.sampler}'; use it with ddim, from 0 to 1")


def check_strength(strength: float) -> None:
    """Raises `ZaoziError` unless 0 < strength <= 1."""
    if not 0 < strength <= 1:
        raise ZaoziError(f"strength {strength} is out of range; use above 0 (nearly as given) to 1 (all new)")


def check_distilled(config: ModelConfig, how: Guidance, *, plain: bool) -> None:
    """Raises `ZaoziError` if a distilled model is to be guided, or the condition is not `plain` (one prompt alone)."""
    known = config.distilled
    guides = how.scale not in (0.0, 1.0) or how.curve != "constant" or how.plus
    if known.steps and (guides or not plain):
        what = f"guidance {how.scale:g}" if guides else "a negative prompt, a weak model or a composition"
        raise ZaoziError(
            f"{config.name} does not take {what}, since it was distilled with guidance {known.guidance:g}; use guidance 1 and "
            f"one prompt, or the undistilled model {known.model}"
        )


@dataclass(frozen=True)
class Edit:
    """Starting point of sampling other than seeded noise.

    Raises `ZaoziError` if the strength is out of range, or if a mask or strength is given without `init`.
    """

    init: Tensor | None = None
    """Initial picture `[1 or B, C, S, S]` in [-1, 1]."""
    strength: float = 1.0
    """Fraction of the steps to run, in (0, 1]: only the last ones, starting from `init` noised to that level."""
    mask: Tensor | None = None
    """`[1 or B, 1, S, S]`: `init` is kept unchanged where it is 1."""
    start: Tensor | None = None
    """Initial noise `[1 or B, C, s, s]`, instead of noise from the seed."""
    toward_seed: tuple[int, float | Sequence[float]] | None = None
    """(other seed, share in [0, 1], or a share per row): interpolate the seed's noise towards that of another seed."""

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if self.init is None and (self.mask is not None or self.strength != 1):
            raise ZaoziError("a mask or a strength needs a picture to start from; give init")


@without_gradients
def draw(
    model: Denoiser,
    cond: Cond | Sequence[tuple[Cond, Weight]],
    how: Sampling = Sampling(),
    *,
    pictures: Sequence[int],
    edit: Edit = Edit(),
    negative: Cond | None = None,
    weak: Denoiser | None = None,
    on_step: Watch | None = None,
) -> Tensor:
    """Sample one picture per row of `cond`: `[B, C, S, S]` in [-1, 1]. Row r starts from the noise of (seed, pictures[r]).

    `cond` may be several weighted conditions, whose guidance directions are summed. `negative` is a negative condition and
    `weak` a weaker model to guide away from. All rows form one batch. Raises `ZaoziError` if steps, scale, eta, seed, sampler
    or grid are invalid, or if a tensor in `edit` has the wrong shape.
    """
    check_sampling(how)
    sample = find_sampler(how.sampler)
    if how.eta:
        sample = partial(sample, eta=how.eta)
    device = model.device
    if device is None and how.precision == "bf16":
        raise ZaoziError("ONNX Runtime draws in fp32; use --precision fp32, or --engine torch")
    noise = picture_noise(how.seed, pictures, model.shape, device)
    if edit.toward_seed is not None:
        other, share = edit.toward_seed
        noise = between(noise, picture_noise(other, pictures, model.shape, device), share)
    path = levels(model.schedule, how.steps, how.grid)
    path = path[how.steps - max(1, round(how.steps * edit.strength)) :]
    wanted = [(cond, 1.0)] if isinstance(cond, Cond) else cond
    alone = len(wanted) == 1 and isinstance(wanted[0][1], float)
    check_distilled(model.config, how.guidance, plain=alone and negative is None and weak is None)
    if weak is not None:
        check_alike(model, weak)
        weak = weak.to(device)
    denoise = guided(
        model,
        [(c.to(device), w) for c, w in wanted],
        how.guidance,
        negative=None if negative is None else negative.to(device),
        weak=weak,
    )
    x = noise(0)
    if (start := edit.start) is not None:
        if start.shape[1:] != x.shape[1:] or len(start) not in (1, len(x)):
            raise ZaoziError(f"the start is {tuple(start.shape)}; give {tuple(x.shape)}, or one for all")
        x = library(x).broadcast_to(like(start, x), x.shape)
    x = float(path[0].sigma) * x
    if edit.init is not None:
        known = model.space.encode(on(edit.init, device))
        x = x + float(path[0].alpha) * known
        if edit.mask is not None:
            denoise = inpainted(denoise, known, _shrunk(on(edit.mask, device), model.shape[1]))

    with autocast(how.precision, device):
        made = model.space.decode(sample(denoise, x, path, noise=noise, on_step=_watched(on_step)))
    if edit.init is not None and edit.mask is not None:
        made = lerp(made, like(edit.init, made), like(edit.mask, made))
    return made


DRAWS = 2**32
"""Draws of noise that are reserved for each stage."""


@without_gradients
def enlarge(
    stage: Denoiser,
    x: Tensor,
    nothing: Cond,
    how: Sampling,
    *,
    pictures: Sequence[int],
    number: int,
    on_step: Watch | None = None,
) -> Tensor:
    """Draw pictures `[B, C, s, s]` in [-1, 1] anew at the size of a super-resolution stage, `[B, C, S, S]`.

    The stage has its own number of steps, no guidance, and the noise of (seed, picture) from draw `number` * 2^32 on.
    `nothing` is a condition without text, one row per picture. Raises `ZaoziError` if the sizes do not fit.
    """
    config, device = stage.config, stage.device
    factor = config.stage.factor
    if factor == 1:
        raise ZaoziError(f"{config.name} is no super-resolution stage; train one with stage.factor = 2")
    if x.shape[-1] * factor != config.size or x.shape[1] != config.channels:
        raise ZaoziError(
            f"{config.name} makes {config.channels} x {config.size} x {config.size} out of pictures {factor} times smaller, "
            f"not out of {x.shape[1]} x {x.shape[-1]} x {x.shape[-1]}; use another stage"
        )
    noise = picture_noise(how.seed, pictures, stage.shape, device)
    share = on(np.full(len(x), config.stage.noise, np.float32), device)
    lower = augmented(enlarged(on(x, device), factor), share, noise(number * DRAWS))
    denoise = guided(stage, [(replace(nothing.to(device), lower=lower), 1.0)], Guidance(1.0))
    path = levels(stage.schedule, config.stage.steps, how.grid)
    start = float(path[0].sigma) * noise(number * DRAWS + 1)
    with autocast(how.precision, device):
        sample, first = find_sampler(how.sampler), number * DRAWS + 1
        x0 = sample(denoise, start, path, noise=lambda draw: noise(first + draw), on_step=_watched(on_step))
        return stage.space.decode(x0)


def _watched(on_step: Watch | None) -> Callable[[Level, Tensor, tuple[Tensor, Tensor]], None]:
    """Return the callback of a sampler that calls `on_step`."""

    def watch(level: Level, x: Tensor, guess: tuple[Tensor, Tensor]) -> None:
        if on_step:
            on_step(float(level.t), x, guess[0], guess[1])

    return watch


def check_alike(model: Denoiser, weak: Denoiser) -> None:
    """Raises `ZaoziError` unless the weak model uses the same shape, schedule, text encoder and properties as the model."""
    if model.device is None:
        raise ZaoziError("ONNX Runtime does not guide away from a weak model; use --engine torch")
    own, other = model.config, weak.config
    for name, a, b in (
        ("pictures", model.shape, weak.shape),
        ("schedule", model.schedule.name, weak.schedule.name),
        ("text encoder", own.text, other.text),
        ("properties", *([replace(p, dropout=0.0) for p in c.properties] for c in (own, other))),  # ignore dropout
    ):
        if a != b:
            raise ZaoziError(
                f"the weak model has other {name} than the model; use an earlier or smaller one of its kind"
            )


def _shrunk(mask: Tensor, side: int) -> Tensor:
    """Downsample a mask to the network's resolution; 1 only where the whole area is kept."""
    return like(averaged(single(mask), side) >= 1.0 - 1e-6, mask)
