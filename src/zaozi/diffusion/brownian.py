"""One Brownian path for a whole sampling run, looked up anywhere: the same seed walks the same path in 10 steps or in 1000."""

from __future__ import annotations

import math

from torch import Tensor

from zaozi.core.types import Level, Noise

DEPTH = 20


class Brownian:
    """A Brownian motion B over v = alpha^2 / sigma^2, the signal-to-noise ratio, made of a noise source's draws 1, 2, ...

    v is the right clock: in y = alpha * x / sigma^2 the noise of q(x_s | x_t, x_0) is that of B between v_t and v_s, so steps
    of any length add up to the same path. With w = alpha / (alpha + sigma) and u = v / (1 + v), both in [0, 1],
    B(v) = (1 + v) * bridge(u), and the bridge is found by halving [0, 1] in w twenty times (Levy's construction); the i-th
    node of that tree, counted as in a heap, takes the i-th draw (cf. Li et al. 2020, arXiv:2001.01328, sec. 4).
    """

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self.known: dict[int, Tensor] = {}
        """The nodes on the way to the last place."""

    def bridge(self, w: float) -> Tensor | float:
        """The bridge at w in [0, 1], shaped as the noise; 0 at both ends."""
        low, high, node = 0.0, 1.0, 1
        at_low: Tensor | float = 0.0
        at_high: Tensor | float = 0.0
        visited: dict[int, Tensor] = {}
        for _ in range(DEPTH):
            middle = (low + high) / 2
            if node in self.known:
                value = self.known[node]
            else:
                a, m, b = _u(low), _u(middle), _u(high)
                std = math.sqrt((m - a) * (b - m) / (b - a))
                value = ((b - m) * at_low + (m - a) * at_high) / (b - a) + std * self.noise(node)
            visited[node] = value
            if w < middle:
                high, at_high, node = middle, value, 2 * node
            else:
                low, at_low, node = middle, value, 2 * node + 1
        self.known = visited
        a, m, b = _u(low), _u(w), _u(high)
        return ((b - m) * at_low + (m - a) * at_high) / (b - a)

    def normal(self, level: Level, previous: Level) -> Tensor:
        """(B(v_s) - B(v_t)) / sqrt(v_s - v_t), standard normal, for t = `level` and the less noisy s = `previous`, not clean."""

        def motion(at: Level) -> tuple[float, Tensor | float]:
            alpha, sigma = float(at.alpha), float(at.sigma)
            v = (alpha / sigma) ** 2
            return v, (1 + v) * self.bridge(alpha / (alpha + sigma))

        (v_t, b_t), (v_s, b_s) = motion(level), motion(previous)
        made = (b_s - b_t) / math.sqrt(v_s - v_t)
        assert isinstance(made, Tensor)
        return made


def _u(w: float) -> float:
    return w * w / (w * w + (1 - w) * (1 - w))
