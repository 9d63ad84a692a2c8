"""`zaozi import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def import_model(
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="diffusers:PIPELINE")],
    /,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    text_encoder: Annotated[str, tyro.conf.arg(metavar="KIND:PLACE")] = "",
    name: str = "",
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Make a model of a pipeline of the package diffusers: a UNet2DModel or UNet2DConditionModel, and what belongs to it.

    Only configurations, safetensors and tokenizers are read; no code in the folder is run.

    Args:
        source: diffusers: and the folder of a pipeline, or its name on the hub with --allow-download.
        out: The output folder.
        text_encoder: The text encoder, if the pipeline has none or another is wanted: t5: or clip: and a folder or hub name.
        name: Model name; by default the folder name.
        overwrite: Overwrite existing model files that zaozi did not write; by default this is an error.
    """
    from zaozi.core.errors import ZaoziError
    from zaozi.model.diffusers import import_diffusers

    kind, _, where = source.partition(":")
    if kind != "diffusers" or not where:
        raise ZaoziError(
            f"'{source}' cannot be imported; use diffusers: and a folder, as in zaozi import diffusers:my-pipeline"
        )
    print(import_diffusers(where, out, text_encoder=text_encoder, name=name, overwrite=overwrite))
