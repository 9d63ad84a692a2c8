"""Figure of larger pictures: diffusion in a smaller space, then a stage that draws the result anew at twice the size."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from zaozi.core.sampling import Sampling
from zaozi.guide.figures import figures
from zaozi.guide.figures.live import Diary, drawn
from zaozi.guide.figures.paper import Figure, as_url, canvas, show
from zaozi.guide.figures.source import Source
from zaozi.pipeline import enlarge

PROMPT = "clear water"
COLUMNS = 6
NOISE = 2.5
"""Values of x_t that are shown as black (negative) and white."""


def places(count: int, shown: int) -> list[int]:
    """Return `shown` of `count` steps, from the first to the last.

    >>> places(20, 4), places(2, 4)
    ([0, 6, 13, 19], [0, 1])
    """
    return sorted({round(i * (count - 1) / (shown - 1)) for i in range(shown)})


def size(x: Tensor) -> str:
    """Return the size of one picture in words.

    >>> import torch
    >>> size(torch.zeros(1, 1, 64, 64)), size(torch.zeros(1, 4, 8, 8))
    ('64x64', '4 times 8x8')
    """
    channels, high, wide = x.shape[-3:]
    return f"{wide}x{high}" if channels == 1 else f"{channels} times {wide}x{high}"


@figures.register("23-larger")
def larger(source: Source) -> Figure:
    """The way of one drawing: predictions in the space of diffusion, its decoding, and each super-resolution stage."""
    model, diary, how = source.artist.model, Diary(), Sampling()
    made = drawn(source, [PROMPT], [0], how, diary)
    rows = [_row(diary, "decoded", made)]
    for number, stage in enumerate(source.artist.stages, 1):
        diary, before = Diary(), made
        nothing = source.artist.encode([""])
        made = enlarge(stage, made, nothing, how, pictures=[0], number=number, on_step=diary)
        rows.append(_row(diary, "result", made, before))
    across = made.shape[-1] // 4  # a quarter of the side, for the details
    inner = slice(across, 3 * across)
    crops = [
        (F.interpolate(x, made.shape[-2:])[..., inner, inner], f"middle, {size(x)}", 1.0)
        for x in [rows[0][-2][0], *(row[-1][0] for row in rows)]
    ]
    plot, axes = canvas(len(rows) + 1, COLUMNS, width=COLUMNS * 1.75)
    for line, row in zip(axes, [*rows, crops], strict=True):
        for one in line[len(row) :]:
            one.remove()
        for one, (picture, title, reach) in zip(line, row, strict=False):
            show(one, picture[0, :1], title, low=-reach, high=reach)
    inside, outside = model.shape, model.config.size
    says = (
        f"Diffusion runs on {inside[1]}x{inside[2]} pixels. A small network restores {outside}x{outside} from the result."
        if tuple(inside[1:]) != (outside, outside)
        else f"Diffusion runs on all {outside}x{outside} pixels."
    )
    if len(rows) > 1:
        says += (
            " Below, a second diffusion model gets this drawing, enlarged and with a little noise, starts from noise of its own, "
            "and draws the large picture. It knows nothing of the text."
        )
    return Figure("Larger pictures", says, plot, {"prompt": PROMPT, "rows": [_data(row) for row in [*rows, crops]]})


Shown = tuple[Tensor, str, float]
"""A picture, its title, and the value that is shown as white."""


def _row(diary: Diary, end: str, made: Tensor, before: Tensor | None = None) -> list[Shown]:
    """Return what is given, pure noise, some predictions, and what is made of the last one."""
    _, noise, first, _ = diary.steps[0]
    given: list[Shown] = [] if before is None else [(before, f"given, {size(before)}", 1.0)]
    start: Shown = (noise, f"noise, {size(first)}", NOISE)
    at = places(len(diary.steps), COLUMNS - 2 - len(given))
    middle: list[Shown] = [(diary.steps[k][2], f"guess {k + 1} of {len(diary.steps)}", 1.0) for k in at]
    return [*given, start, *middle, (made, f"{end}, {size(made)}", 1.0)]


def _data(row: list[Shown]) -> list[dict[str, Any]]:
    return [{"title": title, "picture": as_url(x[0, :1], low=-reach, high=reach)} for x, title, reach in row]
