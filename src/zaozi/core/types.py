"""Types shared by all packages: level, estimate, condition, and the calls between them.

Pictures are float tensors `[B, C, H, W]` in [-1, 1]: white paper is +1, black ink -1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import NamedTuple, Protocol

from zaozi.core.arrays import Device, Tensor, is_real, library, like, longer, on, repeated

Shape = tuple[int, int, int]
"""Shape (C, h, w) of one picture, or of its representation in a space."""


@dataclass(frozen=True)
class Level:
    """The noise level of a picture: `x_t = alpha * x0 + sigma * eps`.

    `t` is the time in [0, T] (0 is clean), `alpha` the share of the picture and `sigma` that of the noise. A level contains
    Python floats (in sampling, one level for the whole batch) or float tensors `[B]` (in training, one per picture).
    Under the schedules of DDPM `alpha` is sqrt(alpha_bar) and `sigma` sqrt(1 - alpha_bar) (arXiv:2006.11239, eq. 4), not its
    per-step alphas; on the straight path alpha + sigma = 1.
    """

    t: float | Tensor
    alpha: float | Tensor
    sigma: float | Tensor

    def per_picture(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `alpha` and `sigma` as tensors `[B, 1, 1, 1]` (or `[1, 1, 1, 1]`) in x's dtype, broadcastable to pictures."""

        def column(value: float | Tensor) -> Tensor:
            return like(value, x).reshape(-1, *[1] * (x.ndim - 1))

        return column(self.alpha), column(self.sigma)

    def repeated(self, count: int) -> Level:
        """Return the levels of `count` copies of a batch, one after the other; unchanged if they are floats."""
        return Level(*(v if isinstance(v, (int, float)) else v.repeat(count) for v in (self.t, self.alpha, self.sigma)))

    @property
    def share(self) -> float:
        """`sigma / (alpha + sigma)` for a level of floats: the share of noise in x_t, in [0, 1]."""
        return float(self.sigma) / (float(self.alpha) + float(self.sigma))

    def noise_share(self, batch: int, device: Device | str = "cpu") -> Tensor:
        """Return `u = sigma / (alpha + sigma)` in [0, 1] as float32 `[batch]`: the level as input to networks.

        It is a monotone function of the log-SNR only (u = sigmoid(-logsnr / 2)), with the same meaning under every schedule.
        """
        import torch

        def number(value: float | Tensor) -> Tensor:
            # float64 for floats; tensors unchanged, since exported graphs have no float64
            return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float64)

        alpha, sigma = number(self.alpha), number(self.sigma)
        return (sigma / (alpha + sigma)).to(device, torch.float32).expand(batch)


class Estimate(NamedTuple):
    """A denoiser's estimate of the clean picture and of the noise.

    `x0` is the clean picture, `eps` the noise, both `[B, C, H, W]`. `alpha * x0 + sigma * eps = x_t` holds unless
    guidance changes it (as CFG++ does).
    """

    x0: Tensor
    eps: Tensor


@dataclass(frozen=True)
class Lower:
    """The picture that a super-resolution stage enlarges: `picture` `[B, C, S, S]`, already enlarged and noised
    (`enlarged` and `augmented` in `zaozi.model.stage`), and the `share` of that noise, `[B]` in [0, 1].
    """

    picture: Tensor
    share: Tensor


@dataclass(frozen=True)
class Cond:
    """The condition of a picture: a text, and optional properties; for a super-resolution stage also a smaller picture.

    - `tokens` `[B, L, D]`, `mask` `[B, L]` (True for real tokens) and `pooled` `[B, D]` come from a frozen encoder.
      A row without any real token is the null condition: networks replace it with their learned null.
    - `lower` is part of the unconditional counterpart, too: guidance amplifies the text, not the smaller picture.
    - `properties` maps a name to a tensor `[B]`: integers for classes (0 = not given), floats for numbers (NaN = not given).
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    properties: Mapping[str, Tensor] = field(default_factory=dict)
    lower: Lower | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def map(self, f: Callable[[Tensor], Tensor]) -> Cond:
        """Return the condition with `f` applied to each of its tensors."""
        lower = None if self.lower is None else Lower(f(self.lower.picture), f(self.lower.share))
        given = {k: f(v) for k, v in self.properties.items()}
        return Cond(f(self.tokens), f(self.mask), f(self.pooled), given, lower)

    def to(self, device: Device | str | None) -> Cond:
        """Return the condition on another device, or as NumPy arrays if it is None."""
        return self.map(lambda v: on(v, device))

    def take(self, index: Tensor | Sequence[int] | slice) -> Cond:
        """Return a subset of the rows."""
        return self.map(lambda v: v[index])

    def without_text(self, drop: Tensor) -> Cond:
        """Return the condition without text in the rows where `drop` `[B]` is True."""
        return replace(self, mask=self.mask & ~drop[:, None])

    def null(self) -> Cond:
        """Return the unconditional counterpart: no text, no properties, and the same number of rows."""
        return replace(self, mask=self.mask & False, properties={})

    @staticmethod
    def cat(a: Cond, b: Cond) -> Cond:
        """Concatenate two conditions into one batch; a property that only one of them has is 'not given' in the other."""
        length = max(a.tokens.shape[1], b.tokens.shape[1])

        def padded(c: Cond) -> tuple[Tensor, Tensor]:
            pad = length - c.tokens.shape[1]
            return longer(c.tokens, pad), longer(c.mask, pad)

        def joined(x: Tensor, y: Tensor) -> Tensor:
            return library(x).concatenate([x, y])

        (tokens_a, mask_a), (tokens_b, mask_b) = padded(a), padded(b)
        properties = {}
        for name in {**a.properties, **b.properties}:
            some = a.properties.get(name, b.properties.get(name))
            assert some is not None
            missing = nan if is_real(some) else 0
            properties[name] = joined(*(c.properties.get(name, repeated(missing, len(c), some)) for c in (a, b)))
        lower = None
        if a.lower is not None and b.lower is not None:
            lower = Lower(joined(a.lower.picture, b.lower.picture), joined(a.lower.share, b.lower.share))
        return Cond(joined(tokens_a, tokens_b), joined(mask_a, mask_b), joined(a.pooled, b.pooled), properties, lower)


Denoise = Callable[[Tensor, Level], Estimate]
"""A denoiser as used by samplers: (x_t `[B, C, H, W]`, one level) -> its estimate."""

Noise = Callable[[int], Tensor]
"""Fresh standard normal noise with the shape of the pictures: `noise(draw)` for the draw-th draw (0 starts sampling)."""

OnStep = Callable[[Level, Tensor, Estimate], None]
"""Sampling callback, called once per step with the level, x_t before the step, and its estimate."""


class Conditional(Protocol):
    """A denoiser that takes a condition."""

    def __call__(self, x: Tensor, level: Level, cond: Cond) -> Estimate: ...
