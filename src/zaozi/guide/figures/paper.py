"""Common parts of all figures: a plot, its data, and a sentence that describes it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

INK, ACCENT, SECOND, QUIET = "#222222", "#c8442b", "#2b6c8a", "#b8b2a7"
"""Colors of text and lines, of the main item, of its comparison, and of everything else."""
ON_PICTURE = ("#ffffff", "#111111")
"""Colors of text on dark and on light areas of a picture; the same on light and dark pages."""
INCHES = 2.1
"""Side of one panel, in inches."""
Array = NDArray[Any]


@dataclass(frozen=True)
class Figure:
    """One figure: `plot` is a matplotlib figure, `data` its numbers, `says` a description in one or two sentences."""

    title: str
    says: str
    plot: Any
    data: dict[str, Any]
    films: dict[str, Any] = field(default_factory=dict)
    """Videos of the figure by name: objects with `write(path)`."""


def styled() -> Any:
    """Context manager that applies the guide's plot style and restores matplotlib's settings afterwards."""
    import matplotlib as mpl

    style: Any = {
        "font.size": 9.0,
        "font.family": families(),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.titlesize": 9.0,
        "axes.unicode_minus": False,
        "svg.hashsalt": "zaozi",
    }
    return mpl.rc_context(style)


Share = bool | Literal["none", "all", "row", "col"]


def canvas(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = 0.0,
    height: float = 0.0,
    sharex: Share = False,
    sharey: Share = False,
    gridspec_kw: dict[str, Any] | None = None,
) -> tuple[Any, Any]:
    """Create a matplotlib figure and its axes `[rows, columns]`; the last three arguments are passed to `subplots`."""
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(width or columns * INCHES, height or rows * INCHES), layout="constrained")
    return plot, plot.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey, gridspec_kw=gridspec_kw)


def families() -> list[str]:
    """Return matplotlib's default font, and the bundled CJK font for characters."""
    from matplotlib import font_manager

    from zaozi.data.font import default_font

    path = default_font()
    if not any(entry.fname == str(path) for entry in font_manager.fontManager.ttflist):
        font_manager.fontManager.addfont(str(path))
    return ["DejaVu Sans", str(font_manager.FontProperties(fname=str(path)).get_name())]


def show(
    axes: Any, picture: Array | Tensor | Image.Image, title: str = "", *, low: float = -1.0, high: float = 1.0
) -> None:
    """Show one grayscale picture `[S, S]` or `[1, S, S]`, black at `low` and white at `high`, without ticks."""
    pixels = grey(picture)
    if isinstance(picture, Image.Image):
        low, high = 0.0, 255.0
    axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, interpolation="none")
    axes.set_title(title)
    bare(axes)


def bare(axes: Any) -> None:
    """Remove ticks and draw a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)
        spine.set_color(QUIET)


def grey(picture: Array | Tensor | Image.Image) -> Array:
    """Convert a picture to an array `[S, S]`."""
    array = picture.detach().float().numpy() if isinstance(picture, Tensor) else np.asarray(picture)
    return array.reshape(array.shape[-2:]) if array.ndim > 2 else array


def as_url(picture: Array | Tensor | Image.Image, *, low: float = -1.0, high: float = 1.0) -> str:
    """Encode a picture as a PNG data URL; arrays are scaled from `low` (black) to `high` (white)."""
    if not isinstance(picture, Image.Image):
        scaled = (grey(picture) - low) / (high - low)
        picture = Image.fromarray((np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8))
    held = io.BytesIO()
    picture.save(held, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def numbers(values: Any, digits: int = 5) -> Any:
    """Convert arrays to nested lists for JSON, rounded to `digits` significant digits; NaN becomes None."""
    if isinstance(values, Tensor):
        values = values.detach().double().numpy()
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, (list, tuple)):
        return [numbers(v, digits) for v in values]
    if isinstance(values, (float, np.floating)):
        return float(f"{float(values):.{digits}g}") if np.isfinite(values) else None
    return int(values) if isinstance(values, np.integer) else values


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.png, NAME.svg, NAME.json and the videos; returns the paths."""
    from zaozi.core.files import write_json

    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / f"{name}.png", folder / f"{name}.svg", folder / f"{name}.json"]
    figure.plot.savefig(made[0], dpi=150)
    made[1].write_text(vector(figure), encoding="utf-8")
    write_json(made[2], {"title": figure.title, "says": figure.says, "data": figure.data})
    for kind, film in figure.films.items():
        made.append(folder / f"{name}-{kind}.mp4")
        film.write(made[-1])
    return made


def vector(figure: Figure) -> str:
    """Return the figure as SVG, transparent and with colors that follow the reader's color scheme."""
    from zaozi.guide.figures.vector import for_pages

    held = io.StringIO()
    figure.plot.savefig(held, format="svg", dpi=200, transparent=True, metadata={"Date": None, "Creator": None})
    return for_pages(held.getvalue())


def strip(
    axes: Sequence[Any], pictures: Sequence[Any], titles: Sequence[str], *, low: float = -1.0, high: float = 1.0
) -> None:
    """Show pictures side by side, black at `low` and white at `high`."""
    for one, picture, title in zip(axes, pictures, titles, strict=True):
        show(one, picture, title, low=low, high=high)
