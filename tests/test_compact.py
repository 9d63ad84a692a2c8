"""The model that the page draws with: small, whole, and the same in PyTorch; and what it says of glyphs."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from zaozi import TextToImage
from zaozi.core.files import sha256
from zaozi.data.font import default_font, glyph
from zaozi.export.onnx import exported, parts
from zaozi.guide import compact
from zaozi.guide.explain import Explainer
from zaozi.guide.shipped import SITE
from zaozi.model.checkpoint import find_model
from zaozi.pipeline import from_picture

MEGABYTES = 30
"""Before the first drawing, at most: the model and the runtime."""


@pytest.fixture(scope="module")
def files() -> Path:
    return compact.compact_model("base")


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=4), elements=st.floats(-10, 10, width=32)))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_weight_lies_within_half_a_step_of_what_is_stored(weight: np.ndarray) -> None:
    for levels in (None, 16.0, 4.0):
        rows = compact.as_rows(weight, levels)
        assert np.abs(rows.widened() - weight).max() <= 0.501 * rows.scale.max()


def test_all_that_comes_before_the_first_drawing_is_at_most_thirty_megabytes(files: Path) -> None:
    card = json.loads((files / "model.json").read_text())
    for name, about in card["files"].items():
        assert (files / name).stat().st_size == about["bytes"]
        assert sha256(files / name) == about["sha256"]
    model = sum(card["files"][f"{name}.gz"]["bytes"] for name in (
        "denoiser.onnx", "decoder.onnx", "encoder.onnx", "examples.bin", "tokenizer.json"
    ))  # fmt: skip
    for kind in ("", ".asyncify"):  # by WASM, and by WebGPU
        runtime = lzma.decompress((SITE / "ort" / f"ort-wasm-simd-threaded{kind}.wasm.xz").read_bytes())
        assert model + len(gzip.compress(runtime, 6)) < MEGABYTES * 1e6


def test_the_graphs_that_ship_belong_to_the_weights_that_ship() -> None:
    index = json.loads((compact.GRAPHS / compact.INDEX).read_text())
    assert index["weights"] == compact.digest(find_model("base")), "run: python -m zaozi.guide.skeletons"


def test_a_filled_graph_is_a_fresh_export_made_compact(files: Path) -> None:
    artist = TextToImage.from_pretrained("base", device="cpu")
    name, module, arguments, inputs, outputs = next(part for part in parts(artist) if part[0] == "decoder")
    with torch.no_grad():
        fresh = exported(module, arguments, inputs, outputs)
    compact.compact_graph(fresh, {k: w.numpy() for k, w in artist.model.state_dict().items()})
    assert fresh.SerializeToString(deterministic=True) == gzip.decompress((files / f"{name}.onnx.gz").read_bytes())


def test_every_part_answers_as_pytorch_does_with_the_same_weights(files: Path) -> None:
    from onnxruntime import InferenceSession

    artist = TextToImage.from_pretrained("base", device="cpu")
    for network in (artist.model, *artist.stages, artist.encoder.network):
        compact.use_compact_weights(network)
    for name, module, arguments, inputs, _ in parts(artist):
        session = InferenceSession(gzip.decompress((files / f"{name}.onnx.gz").read_bytes()))
        flat = [v for a in arguments for v in (a if isinstance(a, list) else [a])]
        found = session.run(None, {n: v.numpy() for n, v in zip(inputs, flat, strict=True)})
        with torch.no_grad():
            wanted = module(*arguments)
        for a, b in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            assert np.abs(a - b.numpy()).max() < 2e-3, name


def test_a_weight_that_is_missing_or_of_another_shape_is_refused() -> None:
    proto = onnx.load_model_from_string(gzip.decompress((compact.GRAPHS / "decoder.onnx.gz").read_bytes()))
    places = json.loads((compact.GRAPHS / compact.INDEX).read_text())["places"]["decoder"]
    with pytest.raises(ValueError, match="is missing"):
        compact._fill(proto, places, {})
    other = {source: np.zeros((3, 3), np.float32) for source, _ in places.values()}
    with pytest.raises(ValueError, match=r"is \[3, 3\], not"):
        compact._fill(proto, places, other)


@pytest.mark.parametrize(("character", "radical"), [("鯉", "魚"), ("銅", "金"), ("病", "疒")])
def test_a_real_glyph_is_known_for_what_it_is(files: Path, character: str, radical: str) -> None:
    picture = from_picture(glyph(character, default_font(), 128), 128, 1)[0].numpy()
    found = Explainer(files).explain(picture)
    assert found.radical["character"] == radical
    assert found.nearest[0]["character"] == character
    assert found.nearest[0]["copy"]
    assert found.nearest[0]["distance"] < 4  # half a step in each of 48 directions is 3.5
    assert [one["distance"] for one in found.nearest] == sorted(one["distance"] for one in found.nearest)
    assert not {part["character"] for part in found.parts} & {radical}
