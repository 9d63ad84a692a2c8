"""The model at work: what it draws, what it guesses at each level, how samplers, steps and guidance change a drawing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zaozi.core.config import Guidance, Sampling
from zaozi.core.types import Level
from zaozi.data.unihan import radical
from zaozi.diffusion.losses import training_times, weight_on_f
from zaozi.diffusion.prediction import target
from zaozi.diffusion.process import add_noise
from zaozi.evaluate.prompts import PROMPTS
from zaozi.guide.figures.paper import ACCENT, INK, Figure, as_url, canvas, numbers, show, strip
from zaozi.guide.figures.source import Source
from zaozi.guide.video import Film
from zaozi.model.checkpoint import find_model
from zaozi.pipeline import Watch, draw


@torch.inference_mode()
def drawn(
    source: Source,
    prompts: Sequence[str],
    pictures: Sequence[int],
    how: Sampling = Sampling(),
    on_step: Watch | None = None,
) -> Tensor:
    """Finished pictures `[B, 1, S, S]` for prompts, one each."""
    cond = source.artist.encode(list(prompts))
    return draw(source.artist.model, cond, how, pictures=list(pictures), on_step=on_step)


class Diary:
    """Keeps what `on_step` sees: time, x_t, x0_hat and eps_hat of every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, Tensor, Tensor, Tensor]] = []

    def __call__(self, t: float, x: Tensor, x0: Tensor, eps: Tensor) -> None:
        self.steps.append((t, x.clone(), x0.clone(), eps.clone()))


def real_and_drawn(source: Source) -> Figure:
    """Random training glyphs beside glyphs drawn for random held-out captions."""
    count = 16
    rng = source.generator(2)
    rows = np.sort(rng.choice(len(source.train), count, replace=False))
    asked = np.sort(rng.choice(len(source.test), count, replace=False))
    texts = [source.test.texts[r] for r in asked]
    made = drawn(source, texts, range(count))
    plot, axes = canvas(4, 9, width=9.4, height=4.4, gridspec_kw={"width_ratios": [1] * 4 + [0.3] + [1] * 4})
    for i in range(count):
        show(axes[i // 4, i % 4], source.train.batch(rows[i : i + 1]))
        show(axes[i // 4, 5 + i % 4], made[i])
    for one in axes[:, 4]:
        one.axis("off")
    axes[0, 0].set_title("real", loc="left")
    axes[0, 5].set_title("drawn", loc="left")
    return Figure(
        "Real and drawn",
        "Left, glyphs that the model learned from. Right, what it draws for captions it has never read: strokes and parts are "
        "those of Chinese characters, most of the characters are in no dictionary.",
        plot,
        {
            "real": [
                {"key": source.train.keys[r], "text": source.train.texts[r], "picture": as_url(source.train.batch([r]))}
                for r in rows
            ],
            "drawn": [{"text": t, "picture": as_url(p)} for t, p in zip(texts, made, strict=True)],
        },
    )


@torch.inference_mode()
def predictions(source: Source) -> Figure:
    """The network's guess of the noise in one glyph at many levels."""
    character, text, times = "明", "bright, light, brilliant; clear", (50, 200, 400, 600, 750, 850, 950, 1000)
    x0 = source.clean(character)
    eps = source.noise(tuple(x0.shape), 9)
    cond = source.artist.encode([text])
    rows: list[list[Tensor]] = []
    errors = []
    for t in times:
        level = source.schedule.level(float(t))
        x = add_noise(x0, eps, level)
        guess = source.artist.model(x, level, cond)
        rows.append([x, eps, guess.eps, guess.x0])
        errors.append(
            {"eps": numbers((guess.eps - eps).square().mean()), "x0": numbers((guess.x0 - x0).square().mean())}
        )
    names = ["$x_t$", r"noise $\epsilon$", r"guess $\hat\epsilon$", r"guess $\hat x_0$"]
    plot, axes = canvas(4, len(times), height=6.4, width=12.6)
    for column, (t, pictures) in enumerate(zip(times, rows, strict=True)):
        for row, picture in enumerate(pictures):
            reach = 1.0 if row == 3 else 2.5
            show(axes[row, column], picture, f"t = {t}" if row == 0 else "", low=-reach, high=reach)
    for row, name in enumerate(names):
        axes[row, 0].set_ylabel(name)
    return Figure(
        "One guess, two views",
        "With little noise the picture is plain and the noise hard to tell from it; with much, the noise is plain and the "
        "picture a blur of all that it could be. Noise and picture are two views of one guess: x_t = alpha x0 + sigma eps.",
        plot,
        {
            "character": character,
            "text": text,
            "schedule": source.schedule.name,
            "times": [
                {
                    "time": t,
                    "x_t": as_url(r[0], low=-2.5, high=2.5),
                    "eps": as_url(r[1], low=-2.5, high=2.5),
                    "eps_hat": as_url(r[2], low=-2.5, high=2.5),
                    "x0_hat": as_url(r[3]),
                    "error": e,
                }
                for t, r, e in zip(times, rows, errors, strict=True)
            ],
        },
    )


def films(source: Source) -> Figure:
    """The same noise on its way to a glyph: many steps, few, one; and three samplers."""
    settings = [
        ("dpmpp-2m", 120),
        ("dpmpp-2m", 5),
        ("dpmpp-2m", 1),
        ("ddpm", 120),
        ("ddim", 120),
        ("dpmpp-sde", 120),
    ]
    shares = (0.0, 0.25, 0.5, 0.75, 0.9)
    plot, axes = canvas(len(settings), len(shares) + 1, height=9.6, width=9.6)
    made, kept = {}, []
    for row, (sampler, steps) in enumerate(settings):
        film, seen = Film(96, crf=34), list[tuple[float, Tensor]]()

        def watch(t: float, x: Tensor, *_: Tensor, film: Film = film, seen: list[tuple[float, Tensor]] = seen) -> None:
            film.add(x)
            seen.append((t, x[0].clone()))

        finished = drawn(source, ["gold"] * 16, range(16), Sampling(steps, sampler), watch)
        made[f"{sampler}-{steps}"] = film.ending(finished)
        at = [min(int(share * len(seen)), len(seen) - 1) for share in shares]
        pictures = [seen[k][1] for k in at]
        strip(axes[row, :-1], pictures, [f"t = {seen[k][0]:.0f}" for k in at], low=-2, high=2)
        show(axes[row, -1], finished[0], "finished")
        axes[row, 0].set_ylabel(f"{sampler}\n{steps} step{'s' if steps > 1 else ''}")
        kept.append(
            {
                "sampler": sampler,
                "steps": steps,
                "calls": len(seen),
                "x_t": [as_url(p, low=-2, high=2) for p in pictures],
                "times": [numbers(seen[k][0]) for k in at],
                "finished": [as_url(p) for p in finished[:4]],
            }
        )
    return Figure(
        "From noise to gold",
        "One noise, one prompt. One step gives a guess, five a glyph, 120 a better one. DDIM and DPM-Solver++ walk a fixed "
        "path; DDPM and the SDE solver add fresh noise on the way and end elsewhere.",
        plot,
        {"prompt": "gold", "settings": kept},
        made,
    )


def first_guess(source: Source) -> Figure:
    """What the model sees in pure noise for "gold", and what 120 steps make of it."""
    count, steps = 4, 120
    diary = Diary()
    finished = drawn(source, ["gold"] * count, range(count), Sampling(steps), diary)
    at = [0, 10, 30, 60, 90]
    plot, axes = canvas(count, len(at) + 1, height=6.8, width=9.8)
    for row in range(count):
        titles = [f"guess at step {k + 1}" if row == 0 else "" for k in at]
        strip(axes[row, :-1], [diary.steps[k][2][row] for k in at], titles)
        show(axes[row, -1], finished[row], "after 120 steps" if row == 0 else "")
    return Figure(
        "The radical appears",
        "The first guess is a blur of all that gold could be, with what the prompt changes exaggerated by guidance: the metal "
        "radical is there already. Each step leaves less that it could be, until one glyph is left.",
        plot,
        {
            "prompt": "gold",
            "steps": [k + 1 for k in at],
            "guesses": [[as_url(diary.steps[k][2][row]) for k in at] for row in range(count)],
            "finished": [as_url(p) for p in finished],
        },
    )


def guidance_and_steps(source: Source) -> Figure:
    """One noise under every guidance scale and number of steps."""
    scales, counts = (0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0), (1, 2, 5, 10, 20, 50)
    rows = [
        [drawn(source, ["gold"], [3], Sampling(n, guidance=Guidance(scale)))[0] for scale in scales] for n in counts
    ]
    plot, axes = canvas(len(counts), len(scales), width=11, height=8.4)
    for row, (n, pictures) in enumerate(zip(counts, rows, strict=True)):
        strip(axes[row], pictures, [f"guidance {s:g}" if row == 0 else "" for s in scales])
        axes[row, 0].set_ylabel(f"{n} step{'s' if n > 1 else ''}")
    return Figure(
        "Guidance and steps",
        "At guidance 0 the prompt is not heard; at 1 plainly; beyond that its part is exaggerated. Far too much "
        "makes strokes heavy. Beyond 20 steps little changes.",
        plot,
        {
            "prompt": "gold",
            "scales": list(scales),
            "steps": list(counts),
            "pictures": [[as_url(p) for p in row] for row in rows],
        },
    )


def radicals(source: Source) -> Figure:
    """A prompt for each of the 36 most frequent radicals."""
    counts: dict[int, int] = {}
    for number in source.train.column("radical"):
        counts[number or 0] = counts.get(number or 0, 0) + 1
    frequent = sorted((r for r in PROMPTS if r in counts), key=lambda r: -counts[r])[:36]
    prompts = [PROMPTS[r][0] for r in frequent]
    made = drawn(source, prompts, range(len(prompts)))
    plot, axes = canvas(6, 6, width=9.6, height=10.2)
    for one, number, prompt, picture in zip(axes.flat, frequent, prompts, made, strict=False):
        words = prompt if len(prompt) < 26 else prompt[:24] + "…"
        show(one, picture, f"{radical(number)}  {words}")
        one.title.set_fontsize(7)
    return Figure(
        "Thirty-six meanings",
        "For each of the 36 most frequent radicals a prompt that means it, and the first drawing, not the best.",
        plot,
        {
            "drawn": [
                {"radical": radical(r), "glyphs": counts[r], "prompt": p, "picture": as_url(x)}
                for r, p, x in zip(frequent, prompts, made, strict=True)
            ]
        },
    )


@torch.inference_mode()
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
    names = ["$x_0$", r"$\epsilon$", "$x_t$", "what it says", "squared error"]
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
        "One step of training",
        "A clean glyph, noise, a time drawn at random; the network says what it was made from, and the squared error, "
        "weighted by level, moves its weights. The curve is the mean error of x0_hat at twenty fixed levels, unweighted, on "
        "glyphs it never saw, over the last run.",
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


def network(source: Source) -> Figure:
    """The network as its own code builds it, with the two ways in which text may enter."""
    net, config = source.artist.model.network, source.artist.model.config.network
    blocks = [{"cross": getattr(block, "cross", None) is not None} for block in getattr(net, "blocks", [])]
    pooled = getattr(net, "pooled", None) is not None
    plot, axes = canvas(1, 2, width=9.0, height=7.0)
    for one, name, with_pooled in (
        (axes[0, 0], "cross-attention alone", False),
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

        box(2.4, -0.5, 4.4, f"$x_t$ in patches of {config.patch}", INK)
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
        f"The shipped network has {len(blocks)} blocks; every {config.cross_every}nd attends to the text's tokens"
        f"{', and the pooled text is added to the level' if pooled else ''}. Left, the same with cross-attention alone.",
        plot,
        {
            "kind": config.kind,
            "width": config.width,
            "patch": config.patch,
            "blocks": blocks,
            "pooled_text": pooled,
            "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()},
        },
    )
