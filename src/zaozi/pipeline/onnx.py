"""Draw with ONNX Runtime instead of PyTorch, which is not imported: a model's exported files as the parts of `TextToImage`.

The files are those that `zaozi export` writes, in a cache keyed by the hashes of the model's files.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import TypeAdapter

from zaozi.core import schema
from zaozi.core.arrays import Tensor, averaged, like
from zaozi.core.caches import cached, sound
from zaozi.core.components import Property, properties
from zaozi.core.config import from_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.files import home, sha256
from zaozi.core.machine import compute_threads
from zaozi.core.recipe import DistilledConfig, StageConfig
from zaozi.core.types import Cond, Estimate, Level
from zaozi.diffusion.schedules import schedule
from zaozi.model.checkpoint import CONFIG, TEXT, WEIGHTS, stages_in
from zaozi.model.snap import snapped
from zaozi.text.encoders import FrozenEncoder
from zaozi.text.minilm import MINILM_SHA256

EDITION = 3
"""Version of the exported files; cached files of an older version are recreated."""
CARD, MINILM, CACHE = "model.json", "minilm", "engine"


def cache_folder(model: Path) -> Path:
    """Return where the exported files of the model in a folder are cached: a function of the hashes of all its files.

    Raises `ZaoziError` if its configuration is damaged, or its text encoder is not among these files.
    """
    try:
        values = schema.migrated(json.loads((model / CONFIG).read_text(encoding="utf-8")))[0]
        kind, _, where = str(values["text"].get("encoder", MINILM)).partition(":")
    except (OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ZaoziError(f"{model / CONFIG} cannot be read ({error}); copy or train the model again") from None
    own = sorted(path for path in (model / TEXT).glob("*") if path.is_file())
    if kind != MINILM and (where != TEXT or not own):
        raise ZaoziError(f"the text encoder of {model} is not in its folder; use --engine torch")
    files = [folder / name for folder in (model, *stages_in(model)) for name in (CONFIG, WEIGHTS)]
    if missing := [file for file in files if not file.is_file()]:
        raise ZaoziError(f"{missing[0]} is missing; give the folder of a trained model")
    parts = [str(EDITION), MINILM_SHA256["model.safetensors"], *map(sha256, [*files, *own])]
    return home() / CACHE / hashlib.sha256(" ".join(parts).encode()).hexdigest()[:24]


def is_exported(model: Path) -> bool:
    """Whether the model in a folder has been exported to the cache, undamaged."""
    if not (home() / CACHE).is_dir():
        return False
    try:
        return sound(cache_folder(model), quiet=True)
    except ZaoziError:
        return False


def export(model: Path, work: Path) -> None:
    """Export a model into an empty folder, in a process of its own, which imports PyTorch. Raises `ZaoziError`."""
    print(f"exporting {model.name} for ONNX Runtime; this takes half a minute, once", flush=True)
    command = [sys.executable, "-P", "-m", "zaozi.export.onnx", str(model.absolute()), str(work.absolute())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it stopped"])[-1]
        raise ZaoziError(f"{model} cannot be exported ({said}); use --engine torch")


def load_exported(model: Path) -> tuple[Exported, Reader, Callable[[], list[Exported]]]:
    """Return the denoiser, the text encoder and the loader of the stages of the model in a folder, exported if it is not yet.

    Raises `ZaoziError` if it cannot be exported.
    """
    files = cached(cache_folder(model), "onnx", lambda work: export(model, work))
    card = json.loads((files / CARD).read_text(encoding="utf-8"))
    text, more = card["text"], card["engine"]
    from tokenizers import Tokenizer

    reader = Reader(
        name=text["encoder"],
        width=text["width"],
        max_tokens=text["max_tokens"],
        limit=more["limit"],
        english=more["english"],
        unknown=more["unknown"],
        weights=card["files"]["encoder.onnx"]["sha256"],
        tokenizer=Tokenizer.from_file(str(files / "tokenizer.json")),
        network=_session(files / "encoder.onnx"),
        padding=more["padding"],
    )

    def stages() -> list[Exported]:
        return [
            Exported(files, f"stage-{stage['size']}", {**card, **stage, "properties": [], "shape": None, "snap": snap})
            for stage, snap in zip(card["stages"], more["snaps"], strict=True)
        ]

    return Exported(files, "denoiser", card), reader, stages


def _session(path: Path) -> Any:
    from onnxruntime import InferenceSession, SessionOptions

    how = SessionOptions()
    how.intra_op_num_threads, how.inter_op_num_threads = compute_threads(), 1
    return InferenceSession(str(path), how, providers=["CPUExecutionProvider"])


class Reader(FrozenEncoder):
    """A text encoder of ONNX Runtime: its conditions are NumPy arrays."""

    def encode(self, texts: Sequence[str]) -> Cond:
        """Return token states `[B, L, D]`, mask `[B, L]` and pooled vector `[B, D]`."""
        ids, mask = self.rows(texts)
        tokens, pooled = self.network.run(None, {"ids": ids, "mask": mask})
        return Cond(tokens, mask, pooled)  # type: ignore[arg-type]


class ExportedSpace:
    """What drawing needs of a `Space`, on NumPy arrays."""

    def __init__(self, files: Path, card: Mapping[str, Any]) -> None:
        self.files, self.card = files, card
        self.bounds: tuple[float, float] | None = tuple(card["bounds"]) if card["bounds"] else None

    @cached_property
    def _decoder(self) -> Any:
        return _session(self.files / "decoder.onnx")

    def decode(self, x0: Tensor) -> Tensor:
        """Map x0 to pictures `[B, C, S, S]` in [-1, 1]."""
        if "snap" in self.card:  # a stage draws pixels
            return snapped(x0, self.card["snap"])
        return self._decoder.run(None, {"x0": x0})[0]

    def encode(self, pictures: Tensor) -> Tensor:
        """Map pictures in [-1, 1] to x0. Raises `ZaoziError` if the space's encoder is not among the exported files."""
        if (self.files / "space.onnx").is_file():
            return _session(self.files / "space.onnx").run(None, {"picture": pictures})[0]
        if not self.card["engine"]["averages"]:
            raise ZaoziError("ONNX Runtime has no encoder for the space of this model; use --engine torch")
        return averaged(pictures, self.card["shape"][1])

    def preview(self, x: Tensor) -> Tensor:
        """Return x0 or x_t as pictures to look at."""
        return x if self.bounds else self.decode(x)


class Exported:
    """A denoiser of ONNX Runtime, with the attributes of a `Denoiser` that drawing uses: (x_t, level, cond) -> its estimate."""

    device = None
    """It computes on NumPy arrays."""

    def __init__(self, files: Path, part: str, card: Mapping[str, Any]) -> None:
        size, channels = card["size"], card["channels"]
        known = TypeAdapter(tuple[Annotated[Property, properties], ...])
        stage = card.get("stage", {}) if part == "denoiser" else {k: card[k] for k in ("factor", "steps", "noise")}
        self.config = SimpleNamespace(
            name=card["name"] if part == "denoiser" else part,
            size=size,
            channels=channels,
            network=SimpleNamespace(reads_text=card["engine"]["reads_text"]),
            properties=known.validate_python([{**p, "values": tuple(p["values"])} if "values" in p else p
                                              for p in card["properties"]]),
            stage=from_dict(StageConfig, stage),
            distilled=from_dict(DistilledConfig, card["engine"]["distilled"]),
        )  # fmt: skip
        self.shape = tuple(card["shape"] or (channels, size, size))
        self.schedule = schedule(card["schedule"])
        self.space = ExportedSpace(files, card)
        self._session = _session(files / f"{part}.onnx")

    def __call__(self, x: Tensor, level: Level, cond: Cond) -> Estimate:
        rows = len(x)
        inputs: dict[str, Any] = {"x": x, "tokens": cond.tokens, "mask": cond.mask, "pooled": cond.pooled}
        for name in ("alpha", "sigma"):
            inputs[name] = np.broadcast_to(like(getattr(level, name), x), (rows,))
        for p in self.config.properties:
            kind = np.int64 if isinstance(p.hidden, int) else np.float32
            inputs[f"property.{p.column}"] = np.asarray(cond.properties.get(p.column, np.full(rows, p.hidden)), kind)
        if cond.lower is not None:
            inputs |= {"lower": cond.lower.picture, "lower_share": cond.lower.share}
        wanted = {part.name for part in self._session.get_inputs()}  # the exporter drops what a network does not read
        given = {name: np.ascontiguousarray(value) for name, value in inputs.items() if name in wanted}
        return Estimate(*self._session.run(None, given))
