"""Figures on the forward process: the chain, one step, the evolving density with its vector fields, and the schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zaozi.core.noise import lent_generator
from zaozi.diffusion.mixture import Mixture
from zaozi.diffusion.prediction import score
from zaozi.diffusion.process import add_noise, add_noise_step, transition
from zaozi.diffusion.schedules import T, logsnr, schedule
from zaozi.guide.figures import figures
from zaozi.guide.figures.paper import ACCENT, INK, QUIET, SECOND, Figure, as_url, canvas, numbers, show, strip
from zaozi.guide.figures.source import Source


@figures.register("05-chain")
def chain(source: Source) -> Figure:
    """The two chains for one glyph: q adds noise, p removes it."""
    character = "锂"
    path = schedule("cosine")
    times = [0, 150, 350, 550, 750, 1000]
    x0, eps = source.clean(character), source.noise((1, 1, 64, 64), 5)
    eps = torch.nn.functional.interpolate(eps, x0.shape[-1]) if eps.shape != x0.shape else eps
    rows = [add_noise(x0, eps, path.level(float(t))) if t else x0 for t in times]
    plot, axes = canvas(3, len(times), height=3.0, gridspec_kw={"height_ratios": [0.25, 1, 0.25]})
    strip(axes[1], rows, ["$x_0$", *(f"$x_{{{t}}}$" for t in times[1:-1]), "$x_T$"], low=-2, high=2)
    grid = axes[0, 0].get_gridspec()
    for row, name, colour, ends in ((0, r"$p_\theta$", ACCENT, (1.3, 0.7)), (2, "$q$", SECOND, (0.7, 1.3))):
        for one in axes[row]:
            one.remove()
        across = plot.add_subplot(grid[row, :])
        across.set(xlim=(0, len(times)), ylim=(0, 1))
        across.axis("off")
        for i in range(len(times) - 1):
            across.annotate(
                "", xy=(i + ends[1], 0.3), xytext=(i + ends[0], 0.3), arrowprops={"arrowstyle": "->", "color": colour}
            )
            across.text(i + 1, 0.45, name, ha="center", color=colour)
    return Figure(
        "Two chains for one picture",
        f"The forward chain q adds a little noise to {character} ('lithium') at each step until only noise is left. It needs no "
        "training. A network learns the reverse chain, p.",
        plot,
        {
            "character": character,
            "schedule": path.name,
            "times": times,
            "pictures": [as_url(r, low=-2, high=2) for r in rows],
        },
    )


@figures.register("06-one-step")
def one_step(source: Source) -> Figure:
    """q(x_t | x_s) from a few points of a 2-D shape, and the closed form next to the chain of single steps."""
    path = schedule("linear")
    points = source.points(1500)
    start, beta = path.level(0.0), 0.08
    step = path.level(path.time(float(np.log((1 - beta) / beta))))

    factor, std = transition(start, step)
    some = points[[20, 400, 900]] if len(points) > 900 else points[:3]
    noised = add_noise_step(points, source.noise(points.shape, 6, 0).double(), start, step)

    reach = 120
    closed = add_noise(points, source.noise(points.shape, 6, 1).double(), path.level(float(reach)))
    walked = points
    for t in range(1, reach + 1):
        walked = add_noise_step(
            walked, source.noise(points.shape, 6, 2, t).double(), path.level(float(t - 1)), path.level(float(t))
        )
    plot, axes = canvas(1, 3, width=9.6, height=3.4, sharex=True, sharey=True)
    axes[0, 0].scatter(*points.T, s=1, color=QUIET)
    axes[0, 0].scatter(*noised.T, s=1, color=SECOND, alpha=0.4)
    angle = np.linspace(0, 2 * np.pi, 60)
    for x in some.numpy():
        axes[0, 0].plot(*x, "o", color=INK, ms=3)
        axes[0, 0].annotate("", xy=factor * x, xytext=x, arrowprops={"arrowstyle": "->", "color": ACCENT})
        for k in (1, 2):
            axes[0, 0].plot(
                factor * x[0] + k * std * np.cos(angle), factor * x[1] + k * std * np.sin(angle), color=ACCENT, lw=0.8
            )
    axes[0, 0].set_title(rf"one step, $\beta$ = {beta:g} (exaggerated)")
    axes[0, 1].scatter(*closed.T, s=1, color=SECOND)
    axes[0, 1].set_title(f"closed form: $q(x_{{{reach}}} \\mid x_0)$")
    axes[0, 2].scatter(*walked.T, s=1, color=ACCENT)
    axes[0, 2].set_title(f"{reach} single steps")
    for one in axes[0]:
        one.set(aspect="equal", xlim=(-2, 2), ylim=(-2, 2))
    spread = [numbers(v.std(0)) for v in (closed, walked)]
    return Figure(
        "One noise step, and many",
        "A step first scales a point by sqrt(1 - beta), towards the origin, and then adds noise. The circles are centred on the "
        "scaled point, not on the original one. Many steps give the same distribution as the closed form.",
        plot,
        {
            "beta": beta,
            "largest_real_beta": 0.02,
            "factor": numbers(factor),
            "std": numbers(std),
            "points": numbers(points[:600], 4),
            "noised": numbers(noised[:600], 4),
            "chosen": numbers(some),
            "time": reach,
            "closed_form": numbers(closed[:600], 4),
            "chain": numbers(walked[:600], 4),
            "deviations": {"closed_form": spread[0], "chain": spread[1]},
        },
    )


SIDE, EXTENT = 19, 1.8


def shape(source: Source, count: int = 300) -> Mixture:
    """Return the 2-D shape as a density: a narrow Gaussian at each point."""
    points = source.points(count)
    return Mixture(
        points, torch.full((count,), 0.04, dtype=torch.float64), torch.full((count,), 1 / count, dtype=torch.float64)
    )


class Small(nn.Module):
    """A small noise prediction network in two dimensions: (x `[B, 2]`, noise share `[B]`) -> eps `[B, 2]`."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(10, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        waves = [f(k * torch.pi * share[:, None]) for k in (0.5, 1, 2, 4) for f in (torch.sin, torch.cos)]
        return self.layers(torch.cat([x, *waves], 1))


def learned_score(source: Source, path_name: str = "cosine", steps: int = 3000) -> Small:
    """Train the small network on noised points of the shape, like the large one on glyphs (a few seconds)."""
    path = schedule(path_name)
    data = source.points(2000, "人", 1).float()
    with lent_generator(source.seed, 7):
        network = Small()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    rng = source.generator(7, 1)
    for i in range(steps):
        rows = torch.from_numpy(rng.integers(0, len(data), 256))
        level = path.level(torch.from_numpy(rng.uniform(1, T, 256)))
        eps = torch.from_numpy(rng.standard_normal((256, 2)).astype(np.float32))
        x = add_noise(data[rows], eps, level)
        loss = (network(x, level.noise_share(256)) - eps).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - i / steps)
    return network.eval().requires_grad_(False)


@figures.register("07-fields")
def fields(source: Source) -> Figure:
    """The shape turning into noise: its points, its density, and three distinct vector fields."""
    path, times = schedule("cosine"), (30, 150, 350, 600, 900)
    density, network = shape(source), source.memo("small", lambda: learned_score(source))
    line = torch.linspace(-EXTENT, EXTENT, SIDE, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 1, 1, 2)
    fine_line = torch.linspace(-EXTENT, EXTENT, 81, dtype=torch.float64)
    fine = torch.stack(torch.meshgrid(fine_line, fine_line, indexing="xy"), -1).reshape(-1, 1, 1, 2)
    names = ["points of $q(x_t)$", "density $q(x_t)$", r"$\nabla q$", r"score $\nabla \log q$", "learned score"]
    plot, axes = canvas(len(names), len(times), sharex=True, sharey=True)
    kept: list[dict[str, Any]] = []
    for column, t in enumerate(times):
        level = path.level(float(t))
        x = add_noise(source.points(1200), source.noise((1200, 2), 7, t).double(), level)
        q = density.log_density(fine, level).exp().reshape(81, 81)
        exact = score(density.denoise(grid, level), level).reshape(-1, 2)
        gradient = density.log_density(grid, level).exp()[:, None] * exact
        share = level.noise_share(len(grid))
        learned = -network(grid.reshape(-1, 2).float(), share).double() / float(level.sigma)
        axes[0, column].scatter(*x.T, s=0.5, color=INK)
        axes[0, column].set_title(f"t = {t}")
        axes[1, column].contourf(fine_line, fine_line, q, levels=12, cmap="Greys")
        for row, arrows, colour, scaled_by in (
            (2, gradient, SECOND, gradient),
            (3, exact, INK, exact),
            (4, learned, ACCENT, exact),  # same scale as the exact one, so that the two can be compared
        ):
            length = scaled_by.norm(dim=1).quantile(0.95)
            axes[row, column].quiver(*grid.reshape(-1, 2).T, *(arrows / length).T, color=colour, scale=18, width=0.008)
        kept.append(
            {
                "time": t,
                "alpha": numbers(level.alpha),
                "sigma": numbers(level.sigma),
                "points": numbers(x[:500], 3),
                "density": numbers(q[::2, ::2] / q.max(), 3),
                "gradient": numbers(gradient, 3),
                "score": numbers(exact, 3),
                "learned": numbers(learned, 3),
            }
        )
    for row, name in enumerate(names):
        axes[row, 0].set_ylabel(name)
    for one in axes.flat:
        one.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), xticks=[], yticks=[], aspect="equal")
    return Figure(
        "Three vector fields",
        "The gradient of the density vanishes far from the data. The score, the gradient of the log density, is -E[eps | x_t] / "
        "sigma: it grows with the distance and points to the data from everywhere. A network learns it well where there were "
        "noised points in training, and badly elsewhere. With little noise, elsewhere is almost everywhere, so many noise levels "
        "are needed.",
        plot,
        {"schedule": path.name, "grid": numbers(line), "density_grid": numbers(fine_line[::2]), "times": kept},
    )


@figures.register("08-schedules")
def schedules(source: Source) -> Figure:
    """Linear versus cosine: alpha_bar, log-SNR, and one glyph noised with each."""
    names, times = ("linear", "cosine"), np.arange(0, T + 1)
    x0 = source.clean("明")
    eps = source.noise(tuple(x0.shape), 8)
    shown = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
    plot, axes = canvas(4, len(shown), width=13, height=6.6, gridspec_kw={"height_ratios": [1.6, 1.6, 1, 1]})
    for one in axes[:2].flat:
        one.remove()
    grid = axes[0, 0].get_gridspec()
    above, below = plot.add_subplot(grid[0, :]), plot.add_subplot(grid[1, :])
    data: dict[str, Any] = {"times": shown}
    for name, colour, row in zip(names, (SECOND, ACCENT), (2, 3), strict=True):
        path = schedule(name)
        levels = [path.level(float(t)) for t in times]
        bars = np.array([float(level.alpha) ** 2 for level in levels])
        ratios = np.array([logsnr(level) for level in levels])
        above.plot(times, bars, color=colour, label=name)
        below.plot(times[1:], ratios[1:], color=colour, label=name)
        pictures = [add_noise(x0, eps, path.level(float(t))) for t in shown]
        for one, picture, t in zip(axes[row], pictures, shown, strict=True):
            show(one, picture, f"{name}, t = {t}" if t == 0 else f"{t}", low=-2, high=2)
        data[name] = {
            "alpha_bar": numbers(bars[::10]),
            "logsnr": numbers(ratios[::10]),
            "pictures": [as_url(p, low=-2, high=2) for p in pictures],
        }
    above.set(ylabel=r"$\bar\alpha_t$")
    below.set(ylabel="log-SNR", xlabel="t")
    above.legend(frameon=False)
    return Figure(
        "Two schedules",
        "Both end in noise, but the linear schedule reaches it early: its last third makes almost no visible difference. The "
        "cosine schedule distributes its steps more evenly.",
        plot,
        data,
    )
