"""What a model is made of and how it was made, as frozen dataclasses that read from TOML and JSON.

A misspelt key, a wrong type or a value out of its list is refused in one line that names the nearest right one.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from zaozi.core.errors import ZaoziError

C = TypeVar("C")


@dataclass(frozen=True)
class Property:
    """A condition beside the text: any column of the data, as a class or a number."""

    column: str
    """The column of the dataset that holds it."""
    kind: Literal["class", "number"] = "class"
    """`class` learns one vector a value; `number` reads a real value, standardised."""
    dropout: float = 0.5
    """How often training hides it, on top of `train.property_dropout`, in [0, 1]."""
    values: tuple[str, ...] = ()
    """The classes, filled in from the training split when training starts; class k of the network is values[k - 1]."""
    mean: float = 0.0
    """Of a number over the training split, filled in likewise."""
    std: float = 1.0
    """Of a number over the training split, filled in likewise."""


@dataclass(frozen=True)
class NetworkConfig:
    """The denoiser's network: its kind, its size, and where the text enters."""

    kind: Literal["dit", "unet"] = "dit"
    """`dit`: a vision transformer; `unet`: convolutions with attention at the low resolutions."""
    channels: int = 1
    """Of the pictures as the network sees them."""
    width: int = 256
    """Channels of the transformer, or of the U-Net's highest level."""
    depth: int = 8
    """Blocks of the transformer, or residual blocks at each level of the U-Net."""
    head_width: int = 64
    """Channels of one attention head; it divides the widths."""
    patch: int = 8
    """Side of the transformer's patch, or of the U-Net's pixel-unshuffle stem."""
    multipliers: tuple[int, ...] = (1, 2, 3)
    """U-Net: channels of each level, as multiples of the width; each level halves the side."""
    attention_levels: tuple[int, ...] = (1, 2)
    """U-Net: the levels (0 is the finest) that attend to themselves and to the text."""
    text_width: int = 384
    """Channels of the text encoder's states."""
    cross_attention: bool = True
    """Whether pictures attend to the text's tokens."""
    cross_every: int = 2
    """Transformer: the text is attended to in every n-th block."""
    pooled_text: bool = True
    """Whether the pooled text is added to the time embedding."""
    dropout: float = 0.0
    """On the hidden units of the transformer's MLPs and of the U-Net's residual blocks."""


@dataclass(frozen=True)
class SpaceConfig:
    """Where diffusion happens: the pictures' own pixels, or a smaller space that is decoded afterwards."""

    kind: Literal["pixels", "halved"] = "pixels"
    """`pixels`: as they are; `halved`: at half the side, with a small learned 2x stage to come back."""
    width: int = 32
    """Channels of the 2x stage."""
    steps: int = 600
    """Steps for which the 2x stage is fitted before the denoiser is."""


@dataclass(frozen=True)
class DiffusionConfig:
    """The mathematics of training: which noise, which prediction, which weight."""

    schedule: Literal["linear", "cosine", "linear_path"] = "linear_path"
    prediction: Literal["epsilon", "sample", "v_prediction", "flow"] = "sample"
    weight: Literal["unit", "snr", "min_snr_5", "velocity"] = "velocity"
    times: Literal["uniform", "logit_normal"] = "logit_normal"
    times_mean: float = 0.8
    """Of logit(t / T) under `logit_normal`; larger trains more on noisy levels."""
    times_std: float = 0.8


@dataclass(frozen=True)
class Guidance:
    """How the condition steers a drawing."""

    scale: float = 5.0
    """0 ignores the condition, 1 follows it plainly at half the cost, 5 is usual; more is truer and less varied."""
    low: float = 0.0
    high: float = 1.0
    """Guide only where the share of noise, sigma / (alpha + sigma), is within [low, high]."""
    curve: Literal["constant", "rising"] = "constant"
    """`rising`: from none at pure noise to 2 * scale - 1 at the clean end."""
    rescale: float = 0.0
    """How far x0_hat's contrast is brought back to what it is without guidance, 0 to 1."""
    plus: bool = False
    """CFG++: the noise is estimated without guidance; then the scale lies in [0, 1]."""
    threshold: Literal["clamp", "dynamic", "none"] = "clamp"
    """What happens to x0_hat beyond the pictures' range."""


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn: one object for Python, the command line, the API and evaluation. The defaults stand here alone."""

    steps: int = 20
    """1 to 1000."""
    sampler: str = "dpmpp-2m"
    guidance: Guidance = Guidance()
    seed: int = 0
    """Picture i depends on (seed, i, prompt) alone."""
    grid: str = "uniform"
    """Which levels are visited: uniform, trailing, logsnr or karras."""
    eta: float = 0.0
    """Fresh noise in ddim, 0 (none) to 1 (as ddpm)."""
    toward_seed: tuple[int, float | Sequence[float]] | None = None
    """(other seed, share in [0, 1], or a share per row): start from noise on the way to that of another seed."""
    batch_size: int = 16
    """Pictures drawn at a time; this changes nothing in them."""


@dataclass(frozen=True)
class DataConfig:
    """Which pictures and captions."""

    path: str = ""
    """A folder that `zaozi data build` wrote; empty means the flagship glyphs, built when first needed."""
    size: int = 128
    """Side of the flagship glyphs when they are built; a folder of your own already has its size."""
    undefined: bool = False
    """Train on the flagship's characters without a definition, too; their caption is what their radical means."""


@dataclass(frozen=True)
class TextConfig:
    """The frozen language model that reads the captions."""

    encoder: str = "minilm"
    """`minilm` (packaged; it reads English), or `t5:` and the folder or hub name of a T5, mT5 or umT5."""
    max_tokens: int = 64
    """Tokens kept of a caption, from 2 up to the encoder's limit."""


@dataclass(frozen=True)
class OptimConfig:
    """How the weights move."""

    kind: Literal["muon", "adamw"] = "muon"
    """`muon` orthogonalises the blocks' matrices and leaves the rest to AdamW."""
    lr: float = 1e-3
    """AdamW's peak learning rate."""
    muon_lr: float = 6e-3
    """Muon's peak learning rate."""
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.0
    warmup: int = 200
    """Steps of linear warm-up."""
    flat: float = 0.6
    """Share of the run after which the rates fall linearly."""
    final: float = 0.02
    """The rates' last value as a share of the peak."""
    clip: float = 1.0
    """Largest norm of the gradient."""


@dataclass(frozen=True)
class TrainConfig:
    """The run: how long, how large, how often it looks up."""

    out: str = "runs/train"
    """Folder of the run: checkpoints, logs and sample grids."""
    steps: int = 10_000
    """Optimiser steps; with `max_minutes` the clock decides instead."""
    max_minutes: float = 0.0
    """Train to a clock: the rates fall so as to end there. 0 counts steps."""
    batch_size: int = 128
    """Pictures an optimiser step, over all processes and accumulations."""
    accumulate: int = 1
    """Forward passes into which each process splits its share of a batch."""
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    """`auto` takes the GPUs where there are any."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on CUDA GPUs from Ampere on and CPUs with AMX or AVX512-BF16, else fp32."""
    compile: bool = False
    """Fuse the network with torch.compile (needs a C++ compiler; pays on long runs)."""
    text_dropout: float = 0.1
    """How often a picture's text is hidden, so that guidance has an unconditional twin."""
    hint_rate: float = 0.0
    """How often a picture is told one of its hints in place of its caption: other short texts that fit it, a list in the
    dataset's column `hints` (of a glyph, what its radical means and each of its senses alone)."""
    text_noise: float = 0.0
    """Noise on the text in training, one vector a text, as a share of its states' root mean square."""
    balance: str = ""
    """A column whose rarer classes are seen more often, in proportion to (rows of the class)^-balance_power."""
    balance_power: float = 0.5
    property_dropout: float = 0.5
    """How often all properties of a picture are hidden together."""
    ema: float = 0.9995
    """Decay of the averaged weights, reached after a warm-up of (1 + step) / (10 + step)."""
    shift: int = 0
    """Training pictures are moved by up to this many pixels each way."""
    save_minutes: float = 5.0
    """Between checkpoints, by the clock; one is also written at the end and on Ctrl-C."""
    save_every: int = 0
    """Between checkpoints, by steps; 0 leaves it to the clock."""
    validate_every: int = 500
    """Between validations on held-out pairs; 0 never."""
    sample_every: int = 1000
    """Between sample grids; 0 never."""
    prompts: tuple[str, ...] = ("gold", "fish", "tree", "water", "sickness", "bird", "insect", "a small song bird")
    """What the sample grids draw."""
    self_check: bool = True
    """Overfit eight pairs before a long run, and say whether it worked."""
    init_from: str = ""
    """A model whose weights (alone) to start from."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run."""

    name: str = "unnamed"
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    network: NetworkConfig = NetworkConfig()
    space: SpaceConfig = SpaceConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    properties: tuple[Property, ...] = ()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = field(default_factory=TrainConfig)


RENAMED = {"train": {"save_steps": "save_every", "sample_steps": "sample_every", "validate_steps": "validate_every"}}
"""Old names of a recipe's keys, by section."""


def migrated(recipe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A recipe's plain values with today's names for its keys, and which old names stood there: old -> new.

    Raises `ZaoziError` where a key stands there under both of its names.
    """
    made, found = dict(recipe), dict[str, str]()
    for section, names in RENAMED.items():
        values = made.get(section)
        if not isinstance(values, Mapping):
            continue
        for old in names.keys() & values.keys():
            if names[old] in values:
                raise ZaoziError(f"'{section}.{old}' and '{section}.{names[old]}' are the same key; keep the second")
            found[f"{section}.{old}"] = f"{section}.{names[old]}"
        made[section] = {names.get(key, key): value for key, value in values.items()}
    return made, found


def from_dict(kind: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """A dataclass from plain values (as TOML and JSON give them), every key and type checked.

    Raises `ZaoziError` that names the key, with the nearest right one where it is unknown.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    made: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}{key}"
        if key not in fields:
            near = difflib.get_close_matches(str(key)[:80], fields, n=1, cutoff=0.0)
            raise ZaoziError(
                f"unknown key '{name[:80]}'; did you mean '{where}{near[0]}'? (known: {', '.join(fields)})"
            )
        made[key] = _value(hints[key], value, name)
    try:
        return kind(**made)
    except TypeError as error:
        raise ZaoziError(f"{where.rstrip('.') or kind.__name__}: {error}; add the missing key") from None


def _short(value: Any) -> str:
    """A value as it would be written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ZaoziError(f"'{name}' is a section; write it as [{name}]")
        return from_dict(hint, value, name + ".")
    if origin is Literal:
        if value not in args:
            near = difflib.get_close_matches(str(value)[:80], [str(a) for a in args], n=1, cutoff=0.0)
            raise ZaoziError(
                f"'{name}' is {_short(value)}; did you mean '{near[0]}'? (known: {', '.join(map(str, args))})"
            )
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ZaoziError(f"'{name}' is {_short(value)}; write a list")
        return tuple(_value(args[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    if origin in (typing.Union, types.UnionType):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ZaoziError(f"'{name}' is larger than any float; use a smaller number") from None
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ZaoziError(f"'{name}' is {_short(value)}; it must be {hint.__name__}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """The plain values of a dataclass, in the order of its fields; `from_dict` gives it back."""
    return dataclasses.asdict(config)
