"""The quick model of the page: the denoiser of a distilled student beside the model's, which sketches while a prompt is typed.

Only the student's denoiser is written, as NAME-HASH.onnx.gz, and described in the page's model.json under `quick`. Text encoder
and decoder are the model's, so a student is accepted only if these are the same.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zaozi.core.errors import ZaoziError
from zaozi.guide import compact
from zaozi.model.snap import differing

if TYPE_CHECKING:
    from zaozi.core.recipe import ModelConfig

AUTO, NONE, PACKAGED = "auto", "none", "fast"
"""Which student: the packaged one if it was made from the model, none at all, or a name or folder."""
SAME = ("size", "channels", "space", "text", "properties")
"""Settings that model and student share, since the page uses the model's for both. Not the reach of their snap: the page's
decoder has the model's, for sketches too."""
PREFIX = "model."
"""Before the names of small weights in the denoiser's graph."""


def page_model(model: str = "base", quick: str = AUTO) -> Path:
    """Return the folder of the page's model files, as `compact_model`, with the denoiser of a student if there is one.

    Cached. Raises `ZaoziError` if there is no such model or student, or if the student does not go with the model.
    """
    from zaozi.core.caches import cached
    from zaozi.core.files import home, sha256, write_json
    from zaozi.model.checkpoint import CONFIG, WEIGHTS

    student = find_student(model, quick)
    whole = compact.compact_model(model)
    if student is None:
        return whole
    recipe = [sha256(whole / compact.CARD), *(sha256(student / name) for name in (WEIGHTS, CONFIG))]

    def make(work: Path) -> None:
        for file in sorted(p for p in whole.iterdir() if not p.name.startswith(".")):
            shutil.copyfile(file, work / file.name)
        card = json.loads((whole / compact.CARD).read_text(encoding="utf-8"))
        known, content = _config(student), compact.packed(denoiser(student))
        name = f"{_plain(known.name)}-{hashlib.sha256(content).hexdigest()[:12]}.onnx.gz"
        (work / name).write_bytes(content)
        card["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        card["quick"] = {"name": known.name, "file": name, "distilled": asdict(known.distilled)}
        write_json(work / compact.CARD, card)

    return cached(home() / "page" / hashlib.sha256(" ".join(recipe).encode()).hexdigest()[:24], "onnx", make)


def find_student(model: str, quick: str = AUTO) -> Path | None:
    """Return the folder of the student for a model's page, or None. Raises `ZaoziError` if it cannot be used."""
    from zaozi.model.checkpoint import CONFIG, SHIPPED, find_model, read_distilled

    if quick == NONE:
        return None
    if quick == AUTO:
        packaged = SHIPPED / PACKAGED
        if not (packaged / CONFIG).is_file():
            return None
        folder = find_model(model)
        made_from = _config(folder).name == read_distilled(packaged).model
        return packaged if made_from and not _apart(folder, packaged) else None
    student, folder = find_model(quick), find_model(model)
    if not read_distilled(student).steps:
        raise ZaoziError(f"{quick} is not distilled, so it is not quick; make a student with: zaozi distill {model}")
    if apart := _apart(folder, student):
        raise ZaoziError(
            f"{quick} and {model} differ in {', '.join(apart)}, which the page shares between them; use a student of {model}"
        )
    return student


def _apart(folder: Path, student: Path) -> list[str]:
    """Return what keeps a student from sharing the text encoder and the decoder of a model."""
    one, other = _config(folder), _config(student)
    found = differing(one, other, SAME)
    if one.diffusion.schedule != other.diffusion.schedule:
        found.append("schedule")
    if "space" not in found and _space(folder) != _space(student):
        found.append("the weights of the space")
    return found


def _config(folder: Path) -> ModelConfig:
    from zaozi.model.checkpoint import read_config

    return read_config(folder)


def _space(folder: Path) -> str:
    """Return the SHA-256 of the weights of a model's space, in half precision as models are released."""
    from safetensors import safe_open

    from zaozi.model.checkpoint import WEIGHTS

    made = hashlib.sha256()
    with safe_open(folder / WEIGHTS, "numpy") as file:
        for name in sorted(name for name in file.keys() if name.startswith("space.")):  # noqa: SIM118 (it is no dict)
            made.update(name.encode() + file.get_tensor(name).astype("<f2").tobytes())
    return made.hexdigest()


def _plain(name: str) -> str:
    """Return a name as part of a file's name.

    >>> _plain("My Student/2")
    'my-student-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "student"


def denoiser(student: Path) -> bytes:
    """Return a student's denoiser with compact weights. A student with the network of the bundled model is put into the bundled
    graph, which takes a second; others are exported, which takes half a minute."""
    from zaozi.model.checkpoint import SHIPPED

    one, other = _config(SHIPPED / "base"), _config(student)
    if differing(one, other, (*SAME, "network", "diffusion", "stage")):
        return gzip.decompress((compact.compact_model(str(student)) / "denoiser.onnx.gz").read_bytes())
    from safetensors.numpy import load_file

    from zaozi.model.checkpoint import WEIGHTS

    return filled(load_file(student / WEIGHTS))


def filled(state: dict[str, Any]) -> bytes:
    """Return the bundled model's denoiser with other weights. Raises `ValueError` if one is missing or of another shape."""
    import onnx
    from onnx import numpy_helper

    index = compact._index()
    proto = onnx.load_model_from_string(gzip.decompress((compact.GRAPHS / "denoiser.onnx.gz").read_bytes()))
    places = {name: (source, bool(turned)) for name, (source, turned) in index["places"]["denoiser"].items()}
    compact._fill(proto, places, state)
    for weight in proto.graph.initializer:  # the graph holds the small weights of the bundled model
        name = weight.name.removeprefix(PREFIX)
        if name == weight.name or name.endswith((compact.ROWS, compact.SCALE)):
            continue
        value = state.get(name)
        if value is None or value.shape != tuple(weight.dims):
            raise ValueError(f"the weight {name} is missing or not {list(weight.dims)}")
        weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value.astype(np.float32)), weight.name))
    made: bytes = proto.SerializeToString(deterministic=True)
    return made
