"""What `zaozi generate` leaves behind: one run a folder, and a record of it from which the same bytes can be drawn again."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from zaozi import __version__
from zaozi.core.config import from_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.files import write_json

T = TypeVar("T")
RECORD, SHEET = "run.json", "sheet.png"


def read_run(path: Path, kind: type[T]) -> tuple[T, dict[str, str]]:
    """An earlier run's settings, and the SHA-256 of the files it used. Raises `ZaoziError` where the file is no such record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        settings, digests = from_dict(kind, record["settings"]), dict(record["sha256"])
        theirs, ours = record["versions"], versions()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ZaoziError(f"{path} is no record of a run ({error}); give the run.json of zaozi generate") from None
    if theirs != ours:
        warnings.warn(f"drawn with {theirs}, now with {ours}: bytes may differ by rounding", stacklevel=2)
    return settings, digests


def versions() -> dict[str, str]:
    """What a picture's last bits depend on beside its settings."""
    import torch

    return {"zaozi": __version__, "torch": torch.__version__, "threads": str(torch.get_num_threads())}


def folder_name(number: int, prompt: str) -> str:
    """'007-a-small-song-bird': the prompt's number and its letters and digits, at most 40 of them."""
    letters = re.sub(r"\W+", "-", prompt.casefold()).strip("-_")[:40].strip("-")
    return f"{number:03d}-{letters or 'prompt'}"


def earlier(out: Path) -> list[Path]:
    """What an earlier run wrote there, as its record lists it."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        names = [str(name) for name in record["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [out / name for name in names if re.fullmatch(r"\d{3,}-[^/\\]+/\d+\.(png|svg)|sheet\.png", name)]


class RunFolder:
    """One run's pictures, `count` a prompt, under `out`, and the record that lists them beside what `made` them.

    The folder is cleared of an earlier run when the first picture comes, and from then on names what it will hold, so
    that a run that is cut short leaves nothing that the next one would not clear. Raises `ZaoziError` where one of the
    files `used` would be cleared.
    """

    def __init__(
        self,
        out: Path,
        prompts: Sequence[str],
        count: int,
        *,
        outlines: bool,
        made: dict[str, Any],
        used: Iterable[Path] = (),
    ) -> None:
        self.out, self.prompts, self.made = out, list(prompts), made
        self.ends = ("png", "svg") if outlines else ("png",)
        self.planned = [
            self._name(row, i, end) for row in range(len(prompts)) for i in range(count) for end in self.ends
        ]
        self.files: list[str] = []
        if lost := {path.resolve() for path in earlier(out)} & {path.resolve() for path in used}:
            raise ZaoziError(f"{lost.pop()} would be cleared with the earlier run in {out}; give another --out")

    def add(self, row: int, i: int, picture: Image.Image) -> None:
        """Keep picture `i` of a prompt, and its outlines; a file is whole or absent."""
        if not self.files:
            self.out.mkdir(parents=True, exist_ok=True)
            self._clear()
            self._record(self.planned, complete=False)
        name = self._name(row, i, "png")
        (self.out / name).parent.mkdir(exist_ok=True)
        picture.save(self.out / (name + ".partial"), "PNG")
        os.replace(self.out / (name + ".partial"), self.out / name)
        self.files.append(name)
        if "svg" in self.ends:
            from zaozi.guide.outlines import svg

            self.files.append(self._name(row, i, "svg"))
            (self.out / self.files[-1]).write_text(svg(picture), encoding="utf-8")

    def close(self, sheet: Image.Image, *, complete: bool) -> None:
        """Write the contact sheet and the record of what there is."""
        sheet.save(self.out / SHEET)
        self.files.append(SHEET)
        self._record(self.files, complete=complete)

    def _name(self, row: int, i: int, end: str) -> str:
        return f"{folder_name(row, self.prompts[row])}/{i}.{end}"

    def _record(self, files: list[str], *, complete: bool) -> None:
        kept = {"complete": complete, **self.made, "versions": versions(), "prompts": self.prompts, "files": files}
        write_json(self.out / RECORD, kept)

    def _clear(self) -> None:
        """Remove what an earlier run wrote there, so that a folder holds one run."""
        for path in earlier(self.out):
            path.unlink(missing_ok=True)
            if path.parent != self.out and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
