"""One Brownian path per sampling run, with random access: the same seed gives the same path for 10 steps or 1000."""

from __future__ import annotations

import math

from zaozi.core.arrays import Tensor
from zaozi.core.types import Level, Noise

DEPTH = 20


class Brownian:
    """Brownian motion B over the signal-to-noise ratio v = alpha^2 / sigma^2, built from draws 1, 2, ... of a noise source.

    v is the natural time variable: for y = alpha * x / sigma^2 the noise of q(x_s | x_t, x_0) is the increment of B from v_t
    to v_s, so steps of any length follow the same path. With w = alpha / (alpha + sigma) and u = v / (1 + v), both in [0, 1],
    B(v) = (1 + v) * bridge(u). The bridge is computed by bisecting [0, 1] in w twenty times (Levy's construction); the i-th
    node of that tree, in heap order, uses the i-th draw (cf. Li et al. 2020, arXiv:2001.01328, sec. 4).
    """

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self.known: dict[int, Tensor] = {}
        """Cached nodes on the path to the last lookup."""

    def bridge(self, w: float) -> Tensor | float:
        """Return the bridge at w in [0, 1], in the shape of the noise; 0 at both ends."""
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
        """Return (B(v_s) - B(v_t)) / sqrt(v_s - v_t), standard normal, for t = `level` and s = `previous`.

        s must be less noisy than t, but not clean.
        """

        def motion(at: Level) -> tuple[float, Tensor | float]:
            alpha, sigma = float(at.alpha), float(at.sigma)
            v = (alpha / sigma) ** 2
            return v, (1 + v) * self.bridge(alpha / (alpha + sigma))

        (v_t, b_t), (v_s, b_s) = motion(level), motion(previous)
        made = (b_s - b_t) / math.sqrt(v_s - v_t)
        assert not isinstance(made, float)
        return made


def _u(w: float) -> float:
    return w * w / (w * w + (1 - w) * (1 - w))
