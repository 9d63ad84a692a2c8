"""Figures on the way back from noise: what a noisy picture may have been, how likely pictures are, and the map in noise."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from zaozi.core.types import Level
from zaozi.diffusion.process import add_noise
from zaozi.diffusion.schedules import schedule
from zaozi.guide.figures import figures
from zaozi.guide.figures.atlas import plane
from zaozi.guide.figures.live import drawn
from zaozi.guide.figures.paper import INK, SECOND, Figure, as_url, canvas, numbers, show
from zaozi.guide.figures.source import Source
from zaozi.pipeline import to_bytes
from zaozi.pipeline.likelihood import likelihood

CHARACTER = "明"
TIMES = (850, 900, 950, 990)
SHOWN = 5
"""Candidates per noisy picture."""
ROWS = 512
"""Batch size for encoding."""


def clean_glyphs(source: Source) -> Tensor:
    """Return all training glyphs in the diffusion space, `[N, C, s, s]`."""
    space, pairs = source.artist.model.space, source.train
    rows = [list(range(at, min(at + ROWS, len(pairs)))) for at in range(0, len(pairs), ROWS)]
    with torch.no_grad():
        return torch.cat([space.encode(pairs.batch(some)) for some in rows])


def candidates(x_t: Tensor, clean: Tensor, level: Level) -> Tensor:
    """Return the probability of each clean picture `[N, C, s, s]` given a noisy one `[1, C, s, s]`, if all were equally frequent:
    softmax(-|x_t - alpha x_i|^2 / (2 sigma^2)), `[N]`, float64.
    """
    alpha, sigma = float(level.alpha), float(level.sigma)
    flat = clean.flatten(1)
    inner = (flat @ x_t.flatten().to(flat)).double()
    return torch.softmax((alpha * inner - alpha**2 / 2 * flat.square().sum(1).double()) / sigma**2, 0)


def percent(share: float) -> str:
    """Return a probability in words.

    >>> percent(0.354), percent(0.0004)
    ('35%', 'under 1%')
    """
    return f"{share:.0%}" if share >= 0.005 else "under 1%"


@figures.register("21-candidates")
def what_it_may_have_been(source: Source) -> Figure:
    """Noisy pictures, the training glyphs that each may have been, their average, and the guess of the network."""
    characters = source.train.columns["character"]
    row = characters.index(CHARACTER) if CHARACTER in characters else 0
    clean = clean_glyphs(source)
    x0, eps = clean[row : row + 1], source.noise(tuple(clean[:1].shape), 21)
    without = source.artist.encode([""]).null()
    plot, axes = canvas(len(TIMES), SHOWN + 3, height=len(TIMES) * 1.75, width=(SHOWN + 3) * 1.6)
    rows = []
    for line, t in zip(axes, TIMES, strict=True):
        level = source.schedule.level(float(t))
        x_t = add_noise(x0, eps, level)
        chances = candidates(x_t, clean, level)
        best = chances.topk(SHOWN).indices.tolist()
        average = (chances.to(clean)[:, None] * clean.flatten(1)).sum(0).reshape(x0.shape)
        with torch.no_grad():
            guess = source.artist.model(x_t, level, without).x0
        show(line[0], x_t, f"t = {t}", low=-2.5, high=2.5)
        for one, place in zip(line[1:], best, strict=False):
            show(one, clean[place], percent(float(chances[place])))
        show(line[-2], average, "average of all" if t == TIMES[0] else "")
        show(line[-1], guess, "network" if t == TIMES[0] else "")
        found = [{"character": characters[place], "probability": numbers(float(chances[place]))} for place in best]
        rows.append({"time": t, "candidates": found, "average": as_url(average), "guess": as_url(guess)})
    return Figure(
        "What a noisy picture may have been",
        f"Left, {characters[row]} with more and more noise. Then the {SHOWN} training glyphs that it most likely was, with their "
        "probabilities, which arithmetic alone gives. Right, the average of all training glyphs, weighted by these "
        "probabilities, and the guess of the network, which has never been shown this average.",
        plot,
        {"character": characters[row], "times": rows},
    )


def scribble(size: int, random: np.random.Generator) -> Image.Image:
    """Return a picture of one long line that wanders, as thick as the font's strokes."""
    knots = random.uniform(0.1, 0.9, (10, 2))
    at = np.linspace(0, len(knots) - 1, 200)
    x, y = (np.interp(at, np.arange(len(knots)), knots[:, k]) * size for k in (0, 1))
    smooth = np.ones(15) / 15
    line = np.stack([np.convolve(v, smooth, "valid") for v in (x, y)], 1)
    picture = Image.new("L", (size, size), 255)
    ImageDraw.Draw(picture).line(
        [(float(a), float(b)) for a, b in line], fill=0, width=max(1, size // 14), joint="curve"
    )
    return picture


@figures.register("22-likelihood")
def how_likely(source: Source) -> Figure:
    """Held-out real glyphs, drawn ones for the same captions, and scribbles, each with its information."""
    count, size = 4, source.artist.model.config.size
    rows = source.generator(22).choice(len(source.test), count, replace=False)
    texts = [source.test.texts[row] for row in rows]
    made = to_bytes(drawn(source, texts, range(count)))[:, 0]
    groups = {
        "real": [Image.fromarray(source.test.pictures[row][0]) for row in rows],
        "drawn": [Image.fromarray(one) for one in made],
        "scribbled": [scribble(size, source.generator(22, k)) for k in range(count)],
    }
    bits = likelihood(source.artist, [one for group in groups.values() for one in group])
    plot, axes = canvas(len(groups), count, width=5.2, height=4.6)
    told = {}
    for k, (line, (name, group)) in enumerate(zip(axes, groups.items(), strict=True)):
        mine = bits[k * count : (k + 1) * count]
        for one, picture, value in zip(line, group, mine, strict=True):
            show(one, picture, f"{value:.2f}")
        line[0].set_ylabel(name)
        told[name] = [{"picture": as_url(one), "bits": numbers(v, 3)} for one, v in zip(group, mine, strict=True)]
    side = source.artist.model.shape[-1]
    least, most = min(bits[: 2 * count]), max(bits[: 2 * count])
    return Figure(
        "How likely a picture is",
        "Real characters that were not used in training, drawn ones for their meanings, and scribbles, each with its information "
        f"in bits per number of the {side}x{side} picture that the model sees: fewer is more likely. Characters need "
        f"{least:.2f} to {most:.2f} bits, scribbles {min(bits[2 * count :]):.2f} to {max(bits[2 * count :]):.2f}.",
        plot,
        {"texts": texts, **told},
    )


@figures.register("20-map-noised")
def map_noised(source: Source) -> Figure:
    """The map of all glyphs with more and more noise, and the density of its points."""
    from scipy.ndimage import gaussian_filter

    points = torch.from_numpy(plane(source)).double()
    points = (points - points.mean(0)) / points.std(0)
    eps = source.noise(tuple(points.shape), 20).double()
    path, times, reach, cells = schedule("cosine"), (0, 200, 400, 600, 800, 1000), 3.0, 120
    plot, axes = canvas(2, len(times), width=12, height=4.4)
    spread = []
    for column, t in zip(axes.T, times, strict=True):
        x = add_noise(points, eps, path.level(float(t))).numpy() if t else points.numpy()
        heights = np.histogram2d(x[:, 0], x[:, 1], bins=cells, range=[[-reach, reach], [-reach, reach]])[0]
        column[0].scatter(*x.T, s=0.3, color=INK, lw=0, alpha=0.5, rasterized=True)
        column[0].set_title(f"t = {t}")
        column[1].imshow(gaussian_filter(heights, 2.0).T, origin="lower", cmap="Greys", extent=(-reach, reach) * 2)
        for one in column:
            one.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
            one.axis("off")
        spread.append({"time": t, "std": numbers(float(x.std())), "points": numbers(x[:400], 3)})
    circle = np.linspace(0, 2 * np.pi, 100)
    for k in (1, 2):
        axes[1, -1].plot(k * np.cos(circle), k * np.sin(circle), color=SECOND, lw=0.8)
    return Figure(
        "The map of all glyphs in noise",
        "Above, the map with more and more noise: each point moves towards the middle and is scattered. Below, how dense the "
        "points are. The groups blur, merge, and end as one round Gaussian (circles: one and two standard deviations).",
        plot,
        {"schedule": path.name, "times": spread},
    )
