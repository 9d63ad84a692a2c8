"""`zaozi model info`, `zaozi model error`, `zaozi model release` and `zaozi model assemble`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def info(model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "base", /) -> None:
    """Show a model: its parts, parameters, and GFLOPs per call.

    Args:
        model: Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the hub; or a
            named size: dit-tiny, dit-small, dit-base, unet-tiny, unet-small, unet-base.
    """
    from zaozi.core.components import named_sizes
    from zaozi.model.checkpoint import find_model, load_model, local_model
    from zaozi.model.info import describe, sized

    fresh = model in named_sizes() and local_model(model) is None
    print(describe(sized(model) if fresh else load_model(find_model(model))))


def error(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "base",
    /,
    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
    pairs: int = 256,
    seed: int = 0,
) -> None:
    """Measure a model's x0 error on held-out pairs at twenty fixed log-SNRs with fixed noise, conditioned on text only.

    Args:
        model: Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the hub.
        data: The dataset; by default the glyphs.
        pairs: Number of validation pairs.
        seed: Seed for the noise.
    """
    from zaozi.model.checkpoint import find_model, load_model
    from zaozi.train.validation import LOGSNRS, held_out_error

    errors = held_out_error(load_model(find_model(model)), data, pairs, seed)
    for wanted, value in zip(LOGSNRS, errors, strict=True):
        print(f"log-SNR {wanted:6.2f}  x0 error {value:.5f}")
    print(f"mean            x0 error {sum(errors) / len(errors):.5f}")


def release(
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")],
    /,
    name: str = "",
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Export a training run's averaged weights in half precision, with their config, log and card.

    Args:
        run: The training run, or one of its checkpoints.
        out: The output folder.
        name: Model name; by default the folder name.
        overwrite: Overwrite existing model files that zaozi did not write; by default this is an error.
    """
    from zaozi.model.release import release_model

    print(release_model(run, out, name or out.name, overwrite=overwrite))


def assemble(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")],
    /,
    space_from: Annotated[str, tyro.conf.arg(metavar="DIR")] = "",
    stage: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="MODEL")] = (),
    snap: float | None = None,
    name: str = "",
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Write a model with another decoder, or with super-resolution stages, in half precision; its network is unchanged.

    Args:
        model: Name of a shipped model, or the folder of a released model.
        out: The output folder.
        space_from: The folder of `zaozi space fit`, or a model, whose decoder is used. The encoder must be the same. The
            evaluation (report.json and misses.png) is then not copied.
        stage: A super-resolution stage that belongs to the model from then on; can be repeated.
        snap: How near to black or white x0 must be to become it before decoding, 0 to 0.5; by default as before. Few steps leave
            more grey than many. The evaluation is then not copied.
        name: Model name; by default that of the model.
        overwrite: Overwrite existing model files that zaozi did not write; by default this is an error.
    """
    from zaozi.model.assemble import assemble as put_together

    print(put_together(model, out, space_from=space_from, stages=stage, snap=snap, name=name, overwrite=overwrite))
