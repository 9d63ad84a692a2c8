"""First screen of the page: "gold" generated from nine seeds, as a recording, an animation and a share picture.

`python -m zaozi.guide.hero OUT` writes OUT/hero.webp, the animation.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from zaozi.core.outputs import Output
from zaozi.core.progress import progress
from zaozi.core.sampling import Sampling
from zaozi.data.font import default_font, web_font
from zaozi.guide.figures.live import Diary
from zaozi.guide.figures.source import Source
from zaozi.media.video import tiled
from zaozi.pipeline import draw, to_pictures

PROMPT, SEEDS, LARGE = "gold", range(9), 7
"""The prompt, the seeds, and the seed that is shown large."""
HOW = Sampling()
TONES = 31
"""Number of gray values minus one of the recorded predictions: enough for an animation, at a third of the size."""
EXPLAINED = (128, 1)
"""Side and channels of the pictures that can be explained."""
Explain = Callable[[NDArray[np.float32]], Mapping[str, Any]]
"""Explains a picture `[C, S, S]` in [-1, 1], as `Explanation` of web/src/engine/messages.ts."""


@dataclass(frozen=True)
class Recording:
    """One recorded sampling run."""

    seed: int
    x: Tensor
    """The noisy pictures `[steps, C, s, s]`."""
    x0: Tensor
    """The predictions of the clean picture `[steps, C, s, s]`."""
    finished: Tensor
    """`[1, C, S, S]` in [-1, 1]."""


@torch.inference_mode()
def recorded(source: Source) -> list[Recording]:
    """Return the recordings of `SEEDS`, each with its steps; computed once per source."""

    def make() -> list[Recording]:
        cond = source.artist.encode([PROMPT])
        made = []
        for seed in progress(SEEDS, desc="recording", unit="picture"):
            diary = Diary()
            finished = draw(source.artist.model, cond, replace(HOW, seed=seed), pictures=[0], on_step=diary)
            _, x, x0, _ = zip(*diary.steps, strict=True)
            made.append(Recording(seed, torch.cat(x), torch.cat(x0), finished))
        return made

    found: list[Recording] = source.memo("hero", make)
    return found


def explainer(source: Source) -> Explain | None:
    """Return the page's explainer; None if its networks do not support the model's pictures."""
    from zaozi.guide.compact import compact_model
    from zaozi.guide.explain import Explainer

    config = source.artist.model.config
    if (config.size, config.channels) != EXPLAINED:
        return None
    found = Explainer(compact_model(source.model_name))
    return lambda picture: asdict(found.explain(picture))


def packed(recordings: Sequence[Recording]) -> bytes:
    """Encode the predictions of every recording in `TONES` + 1 gray values, each as the difference from the previous one
    (modulo 256), then the finished pictures with 64 gray values; compressed with gzip.

    The noisy pictures are omitted, since they follow from the seed and the predictions.
    """
    guesses = np.stack([tones(r.x0, TONES) for r in recordings])
    changes = guesses.copy()
    changes[:, 1:] -= guesses[:, :-1]
    finished = np.concatenate([tones(r.finished, 63) for r in recordings])
    return gzip.compress(changes.tobytes() + finished.tobytes(), 9, mtime=0)


def tones(x: Tensor, top: int) -> NDArray[np.uint8]:
    """Convert pictures in [-1, 1] to integers from 0 (black) to `top` (white)."""
    return ((x.float().clamp(-1, 1) + 1) * (top / 2)).round().to(torch.uint8).numpy()


def recording(source: Source, explain: Explain | None = None) -> dict[str, Any]:
    """Return the recording in the page's format, with an explanation of each finished picture."""
    made = recorded(source)
    return {
        "prompt": PROMPT,
        "seed": LARGE,
        "steps": HOW.steps,
        "sampler": HOW.sampler,
        "guidance": HOW.guidance.scale,
        "schedule": source.schedule.name,
        "shape": list(source.artist.model.shape),
        "size": source.artist.model.config.size,
        "seeds": list(SEEDS),
        "tones": TONES,
        "explanations": [_in_words(explain(r.finished[0].numpy())) for r in made] if explain else None,
        "pictures": base64.b64encode(packed(made)).decode(),
    }


def _in_words(explanation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an explanation that shows characters as text instead of pictures; data/hero.woff includes them."""
    return {**explanation, "order": ""}


def write_hero(source: Source, out: Path, explain: Explain | None = None) -> None:
    """Write the page's first screen into a site: data/hero.json, share.png and, for the characters in the explanations,
    data/hero.woff."""
    made = recording(source, explain)
    content = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    (out / "data").mkdir(exist_ok=True)
    (out / "data" / "hero.json").write_text(content, encoding="utf-8")
    web_font("".join(sorted(signs(made["explanations"]))), out / "data" / "hero.woff")
    share_picture(source).save(out / "share.png", optimize=True)


def signs(told: Any) -> set[str]:
    """Return the Chinese characters anywhere in a JSON value."""
    if isinstance(told, str):
        return {character for character in told if character >= "\u2e80"}
    parts = told.values() if isinstance(told, Mapping) else told if isinstance(told, list) else []
    return set().union(*map(signs, parts))


def share_picture(source: Source) -> Image.Image:
    """Draw the link preview picture, 1200x630 pixels: the large glyph, the project's name, and a row of the other glyphs."""
    made = recorded(source)
    large = next(r for r in made if r.seed == LARGE)
    others = [r for r in made if r.seed != LARGE]
    board = Image.new("L", (1200, 630), 255)
    _paste(board, large.finished, (60, 75), 480)
    pen = ImageDraw.Draw(board)
    font = str(default_font())
    for text, size, y, ink in (
        ("zaozi 造字", 84, 60, 0),
        ("Type a meaning,", 44, 184, 70),
        ("watch a character form.", 44, 242, 70),
    ):
        pen.text((600, y), text, fill=ink, font=ImageFont.truetype(font, size))
    side = 116
    for i, one in enumerate(others):
        _paste(board, one.finished, (600 + i % 4 * (side + 14), 336 + i // 4 * (side + 10)), side)
    return board.quantize(32)


def _paste(board: Image.Image, picture: Tensor, at: tuple[int, int], side: int) -> None:
    board.paste(to_pictures(picture)[0].resize((side, side), Image.Resampling.BICUBIC), at)


def moving_picture(source: Source, path: Path, side: int = 144) -> None:
    """Write an animated WebP of the nine glyphs forming in a grid, which pauses on the finished ones and loops."""
    made = recorded(source)
    frames = [tiled(to_pictures(torch.stack([r.x[step] for r in made])), side) for step in range(HOW.steps)]
    finished = tiled(to_pictures(torch.cat([r.finished for r in made])), side)
    frames[0].save(
        path, save_all=True, append_images=[*frames[1:], finished], duration=[110] * HOW.steps + [2500], loop=0, quality=50,
        method=6,
    )  # fmt: skip


def main(folder: Path) -> None:
    """Write FOLDER/hero.webp."""
    output = Output(folder, "hero", ("hero.webp",), whole=False)
    output.check()
    with output.write() as work:
        moving_picture(Source(), work / "hero.webp")
    print(f"{folder / 'hero.webp'}: {(folder / 'hero.webp').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
