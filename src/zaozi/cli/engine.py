"""Which engine draws: PyTorch, or ONNX Runtime without PyTorch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from zaozi.core.errors import ZaoziError

if TYPE_CHECKING:
    from zaozi.cli.generate import Drawing


def engine_of(s: Drawing) -> Literal["torch", "onnx"]:
    """Return the engine that draws. Raises `ZaoziError` if onnx was asked for and cannot do what was asked."""
    from zaozi.core.machine import has_gpu
    from zaozi.model.checkpoint import find_model
    from zaozi.pipeline.onnx import is_exported

    needs_torch = {
        "--weak": bool(s.weak),
        "--stage": bool(s.stage),
        f"--device {s.device}": s.device not in ("", "cpu"),
        "--precision bf16": s.sampling.precision == "bf16",
    }
    asked = next((name for name, given in needs_torch.items() if given), "")
    if s.engine == "onnx" and asked:
        raise ZaoziError(f"{asked} does not go with --engine onnx; use --engine torch")
    if s.engine == "auto":
        found = not asked and not (has_gpu() and not s.device) and is_exported(find_model(s.model))
        return "onnx" if found and find_spec("onnxruntime") else "torch"
    return s.engine
