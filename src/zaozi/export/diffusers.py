"""Export to diffusers: a folder that `DiffusionPipeline.from_pretrained` loads where zaozi is not installed."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zaozi.core import schema
from zaozi.core.components import schedules
from zaozi.core.config import to_dict
from zaozi.core.files import write_json
from zaozi.core.noise import lent_generator
from zaozi.core.outputs import Output
from zaozi.diffusion.schedules import T
from zaozi.export.bundle import bundle
from zaozi.model.checkpoint import CONFIG, TEXT
from zaozi.model.denoiser import Denoiser
from zaozi.model.exported import PART, STORED
from zaozi.model.release import in_markdown
from zaozi.nn.diffusers import DiffusersConfig
from zaozi.pipeline import TextToImage
from zaozi.text.encoders import TextEncoder

FILES = ("model_index.json", "pipeline.py", "README.md", "denoiser/*", "scheduler/*", "text_encoder/*", "tokenizer/*")
BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2", "scaled_linear": "scaled_linear"}
"""Names in diffusers of the schedules that its samplers know; of others they get the betas."""


def diffusers_output(out: Path, *, overwrite: bool = False) -> Output:
    """Return the output folder of a model exported to diffusers."""
    return Output(out, "diffusers", FILES, overwrite=overwrite)


def export_diffusers(artist: TextToImage, out: Path, *, overwrite: bool = False) -> None:
    """Write a pipeline folder of diffusers: model_index.json, pipeline.py, README.md, and the components `denoiser` (network,
    decoder and super-resolution stages in safetensors, with the code that needs them), `scheduler`, `text_encoder` and
    `tokenizer`.

    The same seed draws the same picture as zaozi, within 2 of 255 grey levels, with the deterministic samplers that both
    have. Raises `ZaoziError` if the folder contains something else.
    """
    with diffusers_output(out, overwrite=overwrite).write() as work:
        write_diffusers(artist, work)


def write_diffusers(artist: TextToImage, work: Path) -> None:
    """Like `export_diffusers`, but into an empty folder."""
    from diffusers import __version__
    from safetensors.torch import save_file
    from transformers import PreTrainedTokenizerFast

    encoder, model = artist.encoder, artist.model
    for name in (PART, "scheduler", "text_encoder", "tokenizer"):
        (work / name).mkdir()
    (work / "pipeline.py").write_text(bundle("zaozi.export.pipeline"), encoding="utf-8")
    (work / PART / "denoiser.py").write_text(bundle("zaozi.export.network"), encoding="utf-8")
    settings = {**part(model, encoder), "stage_configs": [part(stage, encoder) for stage in artist.stages]}
    own = {"_schema": schema.SCHEMA, "_name": model.config.name}  # diffusers passes over names that begin so
    own |= {"_distilled": to_dict(model.config.distilled)}
    write_json(
        work / PART / CONFIG,
        {"_class_name": "Denoiser", "_diffusers_version": __version__, **own, **settings},
    )
    weights = dict(model.state_dict())
    for number, stage in enumerate(artist.stages):
        weights |= {f"stages.{number}.{name}": value for name, value in stage.state_dict().items()}
    save_file(compact(weights), work / STORED, metadata={"format": "pt"})
    made = scheduler(model)
    made.save_pretrained(work / "scheduler")
    write_encoder(encoder.network, work / "text_encoder")
    encoder.tokenizer.no_truncation()
    encoder.tokenizer.no_padding()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=encoder.tokenizer, pad_token=pad_token(encoder))
    tokenizer.save_pretrained(work / "tokenizer")
    index = {
        "_class_name": ["pipeline", "ZaoziPipeline"],
        "_diffusers_version": __version__,
        "denoiser": ["denoiser", "Denoiser"],
        "scheduler": ["diffusers", type(made).__name__],
        "text_encoder": ["transformers", type(encoder.network).__name__],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    }
    write_json(work / "model_index.json", index)
    (work / "README.md").write_text(readme(artist), encoding="utf-8")


def compact(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in half precision if it holds all of them exactly, as those of a released model."""
    whole = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    half = {name: value.half() if value.is_floating_point() else value for name, value in whole.items()}
    return half if all(torch.equal(half[name].to(value.dtype), value) for name, value in whole.items()) else whole


def write_encoder(network: Any, folder: Path) -> None:
    """Write a text encoder of transformers. Layers that its class has but this one leaves out are written as zeros."""
    from safetensors.torch import save_model

    with lent_generator(0):  # initialisation draws from the global one
        whole = type(network)(network.config)
    missing = whole.load_state_dict(network.state_dict(), strict=False).missing_keys
    for name in missing:
        whole.get_parameter(name).data.zero_()
    save_model(whole, str(folder / "model.safetensors"), metadata={"format": "pt"})
    network.config.save_pretrained(folder)


def part(model: Denoiser, encoder: TextEncoder) -> dict[str, Any]:
    """Return the settings from which diffusers builds a network with its decoder, and zaozi the model again."""
    values = schema.written(model.config)
    network = values["network"]
    if isinstance(model.config.network, DiffusersConfig):
        network["logsnrs"] = model.config.network.logsnrs
    kind = encoder.name.partition(":")[0]
    text = {**values["text"], "encoder": kind if kind == encoder.name else f"{kind}:{TEXT}"}
    usual = model.config.distilled.usual()
    drawing = {"steps": usual.steps, "guidance": usual.guidance.scale, "guidance_low": usual.guidance.low}
    return {
        **{key: values[key] for key in ("properties", "stage")},
        "diffusion": {**values["diffusion"], **drawing},
        "pictures": {"size": values["size"], "channels": values["channels"], "shape": list(model.shape)},
        "network_config": network,
        "space_config": values["space"],
        "text": {**text, "padded": getattr(encoder, "padding", None) is not None},
    }


def scheduler(model: Denoiser) -> Any:
    """Return diffusers' own DPM-Solver++(2M) for a model's schedule, or, for a distilled model, its first order, which is ddim:
    what zaozi draws with by default.
    """
    from diffusers import DPMSolverMultistepScheduler

    path = model.schedule
    common: dict[str, Any] = {"final_sigmas_type": "zero", "timestep_spacing": "trailing"}
    common |= {"solver_order": 1 if model.config.distilled.steps else 2}
    if path.alpha_bar is None:
        straight = {"num_train_timesteps": T, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        return DPMSolverMultistepScheduler(**common, **straight)
    common |= {"num_train_timesteps": len(path.alpha_bar) - 1, "prediction_type": "sample"}
    kind, _, numbers = path.name.partition(":")
    if kind not in BETAS:
        betas = 1.0 - path.alpha_bar[1:] / path.alpha_bar[:-1]
        return DPMSolverMultistepScheduler(**common, trained_betas=betas.tolist())
    common["beta_schedule"] = BETAS[kind]
    if kind != "cosine":
        usual = [p.default for p in inspect.signature(schedules.family(kind)).parameters.values()]
        given = [float(number) for number in numbers.split(":") if number]
        common["beta_start"], common["beta_end"] = [*given, *usual[len(given) :]][:2]
    return DPMSolverMultistepScheduler(**common)


def pad_token(encoder: TextEncoder) -> str:
    """Return the padding token; if padding is not read, any will do."""
    if (padding := getattr(encoder, "padding", None)) is not None:
        return str(encoder.tokenizer.id_to_token(padding))
    known = encoder.tokenizer.get_vocab()
    return next((name for name in ("[PAD]", "<pad>") if name in known), next(iter(known)))


def readme(artist: TextToImage) -> str:
    """Return a model card with metadata for the hub."""
    config = artist.model.config
    sizes = " and ".join(f"{size}x{size}" for size in (config.size, *(stage.config.size for stage in artist.stages)))
    straight = config.diffusion.schedule == "linear_path"
    other = "FlowMatchEulerDiscreteScheduler" if straight else "DDIMScheduler"
    how = "()" if straight else ".from_config(pipe.scheduler.config, clip_sample=False)"
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
tags: [diffusers, zaozi, text-to-image]
---

# {in_markdown(config.name)}

A text-to-image pipeline exported from zaozi: {"grey" if config.channels == 1 else "RGB"} pictures of {sizes} pixels. It needs
diffusers and transformers, not zaozi. `pipeline.py` and `denoiser/denoiser.py` contain the code that runs: read them first.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
pipe({json.dumps(example(artist))}, generator=0).images[0].save("picture.png")
```

Deterministic samplers draw the same picture as zaozi for the same seed, within 2 of 255 grey levels. To exchange the scheduler:

```python
from diffusers import {other}

pipe.scheduler = {other}{how}
```
"""


def example(artist: TextToImage) -> str:
    """Return an example prompt."""
    return "gold" if artist.model.config.channels == 1 else "red apple"
