"""Videos of sampling: the noisy pictures of every step, ending with the finished ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zaozi.core.arrays import Tensor
from zaozi.core.errors import ZaoziError
from zaozi.pipeline import to_bytes, to_images, to_pictures

SUFFIXES = (".mp4", ".gif", ".webp")


def check_suffix(path: Path) -> None:
    """Raises `ZaoziError` if the file type is not supported."""
    if path.suffix.lower() not in SUFFIXES:
        raise ZaoziError(f"cannot write '{path.name}'; a video's name ends in {', '.join(SUFFIXES)}")


def tiled(pictures: Sequence[Image.Image], side: int) -> Image.Image:
    """Arrange pictures in a near-square grid of tiles of size `side`, RGB on white."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * side, rows * side), "white")
    for i, picture in enumerate(pictures):
        grid.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (i % columns * side, i // columns * side))
    return grid


class Film:
    """Collects frames `[B, C, s, s]` in [-1, 1], as uint8, and writes them as a video that ends with the finished pictures.

    `crf` is the H.264 constant rate factor: 18 is visually lossless; 32 keeps files small despite noise.
    """

    def __init__(self, side: int = 256, *, seconds: float = 4.0, hold: float = 1.5, crf: int = 18) -> None:
        self.side, self.seconds, self.hold, self.crf = side, seconds, hold, crf
        self.frames: list[NDArray[np.uint8]] = []
        self.finished: Sequence[Image.Image] = ()

    def add(self, x: Tensor) -> None:
        """Add one frame from a batch of noisy pictures."""
        self.frames.append(to_bytes(x))

    def ending(self, finished: Tensor) -> Film:
        """Set the finished pictures `[B, C, S, S]` and return the film, ready to write."""
        self.finished = to_pictures(finished)
        return self

    def last(self) -> Image.Image:
        """Return the last frame: the finished pictures."""
        return tiled(self.finished, self.side)

    def write(self, path: Path, finished: Sequence[Image.Image] = ()) -> None:
        """Write an .mp4 (H.264), .gif or .webp that ends with the finished pictures. Raises `ZaoziError` for other suffixes."""
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
            stream.thread_count = 1  # identical bytes on every machine
            stream.options = {"crf": str(self.crf)}
            for frame in frames:
                for packet in stream.encode(av.VideoFrame.from_image(frame)):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
