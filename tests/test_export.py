"""The exported files draw what the model draws, through the very samplers of this library."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from zaozi.cli.main import main
from zaozi.core.noise import picture_noise
from zaozi.core.sampling import Guidance, Sampling
from zaozi.core.types import Cond, Estimate, Level
from zaozi.diffusion.guidance import cfg, clamped
from zaozi.diffusion.levels import levels
from zaozi.diffusion.samplers import dpmpp_2m
from zaozi.pipeline import TextToImage, draw


@pytest.mark.parametrize("part", ["denoiser", "decoder", "encoder"])
def test_no_number_is_wider_than_what_a_browser_computes_with(exported: Path, part: str) -> None:
    """ONNX Runtime's build for WebGPU has no float64."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported / f"{part}.onnx")).graph
    kinds = {v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    kinds |= {weight.data_type for weight in graph.initializer}
    assert onnx.TensorProto.FLOAT in kinds
    assert onnx.TensorProto.DOUBLE not in kinds


def run(folder: Path, part: str, **inputs: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(folder / f"{part}.onnx"), providers=["CPUExecutionProvider"])
    return [
        torch.from_numpy(v) for v in session.run(None, {k.replace("__", "."): v.numpy() for k, v in inputs.items()})
    ]


def test_exported_files_draw_what_the_model_draws(exported: Path, halved: TextToImage) -> None:
    model, card = halved.model, json.loads((exported / "model.json").read_text())
    assert card["shape"] == list(model.shape)
    prompts = ["a long text of seven real words", "gold", "water"]
    ids, mask = halved.encoder.ids(prompts)
    tokens, pooled = run(exported, "encoder", ids=ids, mask=mask)
    cond = halved.encode(prompts)
    assert float((tokens - cond.tokens).abs().max()) < 5e-3
    assert float((pooled - cond.pooled).abs().max()) < 1e-3

    def denoise(x: Tensor, level: Level, cond: Cond) -> Estimate:
        column = torch.full((len(x),), float(level.alpha)), torch.full((len(x),), float(level.sigma))
        absent = {
            f"property__{p.column}": torch.zeros(len(x), dtype=torch.long)
            if p.kind == "class"
            else torch.full((len(x),), torch.nan)
            for p in model.config.properties
        }
        given = {"tokens": cond.tokens, "mask": cond.mask, "pooled": cond.pooled}
        return Estimate(*run(exported, "denoiser", x=x, alpha=column[0], sigma=column[1], **given, **absent))

    path = levels(model.schedule, 4)
    noise = picture_noise(0, range(3), model.shape)
    own = Cond(tokens, mask, pooled)
    x0 = dpmpp_2m(clamped(cfg(denoise, own, 3.0), -1, 1), float(path[0].sigma) * noise(0), path, noise=noise)
    found = run(exported, "decoder", x0=x0)[0]
    wanted = draw(model, own, Sampling(4, guidance=Guidance(3.0, low=0.0)), pictures=range(3))
    assert float((found - wanted).abs().max()) < 1e-3


def test_what_cannot_be_exported_is_refused(exported: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["export", "base", "--out", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert (tmp_path / "notes.txt").exists()
    assert 44e6 < (exported / "encoder.onnx").stat().st_size < 48e6, "half of what its weights take in float32"
