"""Figures on training and the network: one training step, the error over the last run, and the layers with their sizes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from zaozi.core.config import to_dict
from zaozi.core.types import Level
from zaozi.diffusion.losses import training_times, weight_on_f
from zaozi.diffusion.prediction import target
from zaozi.diffusion.process import add_noise
from zaozi.guide.figures import figures
from zaozi.guide.figures.paper import ACCENT, INK, Figure, as_url, canvas, numbers, show
from zaozi.guide.figures.source import Source
from zaozi.model.checkpoint import find_model


@torch.inference_mode()
@figures.register("16-training-step")
def training_step(source: Source) -> Figure:
    """One real batch through the training loop, and the run's validation curve."""
    count, model, how = 6, source.artist.model, source.artist.model.config.diffusion
    rows = np.sort(source.generator(16).choice(len(source.train), count, replace=False))
    x0 = model.space.encode(source.train.batch(rows))
    texts = [source.train.texts[r] for r in rows]
    generator = torch.Generator().manual_seed(16)
    times = training_times(how.times, count, generator, mean=how.times_mean, std=how.times_std).sort().values
    eps = source.noise(tuple(x0.shape), 16)
    level: Level = model.schedule.level(times)
    x = add_noise(x0, eps, level)
    guess = model(x, level, source.artist.encode(texts))
    f = target(how.prediction, guess.x0, guess.eps, level)
    wanted = target(how.prediction, x0, eps, level)
    error = (f - wanted).square()
    loss = weight_on_f(how.weight, how.prediction, level).to(error) * error.mean((1, 2, 3))
    names = ["$x_0$", r"$\epsilon$", "$x_t$", "prediction", "squared error"]
    log = json.loads((find_model(source.model_name) / "training.json").read_text()) if _has_log(source) else []
    curve = [(e["step"], e["validation"]) for e in log if "validation" in e]
    plot, axes = canvas(6, count, width=10.4, height=11.2)
    for column in range(count):
        pictures = (x0[column], eps[column], x[column], f[column], error[column])
        reaches = ((-1, 1), (-2.5, 2.5), (-2, 2), (-1, 1), (0, 2))
        for row, (picture, (low, high)) in enumerate(zip(pictures, reaches, strict=True)):
            title = f"t = {float(times[column]):.0f}" if row == 0 else ""
            if row == 4:
                title = f"loss {float(loss[column]):.3f}"
            show(axes[row, column], picture, title, low=low, high=high)
        axes[5, column].remove()
    for row, name in enumerate(names):
        axes[row, 0].set_ylabel(name)
    below = plot.add_subplot(axes[0, 0].get_gridspec()[5, :])
    if curve:
        below.plot(*zip(*curve, strict=True), color=ACCENT, marker="o", ms=3)
    below.set(xlabel="step", ylabel=r"held-out error of $\hat x_0$")
    return Figure(
        "One training step",
        "A clean glyph and noise are mixed at a random time. The network predicts what was mixed, and the squared error, "
        "weighted by noise level, updates its weights. The curve is the unweighted mean error of x0_hat at twenty fixed "
        "levels, on held-out glyphs, during the last run.",
        plot,
        {
            "prediction": how.prediction,
            "batch": [
                {
                    "text": texts[i],
                    "time": numbers(times[i]),
                    "x0": as_url(x0[i]),
                    "eps": as_url(eps[i], low=-2.5, high=2.5),
                    "x_t": as_url(x[i], low=-2, high=2),
                    "output": as_url(f[i]),
                    "error": as_url(error[i], low=0, high=2),
                    "loss": numbers(loss[i]),
                }
                for i in range(count)
            ],
            "validation": [{"step": s, "error": numbers(v)} for s, v in curve],
        },
    )


def _has_log(source: Source) -> bool:
    return (find_model(source.model_name) / "training.json").is_file()


@figures.register("17-network")
def network(source: Source) -> Figure:
    """The network architecture as built by the code, with the two text conditioning paths."""
    net, config = source.artist.model.network, to_dict(source.artist.model.config.network)
    blocks = [{"cross": getattr(block, "cross", None) is not None} for block in getattr(net, "blocks", [])]
    every = len(blocks) // max(sum(block["cross"] for block in blocks), 1)
    pooled = getattr(net, "pooled", None) is not None
    plot, axes = canvas(1, 2, width=9.0, height=7.0)
    for one, name, with_pooled in (
        (axes[0, 0], "cross-attention only", False),
        (axes[0, 1], "pooled and cross (this model, Imagen)", True),
    ):
        one.set(xlim=(0, 10), ylim=(-1, len(blocks) + 4), title=name)
        one.axis("off")

        def box(x: float, y: float, w: float, text: str, colour: str, axes: Any = one) -> None:
            from matplotlib.patches import Rectangle

            axes.add_patch(Rectangle((x, y), w, 0.7, fill=False, edgecolor=colour, lw=1.2))
            axes.text(x + w / 2, y + 0.35, text, ha="center", va="center", fontsize=8, color=colour)

        def arrow(start: tuple[float, float], end: tuple[float, float], colour: str, axes: Any = one) -> None:
            axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": colour, "lw": 0.9})

        box(2.4, -0.5, 4.4, f"$x_t$ in patches of {config['patch']}", INK)
        for i, block in enumerate(blocks):
            y = i + 0.7
            box(2.4, y, 4.4, f"block {i + 1}: attention{', text' if block['cross'] else ''}, MLP", INK)
            arrow((4.6, y - 0.5), (4.6, y), INK)
            if block["cross"]:
                arrow((7.4, y + 0.35), (6.85, y + 0.35), ACCENT)
        top = len(blocks) + 0.7
        box(2.4, top, 4.4, "patches to picture: F", INK)
        arrow((4.6, top - 0.3), (4.6, top), INK)
        one.plot([7.4, 7.4], [0.2, top - 0.3], color=ACCENT, lw=1)
        box(6.6, top + 1.2, 3.2, "frozen text encoder", ACCENT)
        arrow((7.4, top + 1.2), (7.4, top - 0.4), ACCENT)
        one.text(7.6, top + 0.2, "token states", fontsize=8, color=ACCENT)
        box(0.1, top + 1.2, 2.0, "level u", INK)
        one.plot([1.1, 1.1], [0.9, top + 1.2], color=INK, lw=1)
        for i in range(len(blocks)):
            arrow((1.1, i + 1.0), (2.35, i + 1.0), INK)
        one.text(0.0, 0.2, "shift, scale, gate", fontsize=8, color=INK)
        if with_pooled:
            arrow((6.6, top + 1.7), (2.15, top + 1.7), ACCENT)
            one.text(3.2, top + 1.85, "pooled vector, added", fontsize=8, color=ACCENT)
    return Figure(
        "Where the text enters",
        f"The shipped network has {len(blocks)} blocks; every {every}nd block attends to the text tokens"
        f"{', and the pooled text is added to the noise level' if pooled else ''}. Left, the same with cross-attention only.",
        plot,
        {
            "kind": config["kind"],
            "width": config["width"],
            "patch": config["patch"],
            "blocks": blocks,
            "pooled_text": pooled,
            "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()},
        },
    )
