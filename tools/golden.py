"""Golden values of everything that TypeScript computes too: web/tests/golden.json. A test holds it to the library.

python tools/golden.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from zaozi.core.components import samplers
from zaozi.core.noise import standard_normal
from zaozi.core.sampling import Guidance
from zaozi.core.types import Cond, Estimate, Level
from zaozi.data.unihan import glossed, meaning
from zaozi.diffusion.guidance import cfg, clamped, inpainted, interval
from zaozi.diffusion.levels import GRIDS, levels
from zaozi.diffusion.mixture import TWO
from zaozi.diffusion.prediction import score
from zaozi.diffusion.schedules import logsnr, schedule
from zaozi.guide.compact import SCHEDULES
from zaozi.text.encoders import is_latin

GOLDEN = Path(__file__).parents[1] / "web" / "tests" / "golden.json"
SEED, PICTURE, STEPS = 7, 3, 9
KNOWN, MASK = [0.6, -0.2], [1.0, 0.0]
CHINESE = ("狗", "木 火", "火、水", "⽊", "龘龘龘龘龘龘龘龘龘龘龘龘龘", "𰻞", "dog 狗", "。")
WORDS = ("bird", "crème", "ﬁre", "µm", "α", "αβ", "狗", "жук", "x²", "ʰa")


def _signal(level: Level) -> float:
    """alpha^2 / (alpha^2 + sigma^2): the share of the power of x_t that is the picture's."""
    return float(1.0 / (1.0 + math.exp(-logsnr(level))))


def golden() -> dict[str, Any]:
    """Noise, schedules, grids, a mixture's density and score, every sampler's trajectory on it, edits, and what is read."""

    def noise(draw: int) -> torch.Tensor:
        return torch.from_numpy(standard_normal(SEED, PICTURE, draw, 2)).double().reshape(1, 1, 1, 2)

    paths = {name: schedule(name) for name in SCHEDULES}
    times = [0.0, 0.4, 1.0, 1.5, 2.0, 250.25, 500.0, 999.0, 999.9, 1000.0]
    points = [[-0.7, 0.2], [0.0, 0.0], [2.0, -3.0]]
    at = [paths["linear"].level(t) for t in (1.0, 200.0, 700.0)]
    return {
        "noise": [
            {"key": key, "values": standard_normal(*key, 11).tolist()}
            for key in [(0, 0, 0), (7, 3, 1), (2**53, 40, 2**20 + 1)]
        ],
        "levels": {name: [_level(path.level(t)) for t in times] for name, path in paths.items()},
        "ratios": {
            name: [[logsnr(level), _signal(level)] for level in map(path.level, times[1:-1])]
            for name, path in paths.items()
        },
        "times": {
            name: [path.time(v) for v in (-30.0, -9.0, -1.0, 0.0, 3.3, 9.0, 20.0)] for name, path in paths.items()
        },
        "grids": {
            f"{name}/{grid}/{n}": [level.t for level in levels(path, n, grid)]
            for name, path in paths.items()
            for grid in GRIDS
            for n in (1, 7, 16)
        },
        "mixture": [
            {"mean": m.tolist(), "std": float(s), "weight": float(w)}
            for m, s, w in zip(TWO.means, TWO.stds, TWO.weights, strict=True)
        ],
        "density": [[float(TWO.log_density(_point(p), level)) for p in points] for level in at],
        "score": [[score(TWO.denoise(_point(p), level), level).flatten().tolist() for p in points] for level in at],
        "seed": SEED,
        "picture": PICTURE,
        "steps": STEPS,
        "trajectories": {
            f"{name}/{path}/{scale:g}": _walk(samplers[name], path, scale, noise)
            for name in samplers
            for path in SCHEDULES
            for scale in (1.0, 3.0)
        },
        "example": {f"restart/{path}/3": _walk(_example(), path, 3.0, noise) for path in SCHEDULES},
        "guidance_low": Guidance.low,
        "known": KNOWN,
        "mask": MASK,
        "inpainted": {
            f"{name}/{path}": _walk(samplers[name], path, 3.0, noise, edit=True)
            for name in samplers
            for path in SCHEDULES
        },
        "shrunk": {
            f"{channels}/{factor}": torch.nn.functional.avg_pool2d(_picture(channels), factor).flatten().tolist()
            for channels in (1, 3)
            for factor in (1, 2)
        },
        "halves": {half: _half(half, 6) for half in ("left", "right", "top", "bottom")},
        "meanings": {c: list(meaning(c)) for c in sorted({*"".join(CHINESE)}) if meaning(c)},
        "glossed": {text: glossed(text) for text in CHINESE},
        "latin": {word: is_latin(word) for word in WORDS},
    }


def _picture(channels: int) -> torch.Tensor:
    return torch.from_numpy(standard_normal(SEED, PICTURE, 0, channels * 64)).double().reshape(1, channels, 8, 8)


def _half(half: str, side: int) -> list[int]:
    """Row by row, 1 in that half of a picture."""
    mask = torch.zeros(side, side, dtype=torch.int64)
    first = slice(0, side // 2) if half in ("left", "top") else slice(side // 2, side)
    (mask.T if half in ("left", "right") else mask)[first] = 1
    return mask.flatten().tolist()


def _level(level: Level) -> list[float]:
    return [float(level.t), float(level.alpha), float(level.sigma)]


def _point(p: list[float]) -> torch.Tensor:
    return torch.tensor(p, dtype=torch.float64).reshape(1, 1, 1, 2)


def _example() -> Any:
    """The sampler that CONTRIBUTING.md shows, which is not kept."""
    page = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = page.split("### Add a sampler")[1].split('restart.py"\n')[1].split("```")[0]
    found: dict[str, Any] = {}
    exec(code.replace('@samplers.register("restart")\n', ""), found)
    return found["restart"]


def _walk(sampler: Any, path: str, scale: float, noise: Any, *, edit: bool = False) -> list[list[float]]:
    """x before each call that is watched, and at the end, of one point on the mixture; unconditional is its mirror.

    With `edit`, guidance applies in the usual interval only, and what `MASK` marks is kept as in `KNOWN`.
    """

    def model(x: torch.Tensor, level: Level, cond: Cond) -> Estimate:
        rows = []
        for row, given in zip(x, cond.mask.any(1), strict=True):
            sign = 1.0 if given else -1.0
            guess = TWO.denoise(sign * row[None], level)
            rows.append((sign * guess.x0, sign * guess.eps))
        return Estimate(torch.cat([r[0] for r in rows]), torch.cat([r[1] for r in rows]))

    cond = Cond(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1))
    grid = levels(schedule(path), STEPS)
    seen: list[list[float]] = []
    strength = interval(scale, Guidance.low, 1.0) if edit else scale
    denoise, x = clamped(cfg(model, cond, strength), -1.0, 1.0), float(grid[0].sigma) * noise(0)
    if edit:
        known = _point(KNOWN)
        denoise, x = inpainted(denoise, known, _point(MASK)), x + float(grid[0].alpha) * known
    end = sampler(
        denoise,
        x,
        grid,
        noise=noise,
        on_step=lambda level, x, guess: seen.append(x.flatten().tolist()),
    )
    return [*seen, end.flatten().tolist()]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), separators=(",", ":")) + "\n", encoding="utf-8")
    print(GOLDEN)
