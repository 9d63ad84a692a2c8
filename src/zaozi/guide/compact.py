"""The model that runs in the page: ONNX files with weights quantized to integers with a scale per row, compressed with gzip.

The rows of a large weight `W` `[O, ...]` become `W_o = s_o * q_o`, with `q` in -127..127. The step `s_o` is the row's largest
weight over 127, or its root mean square over the value in `LEVELS`, whichever is larger: the step alone determines how well
gzip compresses the integers. All arithmetic is float32: the page dequantizes the weights before its engine reads a graph.

For the bundled model, the package contains the graphs without these weights (`graphs/`), and `compact_model` inserts them from
the model's files, without the PyTorch exporter.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaozi.core.errors import ZaoziError

Array = NDArray[np.float32]
MANY = 4096
"""Weights with fewer elements are not quantized."""
LEVELS = {"word_embeddings": 4.0, "encoder.layer": 16.0, "position_embeddings": 16.0}
"""Steps per root mean square of a row, by a part of the weight's name; other weights use only the row's largest weight."""
EDITION = 4
"""Version of the files; cached files of an older version are recreated."""


@dataclass(frozen=True)
class Rows:
    """A weight as integers and a scale per row: `W = scale * integers`."""

    integers: NDArray[np.int8]
    scale: Array
    """`[O, 1, ...]`, with as many axes as the weight has."""

    def widened(self) -> Array:
        """Return the dequantized weight, float32."""
        wide: Array = self.integers.astype(np.float32) * self.scale
        return wide


def as_rows(weight: Array, levels: float | None) -> Rows:
    """Quantize a weight `[O, ...]` by rows, as described in the module docstring.

    >>> as_rows(np.array([[1.0, -0.5], [0.0, 0.0]], np.float32), None).integers.tolist()
    [[127, -64], [0, 0]]
    """
    flat = weight.reshape(len(weight), -1)
    step = np.abs(flat).max(1) / 127
    if levels is not None:
        step = np.maximum(step, np.sqrt(np.square(flat).mean(1)) / levels)
    scale = np.where(step > 0, step, 1.0).astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
    return Rows(np.clip(np.round(weight / scale), -127, 127).astype(np.int8), scale)


def levels_of(name: str) -> float | None:
    """Return the steps per root mean square for the weight of this name, or None to use only the largest weight."""
    return next((levels for part, levels in LEVELS.items() if part in name), None)


def is_compacted(weight: NDArray[Any]) -> bool:
    """Whether a weight is quantized."""
    return weight.dtype.kind == "f" and weight.ndim > 1 and weight.size >= MANY


def compacted(state: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """Return the quantized and dequantized weights of the compact model, by the same names, float32."""
    return {
        name: as_rows(w.astype(np.float32), levels_of(name)).widened() if is_compacted(w) else w.astype(np.float32)
        for name, w in state.items()
        if w.dtype.kind == "f"
    }


def use_compact_weights(network: Any) -> None:
    """Replace the weights of a PyTorch network by those of the compact model."""
    import torch

    state = {name: w.numpy() for name, w in network.state_dict().items() if w.is_floating_point()}
    network.load_state_dict({name: torch.from_numpy(w) for name, w in compacted(state).items()}, strict=False)


# -- graphs ---------------------------------------------------------------------------------------------------------

ROWS, SCALE = ".rows", ".scale"
Places = dict[str, tuple[str, bool]]
"""Maps a graph initializer to its weight's name, and whether it is transposed."""


def compact_graph(proto: Any, state: Mapping[str, NDArray[Any]] | None = None) -> Places:
    """Quantize the large weights of an exported float32 graph in place; returns the origin of each.

    Gathered rows (embeddings) are dequantized after the Gather, all others before use, which is done once on loading.
    Without `state` the weights of the graph are used. Raises `ValueError` if a weight is not in `state`.
    """
    from onnx import TensorProto, numpy_helper

    large = [w for w in proto.graph.initializer if w.data_type == TensorProto.FLOAT and int(np.prod(w.dims)) >= MANY]
    if state is None:
        state = {w.name: numpy_helper.to_array(w) for w in large}
    wide = {name: w.astype(np.float32) for name, w in state.items() if is_compacted(w)}
    places = {w.name: _place(w.name, numpy_helper.to_array(w), wide) for w in large}
    _strip(proto)
    for name in places:
        _replace(proto, name)
    _fill(proto, places, state)
    return places


def _place(name: str, value: Array, wide: Mapping[str, Array]) -> tuple[str, bool]:
    for known, w in wide.items():
        if w.shape == value.shape and np.array_equal(w, value):
            return known, False
        if w.ndim == 2 and w.T.shape == value.shape and np.array_equal(w.T, value):
            return known, True
    raise ValueError(f"{name} {list(value.shape)} is none of the model's weights")


def _strip(proto: Any) -> None:
    """Remove the exporter's metadata of each node, most of the graph's size."""
    for part in (*proto.graph.node, *proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    proto.graph.ClearField("value_info")
    proto.ClearField("metadata_props")


def _replace(proto: Any, name: str) -> None:
    """Replace one weight by integers, a scale, and the nodes that dequantize them."""
    from onnx import TensorProto, helper

    graph = proto.graph
    weight = next(w for w in graph.initializer if w.name == name)
    graph.initializer.remove(weight)
    for end, kind in ((ROWS, TensorProto.INT8), (SCALE, TensorProto.FLOAT)):
        graph.initializer.append(TensorProto(name=name + end, data_type=kind, dims=weight.dims))
    users = [node for node in graph.node if name in node.input]
    if len(users) == 1 and users[0].op_type == "Gather" and users[0].input[0] == name:
        gather = users[0]
        at, out, ids = list(graph.node).index(gather), gather.output[0], gather.input[1]
        graph.node.remove(gather)
        made = [
            helper.make_node("Gather", [name + ROWS, ids], [name + ".found"], axis=0),
            helper.make_node("Gather", [name + SCALE, ids], [name + ".steps"], axis=0),
            helper.make_node("Cast", [name + ".found"], [name + ".wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [name + ".wide", name + ".steps"], [out]),
        ]
    else:
        at = 0
        made = [
            helper.make_node("Cast", [name + ROWS], [name + ".wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [name + ".wide", name + SCALE], [name]),
        ]
    for node in reversed(made):
        graph.node.insert(at, node)


def _fill(proto: Any, places: Places, state: Mapping[str, NDArray[Any]]) -> None:
    """Write the integers and scales of every weight into a graph. Raises `ValueError` if a weight does not match."""
    from onnx import numpy_helper

    by_name = {w.name: w for w in proto.graph.initializer}
    for name, (source, transposed) in places.items():
        if source not in state:
            raise ValueError(f"the weight {source} is missing")
        rows = as_rows(state[source].astype(np.float32), levels_of(source))
        for end, value in ((ROWS, rows.integers), (SCALE, rows.scale)):
            value = value.T if transposed else value
            slot = by_name[name + end]
            if end == ROWS and list(slot.dims) != list(value.shape):
                raise ValueError(f"the weight {source} is {list(value.shape)}, not {list(slot.dims)}")
            slot.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), slot.name))


def emptied(proto: Any, places: Places) -> bytes:
    """Serialize the graph without its large weights, which `_fill` restores."""
    for weight in proto.graph.initializer:
        if any(weight.name == name + end for name in places for end in (ROWS, SCALE)):
            weight.ClearField("raw_data")
    made: bytes = proto.SerializeToString(deterministic=True)
    return made


def packed(data: bytes) -> bytes:
    """Compress `data` with gzip, deterministically. Weights are up to 5% smaller without a search for long matches."""

    def by(strategy: int) -> bytes:
        made = zlib.compressobj(
            9, zlib.DEFLATED, 16 + zlib.MAX_WBITS, 9, strategy
        )  # 16: gzip header, without a timestamp
        return made.compress(data) + made.flush()

    return min(by(zlib.Z_DEFAULT_STRATEGY), by(zlib.Z_FILTERED), key=len)


# -- the model's files ----------------------------------------------------------------------------------------------

GRAPHS = Path(__file__).parent / "graphs"
INDEX = "index.json"
TABLES = ("judge.onnx.gz", "judge.json.gz", "relatives.json.gz", "relatives.bin.gz", "meanings.json.gz")
CARD = "model.json"
SCHEDULES = ("linear", "cosine", "linear_path")
"""Schedules that the page knows."""
EXAMPLES = (
    "gold", "a small song bird", "fish", "tree", "clear water", "sickness", "insect", "fire", "mountain", "to speak",
    "bright, light", "dragon",
)  # fmt: skip
"""Prompts encoded in advance, so that they do not need the text encoder."""


def compact_model(name: str = "base") -> Path:
    """Return the folder of the page's model files, for a bundled model or a folder: `denoiser.onnx.gz`, `decoder.onnx.gz`,
    `encoder.onnx.gz`, `space.onnx.gz` (for latents), `stage-SIZE.onnx.gz` (for stages), `judge.onnx.gz`, `tokenizer.json.gz`,
    `examples.bin.gz`, model.json, which tells of a distilled model how it draws, and the tables for explanations.

    Cached by the hash of weights and settings. Takes a few seconds for the model with bundled graphs, half a minute for others.
    Raises `ZaoziError` if there is no such model.
    """
    from zaozi.core.caches import cached
    from zaozi.core.files import home, sha256
    from zaozi.model.checkpoint import CONFIG, SHIPPED, find_model, read_config, read_distilled
    from zaozi.text.encoders import load_encoder

    folder = find_model(name)
    check_for_page(folder)
    weights = digest(folder)
    known = read_distilled(folder)
    distilled = {"distilled": asdict(known)} if known.steps else {}
    index = _index()
    shipped = "".join(sha256(file) for file in sorted(GRAPHS.iterdir()) if file.is_file())
    recipe = f"{shipped} {EDITION} {EXAMPLES} {LEVELS}"
    key = hashlib.sha256(f"{weights} {sha256(folder / CONFIG)} {recipe}".encode()).hexdigest()[:24]

    def make(work: Path) -> None:
        if index["weights"] == weights and read_config(folder).space == read_config(SHIPPED / "base").space:
            graphs = {part: gzip.decompress((GRAPHS / f"{part}.onnx.gz").read_bytes()) for part in index["places"]}
            encoder = load_encoder("minilm", index["card"]["text"]["max_tokens"], network=False)
            _write(work, graphs, {**index, "card": index["card"] | distilled}, _states(folder), encoder)
        else:
            from zaozi.guide.skeletons import skeletons
            from zaozi.pipeline import TextToImage

            artist = TextToImage.from_pretrained(name, device="cpu")
            graphs, other, states = skeletons(artist)
            _write(work, graphs, {**other, "card": other["card"] | distilled}, states, artist.encoder)

    return cached(home() / "page" / key, "onnx", make)


def check_for_page(folder: Path) -> None:
    """Raises `ZaoziError` if the page cannot draw with a model, because it does not know its schedule."""
    from zaozi.model.checkpoint import read_config

    found = read_config(folder).diffusion.schedule
    if found not in SCHEDULES:
        raise ZaoziError(
            f"the page draws with the schedules {', '.join(SCHEDULES)}, not with '{found}' of {folder}; use zaozi generate"
        )


def digest(folder: Path) -> str:
    """Return the SHA-256 of a model's weights, its super-resolution stages included."""
    from zaozi.core.files import sha256
    from zaozi.model.checkpoint import WEIGHTS, stages_in

    own = sha256(folder / WEIGHTS)
    others = [sha256(stage / WEIGHTS) for stage in stages_in(folder)]
    return hashlib.sha256(" ".join([own, *others]).encode()).hexdigest() if others else own


def _index() -> dict[str, Any]:
    index: dict[str, Any] = json.loads((GRAPHS / INDEX).read_text(encoding="utf-8"))
    return index


def _states(folder: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Read the weights of every part, by their names in the graphs."""
    from safetensors.numpy import load_file

    from zaozi.model.checkpoint import WEIGHTS, stages_in
    from zaozi.text.minilm import minilm_folder

    model = load_file(folder / WEIGHTS)
    encoder = load_file(minilm_folder() / "model.safetensors")
    return {
        "denoiser": model,
        "decoder": model,
        "space": model,
        "encoder": {f"network.{name}": w for name, w in encoder.items()},
        **{f"stage-{stage.name}": load_file(stage / WEIGHTS) for stage in stages_in(folder)},
    }


def _write(
    work: Path,
    graphs: Mapping[str, bytes],
    index: Mapping[str, Any],
    states: Mapping[str, Mapping[str, NDArray[Any]]],
    encoder: Any,
) -> None:
    """Fill the graphs and write all files of the folder."""
    import onnx

    from zaozi.core.files import sha256, write_json

    made = {}
    for part in graphs:
        proto = onnx.load_model_from_string(graphs[part])
        places = {name: (source, bool(transposed)) for name, (source, transposed) in index["places"][part].items()}
        _fill(proto, places, states[part])
        made[part] = proto.SerializeToString(deterministic=True)
        (work / f"{part}.onnx.gz").write_bytes(packed(made[part]))
    encoder.tokenizer.no_truncation()
    encoder.tokenizer.no_padding()
    (work / "tokenizer.json.gz").write_bytes(packed(encoder.tokenizer.to_str().encode()))
    lengths, values = _examples(made["encoder"], encoder)
    (work / "examples.bin.gz").write_bytes(packed(values.tobytes()))
    for name in TABLES:
        (work / name).write_bytes((GRAPHS / name).read_bytes())
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(work.iterdir())
        if not file.name.startswith(".")
    }
    write_json(
        work / CARD,
        {**index["card"], "files": files, "examples": list(EXAMPLES), "example_lengths": lengths},
    )


def _examples(graph: bytes, encoder: Any) -> tuple[list[int], Array]:
    """Return the token count of each example, and the concatenated states and pooled vectors, float32."""
    from onnxruntime import InferenceSession

    session = InferenceSession(graph, providers=["CPUExecutionProvider"])
    lengths, values = [], []
    for text in EXAMPLES:
        ids, mask = encoder.ids([text])
        tokens, pooled = session.run(None, {"ids": ids.numpy(), "mask": mask.numpy()})
        lengths.append(int(ids.shape[1]))
        values += [tokens.ravel(), pooled.ravel()]
    return lengths, np.concatenate(values).astype("<f4")
