"""Sampling as a film: the noisy pictures of every step, ending on the finished ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zaozi.core.errors import ZaoziError
from zaozi.pipeline import to_bytes, to_images, to_pictures

SUFFIXES = (".mp4", ".gif", ".webp")


def check_suffix(path: Path) -> None:
    """Raises `ZaoziError` for a kind of file that cannot be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise ZaoziError(f"cannot write '{path.name}'; a video's name ends in {', '.join(SUFFIXES)}")


def tiled(pictures: Sequence[Image.Image], side: int) -> Image.Image:
    """Pictures in a near-square grid of tiles of one side, RGB on white."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * side, rows * side), "white")
    for i, picture in enumerate(pictures):
        grid.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (i % columns * side, i // columns * side))
    return grid


class Film:
    """Collects frames `[B, C, s, s]` in [-1, 1], as bytes, and writes them with the finished pictures held at the end.

    `crf` is H.264's constant rate factor: 18 looks like the original, 32 keeps noise, which compresses badly, small.
    """

    def __init__(self, side: int = 256, *, seconds: float = 4.0, hold: float = 1.5, crf: int = 18) -> None:
        self.side, self.seconds, self.hold, self.crf = side, seconds, hold, crf
        self.frames: list[NDArray[np.uint8]] = []
        self.finished: Sequence[Image.Image] = ()

    def add(self, x: Tensor) -> None:
        """One frame from a batch of noisy pictures."""
        self.frames.append(to_bytes(x))

    def ending(self, finished: Tensor) -> Film:
        """The same film with the finished pictures `[B, C, S, S]` known, ready to be written."""
        self.finished = to_pictures(finished)
        return self

    def last(self) -> Image.Image:
        """The last frame: the finished pictures."""
        return tiled(self.finished, self.side)

    def write(self, path: Path, finished: Sequence[Image.Image] = ()) -> None:
        """Write an .mp4 (H.264), .gif or .webp that ends on the finished pictures. Raises `ZaoziError` for another suffix."""
        check_suffix(path)
        finished = finished or self.finished
        rate = int(np.clip(round(len(self.frames) / self.seconds), 5, 30))
        held = max(1, round(self.hold * rate))
        last = tiled(finished, self.side)
        frames = chain((tiled(to_images(frame), self.side) for frame in self.frames), repeat(last, held))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".mp4":
            self._mp4(path, frames, last.size, rate)
        else:
            next(frames).save(path, save_all=True, append_images=frames, duration=1000 // rate, loop=0)

    def _mp4(self, path: Path, frames: Iterable[Image.Image], size: tuple[int, int], rate: int) -> None:
        import av

        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height = (n // 2 * 2 for n in size)
            stream.pix_fmt = "yuv420p"
            stream.thread_count = 1  # the same bytes on every machine, and no more threads than it needs
            stream.options = {"crf": str(self.crf)}
            for frame in frames:
                for packet in stream.encode(av.VideoFrame.from_image(frame)):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
