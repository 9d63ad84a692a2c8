"""Output of `zaozi generate`: one folder per run, with a record that reproduces the same bytes."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from zaozi import __version__
from zaozi.core.config import from_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.files import as_json
from zaozi.core.machine import compute_threads
from zaozi.core.outputs import Output, Writer
from zaozi.core.sampling import Editing, Sampling
from zaozi.data.sheet import png

T = TypeVar("T")
RECORD, SHEET = "run.json", "sheet.png"


def read_run(path: Path, kind: type[T]) -> tuple[T, dict[str, str]]:
    """Return an earlier run's settings, without its output path, and the SHA-256 of its input files.

    The file is untrusted, so no output path is read from it. Raises `ZaoziError` if it is not a valid record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        values = {"engine": "torch"} | nested(record["settings"]) | {"out": "", "video": "", "overwrite": False}
        settings, digests = from_dict(kind, values), dict(record["sha256"])
        theirs, ours = record["versions"], versions(str(values["engine"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ZaoziError(f"{path} is not a record of a run ({error}); give the run.json of zaozi generate") from None
    if theirs != ours:
        warnings.warn(f"drawn with {theirs}, now with {ours}: bytes may differ by rounding", stacklevel=2)
    return settings, digests


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run with `sampling` and `edit` as objects; earlier records have their fields side by side."""
    if "sampling" in values:
        return dict(values)
    flat = dict(values)
    guidance = {**flat.pop("guide", {}), "scale": flat.pop("guidance")}
    parts = {
        name: {f.name: flat.pop(f.name) for f in fields(kind) if f.name in flat}
        for name, kind in (("sampling", Sampling), ("edit", Editing))
    }
    return {**flat, "sampling": {**parts["sampling"], "guidance": guidance}, "edit": parts["edit"]}


def versions(engine: str = "torch") -> dict[str, str]:
    """Return the versions that affect the last bits of a picture."""
    if engine == "onnx":
        from importlib.metadata import version

        return {"zaozi": __version__, "onnxruntime": version("onnxruntime"), "threads": str(compute_threads())}
    import torch

    return {"zaozi": __version__, "torch": torch.__version__, "threads": str(torch.get_num_threads())}


def folder_name(number: int, prompt: str) -> str:
    """Return '007-a-small-song-bird': the prompt's number and its letters and digits, at most 40 of them."""
    letters = re.sub(r"\W+", "-", prompt.casefold()).strip("-_")[:40].strip("-")
    return f"{number:03d}-{letters or 'prompt'}"


class RunFolder:
    """The pictures of one run, `count` per prompt, in the folder of `output`, and a record of the files and what `made` them.

    Created by `run_folder`. Files of an earlier run are removed when the first picture is added; the record then lists the
    planned files, and whether the run was completed.
    """

    def __init__(
        self, writer: Writer, prompts: Sequence[str], count: int, *, outlines: bool, made: dict[str, Any]
    ) -> None:
        self.writer, self.prompts, self.made = writer, list(prompts), made
        self.outlines = outlines
        self.planned = planned(prompts, count, outlines=outlines)
        self.files: list[str] = []

    @property
    def sheet(self) -> Path:
        """Path of the contact sheet."""
        return self.writer.output.folder / SHEET

    def add(self, row: int, i: int, picture: Image.Image) -> None:
        """Save picture `i` of a prompt, and its outlines; files are complete or absent."""
        if not self.files:
            self._record(self.planned, complete=False)
        self._put(picture_name(row, self.prompts[row], i, "png"), png(picture))
        if self.outlines:
            from zaozi.media.outlines import svg

            self._put(picture_name(row, self.prompts[row], i, "svg"), svg(picture))

    def close(self, sheet: Image.Image, *, complete: bool) -> None:
        """Write the contact sheet and the final record."""
        self._put(SHEET, png(sheet))
        self._record(self.files, complete=complete)

    def _put(self, name: str, content: bytes | str) -> None:
        self.writer.put(name, content)
        self.files.append(name)

    def _record(self, files: list[str], *, complete: bool) -> None:
        used = versions(self.made["settings"].get("engine", "torch"))
        kept = {"complete": complete, **self.made, "versions": used, "prompts": self.prompts, "files": files}
        self.writer.put(RECORD, as_json(kept))


def picture_name(row: int, prompt: str, i: int, end: str) -> str:
    """Return '007-a-small-song-bird/3.png'."""
    return f"{folder_name(row, prompt)}/{i}.{end}"


def planned(prompts: Sequence[str], count: int, *, outlines: bool) -> list[str]:
    """Return the names of all pictures of a run."""
    ends = ("png", "svg") if outlines else ("png",)
    return [
        picture_name(row, prompt, i, end) for row, prompt in enumerate(prompts) for i in range(count) for end in ends
    ]


def run_output(
    out: Path, prompts: Sequence[str], count: int, *, outlines: bool, used: Iterable[Path] = (), overwrite: bool = False
) -> Output:
    """Return the output of a run; it never includes the `used` input files."""
    names = (*planned(prompts, count, outlines=outlines), SHEET, RECORD)
    return Output(out, "pictures", names, whole=False, inputs=tuple(used), overwrite=overwrite)
