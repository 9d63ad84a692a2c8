"""Figures of the model in use: samples, predictions at each level, and the effect of samplers, steps and guidance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zaozi.core.sampling import Guidance, Sampling
from zaozi.data.unihan import radical
from zaozi.diffusion.process import add_noise
from zaozi.evaluate.prompts import PROMPTS
from zaozi.guide.figures import figures
from zaozi.guide.figures.paper import Figure, as_url, canvas, numbers, show, strip
from zaozi.guide.figures.source import Source
from zaozi.media.video import Film
from zaozi.pipeline import Watch, draw


@torch.inference_mode()
def drawn(
    source: Source,
    prompts: Sequence[str],
    pictures: Sequence[int],
    how: Sampling = Sampling(),
    on_step: Watch | None = None,
) -> Tensor:
    """Generate one finished picture per prompt, `[B, 1, S, S]`."""
    cond = source.artist.encode(list(prompts))
    return draw(source.artist.model, cond, how, pictures=list(pictures), on_step=on_step)


class Diary:
    """Records the arguments of `on_step`: time, x_t, x0_hat and eps_hat of every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, Tensor, Tensor, Tensor]] = []

    def __call__(self, t: float, x: Tensor, x0: Tensor, eps: Tensor) -> None:
        self.steps.append((t, x.clone(), x0.clone(), eps.clone()))


@figures.register("02-real-and-drawn")
def real_and_drawn(source: Source) -> Figure:
    """Random training glyphs next to glyphs generated for random held-out captions."""
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
        "Left, glyphs from the training data. Right, glyphs drawn for captions that are not in it: strokes and parts are those "
        "of Chinese characters, but most of these characters are in no dictionary.",
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
@figures.register("09-predictions")
def predictions(source: Source) -> Figure:
    """The network's noise prediction for one glyph at many levels."""
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
    names = ["$x_t$", r"noise $\epsilon$", r"predicted $\hat\epsilon$", r"predicted $\hat x_0$"]
    plot, axes = canvas(4, len(times), height=6.4, width=12.6)
    for column, (t, pictures) in enumerate(zip(times, rows, strict=True)):
        for row, picture in enumerate(pictures):
            reach = 1.0 if row == 3 else 2.5
            show(axes[row, column], picture, f"t = {t}" if row == 0 else "", low=-reach, high=reach)
    for row, name in enumerate(names):
        axes[row, 0].set_ylabel(name)
    return Figure(
        "One prediction, two views",
        "With little noise, the picture is clear and the noise is hard to predict. With much noise, the noise is clear and the "
        "predicted picture is a blur, the average of all possible pictures. Noise and picture are two views of one prediction: "
        "x_t = alpha x0 + sigma eps.",
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


@figures.register("10-films")
def films(source: Source) -> Figure:
    """Sampling from the same noise with many steps, few, and one; and with three samplers."""
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
        "The same noise and the same prompt. One step gives a blur, five steps a glyph, 120 steps a better one. DDIM and "
        "DPM-Solver++ follow a fixed path. DDPM and the SDE solver add new noise at each step and end in a different glyph.",
        plot,
        {"prompt": "gold", "settings": kept},
        made,
    )


@figures.register("14-first-guess")
def first_guess(source: Source) -> Figure:
    """The model's first prediction from pure noise for "gold", and the result after 120 steps."""
    count, steps = 4, 120
    diary = Diary()
    finished = drawn(source, ["gold"] * count, range(count), Sampling(steps), diary)
    at = [0, 10, 30, 60, 90]
    plot, axes = canvas(count, len(at) + 1, height=6.8, width=9.8)
    for row in range(count):
        titles = [f"prediction, step {k + 1}" if row == 0 else "" for k in at]
        strip(axes[row, :-1], [diary.steps[k][2][row] for k in at], titles)
        show(axes[row, -1], finished[row], "after 120 steps" if row == 0 else "")
    return Figure(
        "The radical appears",
        "The first prediction is a blur of all possible glyphs for gold. Guidance exaggerates the effect of the prompt, so the "
        "metal radical is already visible. Each step leaves fewer possibilities, until one glyph is left.",
        plot,
        {
            "prompt": "gold",
            "steps": [k + 1 for k in at],
            "guesses": [[as_url(diary.steps[k][2][row]) for k in at] for row in range(count)],
            "finished": [as_url(p) for p in finished],
        },
    )


SLIDER = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0)
"""Guidance scales of the page's slider."""
SLID, SEEDS, SIDE = ("gold", "fire", "clear water"), 4, 64
"""Its prompts, glyphs per prompt, and their side in pixels."""


def sheet(source: Source, prompt: str) -> str:
    """Draw a prompt at every scale of `SLIDER`, a row per scale and a column per seed, as a PNG data URL."""
    rows = [drawn(source, [prompt] * SEEDS, range(SEEDS), Sampling(guidance=Guidance(scale))) for scale in SLIDER]
    small = torch.nn.functional.interpolate(torch.cat(rows)[:, :1], SIDE, mode="area")
    return as_url(torch.cat([torch.cat(list(row), -1) for row in small.split(SEEDS)], -2))


@figures.register("15-guidance-and-steps")
def guidance_and_steps(source: Source) -> Figure:
    """The same noise for every guidance scale and number of steps, and the glyphs of the page's slider."""
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
        "At guidance 0 the prompt has no effect. At 1 it has its normal effect, and above 1 this effect is exaggerated. Too much "
        "guidance makes the parts simple, and the glyphs alike. Beyond 20 steps, little changes.",
        plot,
        {
            "prompt": "gold",
            "scales": list(scales),
            "steps": list(counts),
            "pictures": [[as_url(p) for p in row] for row in rows],
            "slider": {
                "scales": list(SLIDER),
                "columns": SEEDS,
                "side": SIDE,
                "sheets": [{"prompt": prompt, "sheet": sheet(source, prompt)} for prompt in SLID],
            },
        },
    )


@figures.register("15-radicals")
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
        "One prompt for each of the 36 most frequent radicals, and the first glyph drawn for it, not the best of several.",
        plot,
        {
            "drawn": [
                {"radical": radical(r), "glyphs": counts[r], "prompt": p, "picture": as_url(x)}
                for r, p, x in zip(frequent, prompts, made, strict=True)
            ]
        },
    )
