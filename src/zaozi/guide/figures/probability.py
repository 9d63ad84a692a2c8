"""Figures on distributions: a Gaussian, a joint density and its slices, a picture as a vector, and noise."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from zaozi.diffusion.mixture import TWO
from zaozi.diffusion.schedules import schedule
from zaozi.guide.figures import figures
from zaozi.guide.figures.paper import ACCENT, INK, ON_PICTURE, QUIET, SECOND, Figure, as_url, canvas, numbers, show
from zaozi.guide.figures.source import Source


@figures.register("01-gaussian")
def gaussian(source: Source) -> Figure:
    """A one-dimensional Gaussian, samples of it, and the Gaussian that fits them."""
    mean, std, count = 1.0, 1.5, 400
    samples = mean + std * source.generator(1).standard_normal(count)
    fit_mean, fit_std = float(samples.mean()), float(samples.std())
    x = np.linspace(mean - 4 * std, mean + 4 * std, 241)

    def density(m: float, s: float) -> np.ndarray:
        return np.exp(-((x - m) ** 2) / (2 * s**2)) / (s * np.sqrt(2 * np.pi))

    plot, ((axes,),) = canvas(width=5.6, height=2.8)
    heights, edges, _ = axes.hist(samples, bins=30, density=True, color=QUIET, label=f"{count} samples")
    axes.plot(x, density(mean, std), color=INK, label=f"N({mean:g}, {std:g}²)")
    axes.plot(x, density(fit_mean, fit_std), "--", color=ACCENT, label=f"fitted: N({fit_mean:.2f}, {fit_std:.2f}²)")
    axes.legend(frameon=False)
    axes.set_xlabel("x")
    axes.set_ylabel("density")
    return Figure(
        "A Gaussian, fitted from samples",
        f"{count} samples are enough to estimate the mean ({fit_mean:.2f}, true value {mean:g}) and the standard deviation "
        f"({fit_std:.2f}, true value {std:g}). To learn a distribution is to find the one that the samples came from.",
        plot,
        {
            "mean": mean,
            "std": std,
            "x": numbers(x),
            "density": numbers(density(mean, std)),
            "samples": numbers(samples),
            "histogram": {"heights": numbers(heights), "edges": numbers(edges)},
            "fit": {"mean": numbers(fit_mean), "std": numbers(fit_std), "density": numbers(density(fit_mean, fit_std))},
        },
    )


@figures.register("03-picture-as-vector")
def picture_as_vector(source: Source) -> Figure:
    """One glyph at 32x32 with its pixel values written in."""
    small = source.glyph("明", 128).resize((32, 32), Image.Resampling.BOX)
    values = np.asarray(small)
    plot, ((axes,),) = canvas(width=8.4, height=8.4)
    show(axes, small)
    for y in range(32):
        for x in range(32):
            dark = values[y, x] < 128
            axes.text(x, y, int(values[y, x]), ha="center", va="center", fontsize=5, color=ON_PICTURE[0 if dark else 1])
    return Figure(
        "A picture is a vector",
        "明 at 32x32: 1,024 numbers from 0 (black) to 255 (white). Read row by row, they are one point in a space of 1,024 "
        "dimensions. Every other picture of this size is another point in it.",
        plot,
        {"character": "明", "pixels": values.tolist()},
    )


@figures.register("11-joint-density")
def joint_density(source: Source) -> Figure:
    """A joint density with its two marginals and two conditional slices; c stands for the caption, x for the picture."""
    clean = schedule("linear_path").level(0.0)
    grid = np.linspace(-1.6, 1.6, 161)
    xx, yy = np.meshgrid(grid, grid)
    points = torch.from_numpy(np.stack([xx, yy], -1).reshape(-1, 1, 1, 2))
    density = TWO.log_density(points, clean).exp().numpy().reshape(xx.shape)
    step = grid[1] - grid[0]
    density /= density.sum() * step**2
    of_c, of_x = density.sum(0) * step, density.sum(1) * step
    cuts = (-0.7, 0.6)
    slices = []
    for at in cuts:
        column = density[:, np.abs(grid - at).argmin()]
        slices.append(column / (column.sum() * step))
    plot, axes = canvas(2, 2, width=6.2, height=5.6, gridspec_kw={"width_ratios": [2, 1.2], "height_ratios": [1, 2]})
    axes[0, 1].axis("off")
    axes[1, 0].contourf(xx, yy, density, levels=12, cmap="Greys")
    axes[1, 0].set(xlabel="c", ylabel="x", title="p(c, x)")
    axes[0, 0].plot(grid, of_c, color=INK)
    axes[0, 0].set_title("p(c): summed over x")
    axes[1, 1].plot(of_x, grid, color=INK, label="p(x)")
    for at, slice_, colour in zip(cuts, slices, (ACCENT, SECOND), strict=True):
        axes[1, 0].axvline(at, color=colour, lw=1)
        axes[1, 1].plot(slice_, grid, color=colour, label=f"p(x | c = {at:g})")
    axes[1, 1].legend(frameon=False, fontsize=8)
    return Figure(
        "Joint, marginal, conditional",
        "A slice through the joint density, scaled to area one, is the density of x for a known c. "
        "A prompt has the same effect: of all glyphs, it leaves those that fit.",
        plot,
        {
            "grid": numbers(grid),
            "density": numbers(density[::2, ::2], 4),
            "marginal_c": numbers(of_c),
            "marginal_x": numbers(of_x),
            "slices": [{"c": at, "density": numbers(s)} for at, s in zip(cuts, slices, strict=True)],
        },
    )


@figures.register("18-independent-noise")
def independent_noise(source: Source) -> Figure:
    """N(0, I) next to noise with correlated pixels, each with the covariance of a row of pixels."""
    side, count = 32, 4000
    noise = source.generator(18).standard_normal((count, side, side))
    reach = np.exp(-0.5 * (np.minimum(np.arange(side), side - np.arange(side)) / 2.0) ** 2)
    kernel = np.fft.fft2(np.outer(reach, reach))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * kernel).real
    smooth /= smooth.std()
    rows = [v[:, side // 2, :] for v in (noise, smooth)]
    covariances = [np.cov(row, rowvar=False) for row in rows]
    plot, axes = canvas(2, 2, width=5.0, height=5.0)
    names = ("independent: N(0, I)", "correlated: N(0, C)")
    for i, (sample, covariance, name) in enumerate(zip((noise[0], smooth[0]), covariances, names, strict=True)):
        show(axes[i, 0], sample, name, low=-3, high=3)
        axes[i, 1].imshow(covariance, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
        axes[i, 1].set_title("covariance of one row's pixels")
    return Figure(
        "Independent noise",
        "The covariance of the noise used in diffusion is the identity: the pixels are independent. In the lower picture, "
        "neighbouring pixels are correlated, and the covariance has a broad diagonal.",
        plot,
        {
            "independent": as_url(noise[0], low=-3, high=3),
            "correlated": as_url(smooth[0], low=-3, high=3),
            "covariance_independent": numbers(covariances[0], 3),
            "covariance_correlated": numbers(covariances[1], 3),
        },
    )
