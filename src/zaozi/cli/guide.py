"""`zaozi guide ...`: the figures of the visual guide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from zaozi.cli.main import parse


def figures(args: list[str]) -> None:
    parse(_figures, args, "guide figures")


def _figures(
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")] = Path("out/figures"),
    /,
    only: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    model: str = "base",
    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
    seed: int = 0,
) -> None:
    """Draw the guide's figures: OUT/NAME.png, OUT/NAME.svg, and OUT/NAME.json with the data behind each.

    Args:
        out: Where to.
        only: A figure's name or number; may be repeated.
        model: A shipped name, or the folder of a model or training run.
        data: The glyph dataset; built when it is not there.
        seed: Of everything random.
    """
    from tqdm import tqdm

    from zaozi.guide.figures import chosen, draw_all
    from zaozi.guide.figures.source import Source

    names = chosen(only)
    with tqdm(total=len(names), desc="figures", unit="figure", delay=2, leave=False) as bar:
        for name, _ in draw_all(Source(model, data, seed), names, out):
            bar.update()
            bar.set_postfix_str(name)
    print(f"{len(names)} figures: {out}")


def export(args: list[str]) -> None:
    parse(_export, args, "export")


def _export(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "base",
    /,
    to: Literal["onnx"] = "onnx",
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/onnx"),
) -> None:
    """Write a model for other engines: its denoiser, its way back to pixels and its text encoder, half a minute in all.

    The files are ONNX, opset 20, with weights in half precision and arithmetic in float32; model.json says how to call them.

    Args:
        model: A shipped name, or the folder of a model or training run.
        to: The format.
        out: Where to.
    """
    from zaozi.guide.export import export_onnx
    from zaozi.pipeline import TextToImage

    export_onnx(TextToImage.from_pretrained(model, device="cpu"), out)
    print(f"{out}: {sum(f.stat().st_size for f in out.iterdir()) / 1e6:.0f} MB of {to.upper()} files")
