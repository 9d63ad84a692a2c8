"""ONNX export of a model: the denoiser, the decoder to pixels, the text encoder, the encoder to latents, and the stages."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zaozi.core.errors import ZaoziError
from zaozi.core.files import sha256, write_json
from zaozi.core.outputs import Output
from zaozi.core.progress import progress
from zaozi.core.types import Cond, Level, Lower
from zaozi.diffusion.schedules import T
from zaozi.model.denoiser import Denoiser
from zaozi.pipeline import TextToImage
from zaozi.text.encoders import TextEncoder

OPSET = 20
FILES = ("denoiser.onnx", "decoder.onnx", "encoder.onnx", "space.onnx", "stage-*.onnx")
MARKER = "model.json"
TOLERANCE = 1e-3
"""Maximum difference of a part's outputs from PyTorch, relative to the largest output or 1."""


class _Denoise(nn.Module):
    """(x `[B, C, s, s]`, alpha `[B]`, sigma `[B]`, tokens, mask, pooled, a tensor `[B]` per property; for a super-resolution
    stage also the smaller picture `[B, C, s, s]` and its share of noise `[B]`) -> x0_hat, eps_hat.
    """

    def __init__(self, model: Denoiser) -> None:
        super().__init__()
        self.model = model
        self.columns = [p.column for p in model.config.properties]

    def forward(
        self,
        x: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        tokens: Tensor,
        mask: Tensor,
        pooled: Tensor,
        values: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        count = len(self.columns)
        lower = Lower(values[count], values[count + 1]) if len(values) > count else None
        cond = Cond(tokens, mask, pooled, dict(zip(self.columns, values[:count], strict=True)), lower)
        guess = self.model(x, Level(alpha, alpha, sigma), cond)  # networks use only alpha and sigma of a level
        return guess.x0, guess.eps


class _Decode(nn.Module):
    """x0 `[B, C, s, s]` -> pictures `[B, C, S, S]`."""

    def __init__(self, model: Denoiser) -> None:
        super().__init__()
        self.space = model.space

    def forward(self, x0: Tensor) -> Tensor:
        return self.space.decode(x0)


class _ToLatents(nn.Module):
    """Pictures `[B, C, S, S]` -> x0 `[B, c, h, w]`."""

    def __init__(self, model: Denoiser) -> None:
        super().__init__()
        self.space = model.space

    def forward(self, picture: Tensor) -> Tensor:
        return self.space.encode(picture)


class _Encode(nn.Module):
    """Token ids and mask `[B, L]` -> token states `[B, L, D]` and pooled vector `[B, D]`."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.network: nn.Module = encoder.network
        self.states: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = encoder.states

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.states(ids, mask)


def onnx_output(out: Path, *, overwrite: bool = False) -> Output:
    """Return the output folder of an exported model."""
    return Output(out, "onnx", (*FILES, "tokenizer.json", MARKER), overwrite=overwrite)


def export_onnx(artist: TextToImage, out: Path, *, overwrite: bool = False) -> None:
    """Write denoiser.onnx, decoder.onnx, encoder.onnx, tokenizer.json and model.json (shapes, schedule, properties, hashes);
    for latents also space.onnx, which encodes pictures, and stage-SIZE.onnx for each super-resolution stage of the model.

    Opset 20; weights are stored in half precision and cast on loading, so all arithmetic is float32. Each part is checked
    against PyTorch. Raises `ZaoziError` if outputs differ by more than 1e-3 of the largest, or if the folder contains
    something else.
    """
    with onnx_output(out, overwrite=overwrite).write() as work:
        write_onnx(artist, work)


@torch.no_grad()
def write_onnx(artist: TextToImage, work: Path) -> None:
    """Like `export_onnx`, but into an empty folder."""

    for name, module, arguments, inputs, outputs in progress(parts(artist), desc="exporting", unit="part"):
        _write(module, arguments, inputs, outputs, work / f"{name}.onnx")
    encoder = artist.encoder
    encoder.tokenizer.no_truncation()
    encoder.tokenizer.save(str(work / "tokenizer.json"), pretty=False)
    write_json(work / MARKER, {**card(artist), "engine": engine(artist), "files": _files(work)})


Part = tuple[str, nn.Module, tuple[Any, ...], list[str], list[str]]
"""Name, module, example arguments, and the names of inputs and outputs."""


@torch.no_grad()
def parts(artist: TextToImage) -> list[Part]:
    """Return the parts to export."""
    model, encoder = artist.model.cpu().eval(), artist.encoder
    config = model.config
    known = config.properties
    prompts = ["gold", "a small song bird"]
    cond = artist.encode(prompts, {p.column: p.example() for p in known})
    denoiser = _denoiser("denoiser", model, cond)
    made: list[Part] = [
        denoiser,
        ("decoder", _Decode(model), (denoiser[2][0].clamp(-1, 1),), ["x0"], ["picture"]),
        ("encoder", _Encode(encoder), encoder.ids(prompts), ["ids", "mask"], ["tokens", "pooled"]),
    ]
    if not model.space.bounds:
        picture = torch.from_numpy(
            np.random.default_rng(1).uniform(-1, 1, (2, config.channels, config.size, config.size))
        )
        made.append(("space", _ToLatents(model), (picture.float(),), ["picture"], ["x0"]))
    made += [_denoiser(stage_name(stage), stage.cpu().eval(), cond) for stage in artist.stages]
    return made


def stage_name(stage: Denoiser) -> str:
    """Return the name of a super-resolution stage's part."""
    return f"stage-{stage.config.size}"


def _denoiser(name: str, model: Denoiser, cond: Cond) -> Part:
    """Return the part that calls a model's network, with random inputs."""
    known = model.config.properties
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, *model.shape))).float()
    values = [cond.properties[p.column] for p in known]
    names = ["x", "alpha", "sigma", "tokens", "mask", "pooled", *(f"property.{p.column}" for p in known)]
    if model.config.stage.factor > 1:
        values += [x.flip(0), torch.tensor([0.1, 0.4])]
        names += ["lower", "lower_share"]
    levels = torch.tensor([0.2, 0.7]), torch.tensor([0.8, 0.3])
    return name, _Denoise(model), (x, *levels, cond.tokens, cond.mask, cond.pooled, values), names, ["x0", "eps"]


def card(artist: TextToImage) -> dict[str, Any]:
    """Return the metadata for inference engines: shapes, schedule, text encoder and properties."""
    model, encoder = artist.model, artist.encoder
    config = model.config
    return {
        "name": config.name,
        "size": config.size,
        "channels": config.channels,
        "shape": list(model.shape),
        "bounds": list(model.space.bounds) if model.space.bounds else None,
        "schedule": config.diffusion.schedule,
        "stage": asdict(config.stage),
        "T": T,
        "text": {"encoder": encoder.name, "max_tokens": encoder.max_tokens, "width": encoder.width},
        "properties": [asdict(p) for p in config.properties],
        "stages": [
            {
                "size": stage.config.size,
                **{key: getattr(stage.config.stage, key) for key in ("factor", "steps", "noise")},
                "schedule": stage.config.diffusion.schedule,
                "bounds": list(stage.space.bounds or ()),
            }
            for stage in artist.stages
        ],
        "opset": OPSET,
    }


def engine(artist: TextToImage) -> dict[str, Any]:
    """Return what `zaozi.pipeline.onnx` needs besides: how the encoder reads, and what the spaces of model and stages do."""
    encoder = artist.encoder
    return {
        **{name: getattr(encoder, name, None) for name in ("limit", "english", "unknown", "padding")},
        "reads_text": artist.model.config.network.reads_text,
        "distilled": asdict(artist.model.config.distilled),
        "averages": artist.model.space.averages,
        "snaps": [getattr(stage.space, "snap", 0.0) for stage in artist.stages],
    }


def _files(folder: Path) -> dict[str, Any]:
    return {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in sorted(folder.iterdir())}


def exported(module: nn.Module, arguments: tuple[Any, ...], inputs: list[str], outputs: list[str]) -> Any:
    """Export one part as an ONNX model with dynamic batch size and text length, with float32 weights."""

    def axes(value: Tensor, name: str) -> dict[int, Any]:
        free = {0: torch.export.Dim.DYNAMIC}
        return free | {1: torch.export.Dim.DYNAMIC} if name in ("tokens", "mask", "ids") else free

    free = [axes(v, name) for v, name in zip(_flat(arguments), inputs, strict=True)]
    plain = sum(not isinstance(a, list) for a in arguments)
    shapes = (*free[:plain], *([free[plain:]] if plain < len(arguments) else []))
    with _quietly():
        program = torch.onnx.export(
            module.eval(), arguments, dynamo=True, dynamic_shapes=shapes, opset_version=OPSET, input_names=inputs,
            output_names=outputs, verbose=False,
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def _flat(arguments: tuple[Any, ...]) -> list[Tensor]:
    return [v for a in arguments for v in (a if isinstance(a, list) else [a])]


def _write(module: nn.Module, arguments: tuple[Any, ...], inputs: list[str], outputs: list[str], path: Path) -> None:
    """Export one part, convert its weights to half precision, and check it against PyTorch."""
    import onnx
    from onnxruntime import InferenceSession

    proto = exported(module, arguments, inputs, outputs)
    _halve(proto, {name for name, _ in module.named_parameters()})
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())
    wanted = module(*arguments)
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {n: v.numpy() for n, v in zip(inputs, _flat(arguments), strict=True)})
    for name, a, b in zip(outputs, found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        if not (off := float(np.abs(a - b.numpy()).max())) < TOLERANCE * max(1.0, float(b.abs().max())):
            raise ZaoziError(
                f"{path.name}: {name} lies {off:.2g} from PyTorch's; the model cannot be exported as it is"
            )


def _halve(proto: Any, weights: set[str]) -> None:
    """Store large weights in float16, each with a Cast that engines fold on loading."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in proto.graph.initializer:
        size = np.prod(weight.dims)
        many = size > 1000 if weight.name in weights else size >= 2**16  # the exporter renames transposed weights
        if weight.data_type != TensorProto.FLOAT or not many:
            continue
        name, half = weight.name, numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(half, name + ".half"))
        casts.append(helper.make_node("Cast", [name + ".half"], [name], name=name + ".widened", to=TensorProto.FLOAT))
    kept = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*casts, *kept])


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress the exporter's messages about optional packages."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def main(model: str, work: str) -> None:
    """Export a model into an empty folder; what `zaozi.pipeline.onnx` runs in a process of its own."""
    try:
        write_onnx(TextToImage.from_pretrained(model, device="cpu"), Path(work))
    except ZaoziError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
