"""Explain a generated glyph: its radical, its other parts, and the most similar real characters.

The page computes the same in the browser, with the same network (`judge.onnx`) and the same table of real glyphs
(`relatives`): the reference network's features, projected on their principal directions, as int8.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zaozi.data.pairs import load_pairs
from zaozi.data.shards import SPLITS
from zaozi.data.unihan import characters, components, meaning, radical, radical_forms, radical_senses
from zaozi.evaluate.copies import nearest_features
from zaozi.evaluate.reference import Reference, load_reference, look

DIRECTIONS = 48
"""Number of principal directions kept, of 192."""
LEAST = 0.3
"""Minimum probability of a named part."""


class Judge(nn.Module):
    """Pictures `[B, C, S, S]` in [-1, 1] -> features `[B, 192]`, and logits of radicals, structures and parts."""

    def __init__(self, network: Reference) -> None:
        super().__init__()
        self.trunk, self.radical = network.trunk, network.radical
        self.structure, self.parts = network.structure, network.parts

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = self.trunk(x)
        return z, self.radical(z), self.structure(z), self.parts(z)


def names(network: Reference) -> dict[str, Any]:
    """Return the meaning of the network's outputs: each radical with its character, meaning and pieces, each part with its
    character and meaning, and the structures."""
    c = network.config
    return {
        "radicals": [[radical(n), "; ".join(radical_senses(n)[:2]), pieces(n)] for n in c.radicals],
        "structures": list(c.structures),
        "parts": [[part, ", ".join(meaning(part)[:1]) if len(part) == 1 else ""] for part in c.parts],
    }


def pieces(number: int) -> str:
    """Return the forms of a radical and the characters they consist of; these do not count as other parts."""
    forms = [radical(number), *(form for form, numbers in radical_forms().items() if number in numbers)]
    return "".join(dict.fromkeys([*forms, *(part for form in forms for part in components(form))]))


def relatives(data: Path) -> tuple[dict[str, Any], NDArray[np.int8]]:
    """Return the table of real glyphs of a dataset: the content of relatives.json, and the features `[N, 48]` as int8.

    Features are z -> round(127 (z - mean) P / scale), P `[192, 48]` the principal directions of all glyphs. `copy` is the
    distance below which a glyph counts as a copy.
    """
    from zaozi.evaluate.measure import COPIES_BELOW

    network = load_reference()
    splits = {name: load_pairs(data, name) for name in SPLITS}
    seen = {name: look(network, np.asarray(pairs.pictures)).features for name, pairs in splits.items()}
    everything = np.concatenate(list(seen.values()))
    mean = everything.mean(0)
    _, _, axes = np.linalg.svd(everything - mean, full_matrices=False)
    signs = np.sign(axes[np.arange(DIRECTIONS), np.abs(axes[:DIRECTIONS]).argmax(1)])
    project = (axes[:DIRECTIONS] * signs[:, None]).T
    scale = float(np.abs((everything - mean) @ project).max())
    rows = {name: np.round(127 * ((z - mean) @ project) / scale).astype(np.int8) for name, z in seen.items()}
    held = np.concatenate([some for name, some in rows.items() if name != "train"])
    apart, _ = nearest_features(held.astype(np.float64), rows["train"].astype(np.float64))
    all_characters = "".join(c for name in SPLITS for c in splits[name].columns["character"])
    return {
        "characters": all_characters,
        "order": order(all_characters),
        "mean": np.round(mean, 5).tolist(),
        "project": np.round(project, 5).ravel().tolist(),
        "directions": DIRECTIONS,
        "scale": round(scale, 5),
        "copy": round(float(np.quantile(apart, COPIES_BELOW)), 3),
    }, np.concatenate(list(rows.values()))


def order(characters: str) -> str:
    """Return an identifier of a character sequence; the page uses the map's glyph sheets only if they have the same one."""
    return hashlib.sha256(characters.encode()).hexdigest()[:16]


def meanings() -> dict[str, list[str]]:
    """Return every character's senses in Unihan."""
    found = ((chr(c.code), meaning(chr(c.code))) for c in characters())
    return {character: list(senses) for character, senses in found if senses}


@dataclass(frozen=True)
class Explanation:
    """Explanation of a glyph; `Explanation` in web/src/engine/messages.ts."""

    radical: Mapping[str, Any]
    structure: Mapping[str, Any]
    parts: Sequence[Mapping[str, Any]]
    nearest: Sequence[Mapping[str, Any]]
    order: str
    """Identifier of the table of real glyphs that the rows in `nearest` refer to; see `order`."""


class Explainer:
    """Explains glyphs with the files of an exported model, like the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _read(self, name: str) -> bytes:
        return gzip.decompress((self.folder / f"{name}.gz").read_bytes())

    @cached_property
    def _session(self) -> Any:
        from onnxruntime import InferenceSession

        return InferenceSession(self._read("judge.onnx"), providers=["CPUExecutionProvider"])

    @cached_property
    def _tables(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, list[str]]]:
        """The names of the outputs, the table of real glyphs, and the senses of characters."""
        names, table, senses = (json.loads(self._read(f"{name}.json")) for name in ("judge", "relatives", "meanings"))
        return names, table, senses

    @cached_property
    def _rows(self) -> NDArray[np.float64]:
        """The features of the real glyphs, `[N, 48]`."""
        rows = np.frombuffer(self._read("relatives.bin"), np.int8)
        return rows.reshape(-1, self._tables[1]["directions"]).astype(np.float64)

    def explain(self, picture: NDArray[np.float32], count: int = 4) -> Explanation:
        """Explain a picture `[C, S, S]` in [-1, 1], and return the `count` nearest real glyphs."""
        names, table, senses = self._tables
        z, *logits = (torch.from_numpy(v[0]).double() for v in self._session.run(None, {"x": picture[None]}))
        radicals, structures, parts = logits[0].softmax(0), logits[1].softmax(0), logits[2].sigmoid()
        own, structure = int(radicals.argmax()), int(structures.argmax())
        pieces = names["radicals"][own][2]
        shown = [i for i in parts.argsort(descending=True).tolist() if parts[i] > LEAST]
        shown = [i for i in shown if names["parts"][i][0] not in pieces]
        project = np.reshape(table["project"], (-1, table["directions"]))
        at = 127 * ((z.numpy() - table["mean"]) @ project) / table["scale"]
        distance = np.sqrt(np.square(self._rows - at).sum(1))
        near = [(int(i), table["characters"][i]) for i in np.argsort(distance, kind="stable")[:count]]
        return Explanation(
            radical=_named(names["radicals"][own], radicals[own]),
            structure={"name": names["structures"][structure], "probability": float(structures[structure])},
            parts=[_named(names["parts"][i], parts[i]) for i in shown[:5]],
            nearest=[
                {
                    "character": character,
                    "definition": ", ".join(senses.get(character, [])[:3]),
                    "distance": float(distance[i]),
                    "copy": bool(distance[i] < table["copy"]),
                    "row": i,
                }
                for i, character in near
            ],
            order=table["order"],
        )


def _named(entry: Sequence[str], probability: torch.Tensor) -> dict[str, Any]:
    return {"character": entry[0], "meaning": entry[1], "probability": float(probability)}
