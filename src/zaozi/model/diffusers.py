"""Import a pipeline of the package diffusers as a model: U-Net, scheduler, and, where it has them, autoencoder and text encoder.

Only JSON, safetensors and tokenizer files are read; the code of a pipeline is not.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zaozi.core import schema
from zaozi.core.components import SpaceConfig, predictions, schedules
from zaozi.core.config import to_dict
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.noise import lent_generator
from zaozi.core.recipe import DiffusionConfig, ModelConfig, TextConfig
from zaozi.diffusion.schedules import named
from zaozi.model.borrowed import PATTERNS, Borrowed, borrow, kind_of, read
from zaozi.model.checkpoint import CONFIG, TEXT, WEIGHTS, in_half, model_output, save_folder
from zaozi.model.denoiser import Denoiser, make_denoiser
from zaozi.model.exported import import_exported, is_exported
from zaozi.model.info import describe, parameters
from zaozi.model.release import in_markdown
from zaozi.model.spaces.diffusers import CLASSES as AUTOENCODERS
from zaozi.model.spaces.diffusers import DiffusersConfig as LatentsConfig
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.nn.diffusers import TEXTUAL, DiffusersConfig, check_supported, class_of_diffusers
from zaozi.text.pretrained import from_hub, is_hub_name

INDEX, UNET, SCHEDULER, VAE = "model_index.json", "unet", "scheduler/scheduler_config.json", "vae"
FOREIGN = ("vqvae", "movq", "text_encoder_2", "controlnet", "prior", "transformer")
"""Parts of pipelines that this module does not read."""
BETAS = {name: name for name in ("linear", "scaled_linear", "sigmoid")} | {"squaredcos_cap_v2": "cosine"}
"""Names here of the schedules of diffusers."""
_WEIGHTS = "diffusion_pytorch_model"
_MOST_JSON = 2**24  # bytes


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline's folder says of its parts."""

    folder: Path
    name: str
    """Where it comes from, for the card."""
    unet: dict[str, Any]
    diffusion: DiffusionConfig
    vae: LatentsConfig | None
    text: Borrowed | None


def import_diffusers(source: str, out: Path, *, text_encoder: str = "", name: str = "", overwrite: bool = False) -> str:
    """Write the pipeline in a folder, or of that name on the hub, to `out` as a model. Returns a one-line summary.

    `text_encoder` (`t5:` or `clip:` and a folder or hub name) replaces that of the pipeline. Names on the hub are fetched only
    within `downloads_allowed`. Raises `ZaoziError` if a part is missing, damaged or not supported, or if `out` has files that
    zaozi did not write.
    """
    local = Path(source)
    places = [place for place in (local, Path(text_encoder.partition(":")[2])) if place.name and place.is_dir()]
    inputs = tuple(path for place in places for path in (place, *place.rglob("*")))
    output = replace(model_output(out, overwrite=overwrite), inputs=inputs)
    output.check()
    if is_exported(local):
        if text_encoder:
            raise ZaoziError(f"{source} was exported from zaozi with its text encoder; leave out --text-encoder")
        return import_exported(local, output, name)
    pipeline = read_pipeline(source, text_encoder)
    model = to_model(pipeline, name or out.name)
    half = _is_half(pipeline.folder / UNET)
    files = {WEIGHTS: in_half(model) if half else model.state_dict()}
    texts: dict[str, Any] = {
        CONFIG: schema.written(model.config),
        "card.md": _card(pipeline, model),
        "recipe.toml": _recipe(model.config),
    }
    if (text := pipeline.text) is not None:
        files[f"{TEXT}/{WEIGHTS}"] = text.weights
        texts |= {f"{TEXT}/config.json": text.config, f"{TEXT}/tokenizer.json": text.tokenizer}
    save_folder(output, files, texts)
    size = sum(path.stat().st_size for path in out.rglob("*.safetensors")) / 1e6
    c = model.config
    return (
        f"{out}: {size:.1f} MB, {pipeline.unet['_class_name']} of {parameters(model.network) / 1e6:.1f} M parameters, "
        f"{c.size}x{c.size}, {c.diffusion.schedule} schedule, {c.diffusion.prediction} prediction"
    )


def read_pipeline(source: str, text_encoder: str = "") -> Pipeline:
    """Read what a pipeline consists of, and its text encoder. Raises `ZaoziError`."""
    folder = _folder(source)
    index = _read(folder / INDEX) if (folder / INDEX).is_file() else {}
    for part in FOREIGN:
        if isinstance(held := index.get(part), list) and held[:1] != [None]:
            raise ZaoziError(
                f"{folder} is a pipeline with {part}, which is not supported; use one of U-Net and scheduler"
            )
    if not (folder / UNET / CONFIG).is_file():
        raise ZaoziError(f"{folder} has no {UNET}/{CONFIG}; give the folder of a pipeline with a U-Net")
    unet = _settings(folder / UNET)
    try:
        check_supported(unet)
    except ZaoziError as error:
        raise ZaoziError(f"{folder / UNET}: {error}") from None
    vae = None
    if (folder / VAE).is_dir():
        own = _settings(folder / VAE)
        if own.get("_class_name") not in AUTOENCODERS:
            raise unknown("autoencoder", str(own.get("_class_name"))[:40], AUTOENCODERS)
        vae = LatentsConfig(settings=json.dumps(own, sort_keys=True))
    text = None
    if unet["_class_name"] == TEXTUAL:
        text = _text(folder, text_encoder)
    elif text_encoder:
        raise ZaoziError(f"the U-Net in {folder} reads no text; leave out --text-encoder")
    name = folder.resolve().name if Path(source).is_dir() else source
    return Pipeline(folder, name, unet, _diffusion(folder), vae, text)


def to_model(pipeline: Pipeline, name: str) -> Denoiser:
    """Build the model of a pipeline, with its weights. Raises `ZaoziError` if the weights are missing or do not fit."""
    text, config = pipeline.text, _config(pipeline, name)
    model = make_denoiser(config).eval().requires_grad_(False)
    network: Any = model.network
    network.network.load_state_dict(_loaded(pipeline.folder / UNET, pipeline.unet).state_dict())
    if pipeline.vae is not None:
        space: Any = model.space
        space.network.load_state_dict(_loaded(pipeline.folder / VAE, pipeline.vae.own).state_dict())
    if text is not None:
        network.empty.copy_(text.empty)
    for key, value in model.state_dict().items():
        if not value.isfinite().all():
            raise ZaoziError(f"{pipeline.folder}: weight '{key}' has values that are not finite; use another copy")
    return model


def _config(pipeline: Pipeline, name: str) -> ModelConfig:
    unet, vae, text = pipeline.unet, pipeline.vae, pipeline.text
    side = unet.get("sample_size")
    if isinstance(side, list) and len(set(side)) == 1:
        side = side[0]
    if type(side) is not int or side < 1:
        raise ZaoziError(
            f"{pipeline.folder / UNET} is for pictures of {str(side)[:20]} pixels; use one for square pictures"
        )
    channels = unet.get("in_channels", 4 if text else 3)
    space: SpaceConfig = PixelsConfig()
    if vae is not None:
        space, side, channels = vae, side * vae.factor, vae.own.get("in_channels", 3)
    if channels not in (1, 3):
        raise ZaoziError(
            f"{pipeline.folder} has pictures of {channels} channels; use a pipeline for grey or RGB pictures"
        )
    encoder = TextConfig(f"{text.kind}:{TEXT}", text.max_tokens, text.width) if text else TextConfig()
    network = DiffusersConfig(
        settings=json.dumps(unet, sort_keys=True),
        timesteps=pipeline.diffusion.schedule,
        empty_tokens=len(text.empty) if text else 1,
    )
    return ModelConfig(name, side, channels, network, space, pipeline.diffusion, encoder)


def _folder(source: str) -> Path:
    """Return the folder of a pipeline: a local one, or files from the hub."""
    if Path(source).is_dir():
        return Path(source)
    if not is_hub_name(source):
        raise ZaoziError(f"{source} is not a folder; give the folder of a pipeline, or its name on the hub")
    from zaozi.text.encoders import may_download

    weights = [f"{part}/{end}" for part in (UNET, VAE) for end in ("*.json", "*.safetensors")]
    words = [f"{part}/{end}" for part in ("text_encoder", "tokenizer") for end in PATTERNS]
    try:
        return from_hub(source, [INDEX, "README.md", SCHEDULER, *weights, *words], allow_download=may_download())
    except Exception as error:  # from the network, the hub, or the disk
        if not may_download():
            raise ZaoziError(
                f"{source} is not a folder; give the folder of a pipeline, or --allow-download to fetch it from the hub"
            ) from None
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ZaoziError(f"{source} cannot be fetched from the hub ({line}); give the folder of a pipeline") from None


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises `ZaoziError` if it is missing or damaged."""
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ValueError("it is too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise ZaoziError(f"{path} cannot be read ({why}); give the folder of a complete pipeline") from None
    return found


def _settings(folder: Path) -> dict[str, Any]:
    """Return the configuration of a part, with its class but without other keys that begin with '_'."""
    found = _read(folder / CONFIG)
    return {key: value for key, value in found.items() if key == "_class_name" or not key.startswith("_")}


def _text(folder: Path, wanted: str) -> Borrowed:
    if wanted:
        return borrow(wanted)
    own = folder / "text_encoder"
    if not own.is_dir():
        raise ZaoziError(
            f"{folder} has no text encoder; name the one that it was trained with: --text-encoder t5:FOLDER_OR_NAME"
        )
    words = folder / "tokenizer"
    return read(kind_of(own), own, words if words.is_dir() else own)


def _diffusion(folder: Path) -> DiffusionConfig:
    """Return the process of a scheduler's configuration. Raises `ZaoziError` if there is none like it here."""
    import diffusers

    given, path = _read(folder / SCHEDULER), folder / SCHEDULER
    name = str(given.get("_class_name"))[:60]
    found = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    usual = {key: p.default for key, p in inspect.signature(found).parameters.items()} if found else {}
    if "beta_schedule" not in usual:
        raise ZaoziError(f"{path}: the scheduler {name} has no betas; use a pipeline with a DDPMScheduler or the like")
    usual = {"prediction_type": "epsilon", **usual}
    values = usual | {key: value for key, value in given.items() if key in usual}
    for key in ("trained_betas", "rescale_betas_zero_snr", "use_flow_sigmas"):
        if values.get(key):
            raise ZaoziError(
                f"{path}: a scheduler with {key} is not supported; use one whose betas follow from two ends"
            )
    if values["beta_schedule"] not in BETAS:
        raise ZaoziError(f"{path}: {unknown('beta_schedule', str(values['beta_schedule'])[:40], BETAS)}")
    kind, steps = BETAS[values["beta_schedule"]], values["num_train_timesteps"]
    ends = () if kind == "cosine" else (values["beta_start"], values["beta_end"])
    if not all(type(number) in (int, float) for number in (*ends, steps)):
        raise ZaoziError(f"{path}: its betas are not numbers; give the folder of a sound pipeline")
    prediction = values["prediction_type"]
    if prediction not in ("epsilon", "sample", "v_prediction"):
        raise ZaoziError(f"{path}: {unknown('prediction_type', str(prediction)[:40], predictions)}")
    try:
        schedules[":".join([kind, *map(repr, (*ends, steps))])]()  # raises for numbers out of range
        return DiffusionConfig(named(kind, *ends, steps), prediction, "unit", "uniform")
    except ZaoziError as error:
        raise ZaoziError(f"{path}: {error}") from None


def _loaded(folder: Path, own: dict[str, Any]) -> Any:
    """Load a part of a pipeline in float32. Raises `ZaoziError` if its weights are pickled, missing or do not fit."""
    kind = class_of_diffusers(own["_class_name"])
    files = _weights(folder)
    variant = files[0].name.split(".")[1] if files[0].name.count(".") == 2 and "-of-" not in files[0].name else None
    try:
        with lent_generator(0):  # a network is initialised before its weights are read
            found, report = kind.from_pretrained(
                str(folder), use_safetensors=True, local_files_only=True, output_loading_info=True, variant=variant
            )
    except Exception as error:  # from the readers of two libraries
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ZaoziError(f"the weights in {folder} cannot be read ({line[:160]}); use another copy") from None
    for key, problem in (
        ("missing_keys", "lack"),
        ("unexpected_keys", "have an unknown"),
        ("mismatched_keys", "misfit"),
    ):
        if report.get(key):
            raise ZaoziError(f"the weights in {folder} {problem} '{str(report[key][0])[:80]}'; use another copy")
    return found.float().eval()


def _weights(folder: Path) -> list[Path]:
    """Return the files of a part's weights, the plain ones first. Raises `ZaoziError` if there are none, or only pickled ones."""
    files = sorted(folder.glob(f"{_WEIGHTS}*.safetensors"), key=lambda path: (path.name.count("."), path.name))
    if files:
        return files
    if any(folder.glob("*.bin")) or any(folder.glob("*.ckpt")):
        raise ZaoziError(
            f"the weights in {folder} are pickled, which can run code; save them as safetensors: save_pretrained(...)"
        )
    raise ZaoziError(f"{folder} has no {_WEIGHTS}.safetensors; give the folder of a complete pipeline")


def _is_half(folder: Path) -> bool:
    """Whether a part's weights are stored in float16."""
    from safetensors import safe_open

    with safe_open(_weights(folder)[0], "pt") as file:
        return any(file.get_slice(name).get_dtype() == "F16" for name in file.keys())  # noqa: SIM118


def _licence(folder: Path) -> str:
    """Return the licence in the head of a README.md, or ''."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    said = re.search(r"^license: *(\S[^\n]{0,60})", head[1], re.MULTILINE) if head else None
    return said[1].strip("\"' ") if said else ""


def _card(pipeline: Pipeline, model: Denoiser) -> str:
    config = model.config
    index = _read(pipeline.folder / INDEX) if (pipeline.folder / INDEX).is_file() else {}
    scheduler = _read(pipeline.folder / SCHEDULER).get("_class_name")
    licence = _licence(pipeline.folder)
    say = f"The weights are licensed under {in_markdown(licence)}" if licence else "For the licence, see the source"
    return f"""# {in_markdown(config.name)}

```
{describe(model)}
```

Imported from the diffusers pipeline {in_markdown(pipeline.name)}: {in_markdown(str(index.get("_class_name", "a folder")))} with
a {pipeline.unet["_class_name"]} and a {in_markdown(str(scheduler))}. `recipe.toml` trains it further:

    zaozi train MODEL/recipe.toml --data.path DATASET --init-from MODEL --out RUN

{say}.
"""


def _recipe(config: ModelConfig) -> str:
    """Return a recipe that trains an imported model further, as TOML; a JSON text is a TOML text."""
    sections: dict[str, dict[str, Any]] = {
        "data": {"size": config.size},
        "text": {key: to_dict(config.text)[key] for key in ("encoder", "max_tokens")},
        "network": to_dict(config.network),
        "space": to_dict(config.space),
        "diffusion": {key: to_dict(config.diffusion)[key] for key in ("schedule", "prediction", "weight", "times")},
        "optim": {"kind": "adamw", "lr": 1e-5},
        "train": {"self_check": False},
    }
    lines = ["# Trains this model further: zaozi train THIS --data.path DATASET --init-from MODEL --out RUN"]
    lines += ["", f"name = {_toml(config.name)}"]
    for section, values in sections.items():
        lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml(value: str | float) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
