"""The exported graphs of a model's parts without their large weights; those of `base` are bundled in graphs/.

python -m zaozi.guide.skeletons    # rewrite them after `base` or the exporter has changed
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zaozi.core.files import as_json
from zaozi.core.recipe import DataConfig
from zaozi.data.pairs import find_dataset
from zaozi.evaluate.reference import load_reference
from zaozi.export.onnx import card, exported, parts, stage_name
from zaozi.guide import compact
from zaozi.guide.explain import Judge, meanings, names, relatives
from zaozi.model.checkpoint import find_model
from zaozi.pipeline import TextToImage

States = dict[str, dict[str, NDArray[Any]]]


def skeletons(artist: TextToImage) -> tuple[dict[str, bytes], dict[str, Any], States]:
    """Return every part's graph without large weights, the index of weight locations and the metadata, and the weights."""
    model = _state(artist.model)
    states: States = {
        "denoiser": model,
        "decoder": model,
        "space": model,
        "encoder": {f"network.{name}": w for name, w in _state(artist.encoder.network).items()},
        **{stage_name(stage): _state(stage) for stage in artist.stages},
    }
    graphs, places = {}, {}
    for name, module, arguments, inputs, named in parts(artist):
        with torch.no_grad():
            proto = exported(module, arguments, inputs, named)
        places[name] = compact.compact_graph(proto, states[name])
        graphs[name] = compact.emptied(proto, places[name])
    return graphs, {"card": card(artist), "places": places}, states


def _state(module: torch.nn.Module) -> dict[str, NDArray[Any]]:
    return {name: w.detach().numpy() for name, w in module.state_dict().items()}


def judge() -> bytes:
    """Return the reference network's complete graph, for 128x128 pictures."""
    outputs = ["features", "radical", "structure", "parts"]
    with torch.no_grad():
        proto = exported(Judge(load_reference()).eval(), (torch.zeros(2, 1, 128, 128),), ["x"], outputs)
    compact.compact_graph(proto)
    made: bytes = proto.SerializeToString(deterministic=True)
    return made


def write(folder: Path) -> None:
    """Write the graphs of `base`, their index, and the tables of real glyphs for explanations."""
    graphs, index, _ = skeletons(TextToImage.from_pretrained("base", device="cpu"))
    table, rows = relatives(find_dataset(DataConfig()))
    files = {f"{name}.onnx.gz": graph for name, graph in {**graphs, "judge": judge()}.items()}
    tables = {"judge.json.gz": names(load_reference()), "relatives.json.gz": table, "meanings.json.gz": meanings()}
    for name, value in tables.items():
        files[name] = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    files["relatives.bin.gz"] = np.ascontiguousarray(rows).tobytes()
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if (
            not path.is_file() or gzip.decompress(path.read_bytes()) != content
        ):  # compressed bytes depend on the machine
            path.write_bytes(compact.packed(content))
    weights = compact.digest(find_model("base"))
    (folder / compact.INDEX).write_text(as_json({"weights": weights, **index}), encoding="utf-8")


if __name__ == "__main__":
    write(compact.GRAPHS)
