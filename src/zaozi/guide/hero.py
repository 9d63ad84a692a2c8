"""What a visitor sees first: "gold" drawn from nine seeds, recorded for the page, as a moving picture and as a share picture.

`python -m zaozi.guide.hero OUT` writes OUT/hero.webp, the moving picture.
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
"""What is drawn, from which seeds, and which of them is shown large."""
HOW = Sampling()
TONES = 31
"""Grey values, less one, of the recorded guesses: enough for a picture in motion, and a third of the size."""
EXPLAINED = (128, 1)
"""Side and channels of the pictures that can be explained."""
Explain = Callable[[NDArray[np.float32]], Mapping[str, Any]]
"""What a picture `[C, S, S]` in [-1, 1] shows, as `Explanation` of web/src/engine/messages.ts."""


@dataclass(frozen=True)
class Recording:
    """One drawing as it formed."""

    seed: int
    x: Tensor
    """The noisy pictures `[steps, C, s, s]`."""
    x0: Tensor
    """The guesses at the clean picture `[steps, C, s, s]`."""
    finished: Tensor
    """`[1, C, S, S]` in [-1, 1]."""


@torch.inference_mode()
def recorded(source: Source) -> list[Recording]:
    """The drawings of `SEEDS`, each with its steps; drawn once for a source."""

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
    """What pictures show, by the networks with which the page explains them; None for models whose pictures these do not read."""
    from zaozi.guide.compact import compact_model
    from zaozi.guide.explain import Explainer

    config = source.artist.model.config
    if (config.size, config.channels) != EXPLAINED:
        return None
    found = Explainer(compact_model(source.model_name))
    return lambda picture: asdict(found.explain(picture))


def packed(recordings: Sequence[Recording]) -> bytes:
    """The guesses of every drawing in `TONES` + 1 grey values, each as the difference from the one before (modulo 256), then
    the finished pictures with 64 grey values; compressed with gzip.

    The noisy pictures follow from the seed and the guesses, so they are left out.
    """
    guesses = np.stack([tones(r.x0, TONES) for r in recordings])
    changes = guesses.copy()
    changes[:, 1:] -= guesses[:, :-1]
    finished = np.concatenate([tones(r.finished, 63) for r in recordings])
    return gzip.compress(changes.tobytes() + finished.tobytes(), 9, mtime=0)


def tones(x: Tensor, top: int) -> NDArray[np.uint8]:
    """Pictures in [-1, 1] as whole numbers from 0 (black) to `top` (white)."""
    return ((x.float().clamp(-1, 1) + 1) * (top / 2)).round().to(torch.uint8).numpy()


def recording(source: Source, explain: Explain | None = None) -> dict[str, Any]:
    """The recording as the page reads it, with what each finished picture shows."""
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
    """An explanation whose characters are written, not shown by pictures: data/hero.woff has them."""
    return {**explanation, "order": ""}


def write_hero(source: Source, out: Path, explain: Explain | None = None) -> None:
    """Write the page's first screen into a site that is being filled: data/hero.json, share.png and, for the characters that
    the explanations name, data/hero.woff."""
    made = recording(source, explain)
    content = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    (out / "data").mkdir(exist_ok=True)
    (out / "data" / "hero.json").write_text(content, encoding="utf-8")
    web_font("".join(sorted(signs(made["explanations"]))), out / "data" / "hero.woff")
    share_picture(source).save(out / "share.png", optimize=True)


def signs(told: Any) -> set[str]:
    """The Chinese characters anywhere in some JSON."""
    if isinstance(told, str):
        return {character for character in told if character >= "\u2e80"}
    parts = told.values() if isinstance(told, Mapping) else told if isinstance(told, list) else []
    return set().union(*map(signs, parts))


def share_picture(source: Source) -> Image.Image:
    """1200x630 pixels, for links to the page: the large glyph, the project's name, and the other glyphs in a row."""
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
    """Write an animated WebP of the nine drawings forming in a grid, which rests on the finished ones and starts again."""
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
