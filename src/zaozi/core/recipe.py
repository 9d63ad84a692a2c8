"""What a model is made of and how it is trained: the sections of a recipe."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import AfterValidator

from zaozi.core.components import (
    NetworkConfig,
    OptimConfig,
    Property,
    SpaceConfig,
    networks,
    optimisers,
    predictions,
    properties,
    schedules,
    spaces,
)
from zaozi.core.config import Config, Length, Range, config
from zaozi.core.errors import ZaoziError


@config("data")
class DataConfig(Config):
    """Which pictures and captions."""

    path: str = ""
    """A folder that `zaozi data build` wrote; empty means the flagship glyphs, built when first needed."""
    size: Annotated[int, Range(8, 1024)] = 128
    """Side of the flagship glyphs when they are built; a folder of your own already has its size."""
    undefined: bool = False
    """Train on the flagship's characters without a definition, too; their caption is what their radical means."""


@config("text")
class TextConfig(Config):
    """The frozen language model that reads the captions."""

    encoder: str = "minilm"
    """`minilm` (packaged; it reads English), or `t5:` and the folder or hub name of a T5, mT5 or umT5."""
    max_tokens: Annotated[int, Range(2, 512)] = 64
    """Tokens kept of a caption, from 2 up to the encoder's limit."""
    width: Annotated[int, Range(1, 16_384)] = 384
    """Channels of the encoder's states; filled in when training starts."""


@config("diffusion")
class DiffusionConfig(Config):
    """The mathematics of training: which noise, which prediction, which weight."""

    schedule: Annotated[str, schedules] = "linear_path"
    prediction: Annotated[str, predictions] = "sample"
    weight: Literal["unit", "snr", "min_snr_5", "velocity"] = "velocity"
    times: Literal["uniform", "logit_normal"] = "logit_normal"
    times_mean: Annotated[float, Range(-100, 100)] = 0.8
    """Of logit(t / T) under `logit_normal`; larger trains more on noisy levels."""
    times_std: Annotated[float, Range(1e-6, 100)] = 0.8


@config("train")
class TrainConfig(Config):
    """The run: how long, how large, how often it looks up."""

    out: str = "runs/train"
    """Folder of the run: checkpoints, logs and sample grids."""
    steps: Annotated[int, Range(1)] = 10_000
    """Optimiser steps; with `max_minutes` the clock decides instead."""
    max_minutes: Annotated[float, Range(0)] = 0.0
    """Train to a clock: the rates fall so as to end there. 0 counts steps."""
    batch_size: Annotated[int, Range(1)] = 128
    """Pictures an optimiser step, over all processes and accumulations."""
    accumulate: Annotated[int, Range(1)] = 1
    """Forward passes into which each process splits its share of a batch."""
    seed: Annotated[int, Range(0, 2**63)] = 0
    device: Literal["auto", "cpu"] = "auto"
    """`auto` takes the GPUs where there are any."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on CUDA GPUs from Ampere on and CPUs with AMX or AVX512-BF16, else fp32."""
    compile: bool = False
    """Fuse the network with torch.compile (needs a C++ compiler; pays on long runs)."""
    text_dropout: Annotated[float, Range(0, 1)] = 0.1
    """How often a picture's text is hidden, so that guidance has an unconditional twin."""
    hint_rate: Annotated[float, Range(0, 1)] = 0.0
    """How often a picture is told one of its hints in place of its caption: other short texts that fit it, a list in the
    dataset's column `hints` (of a glyph, what its radical means and each of its senses alone)."""
    text_noise: Annotated[float, Range(0)] = 0.0
    """Noise on the text in training, one vector a text, as a share of its states' root mean square."""
    balance: str = ""
    """A column whose rarer classes are seen more often, in proportion to (rows of the class)^-balance_power."""
    balance_power: Annotated[float, Range(0, 1)] = 0.5
    property_dropout: Annotated[float, Range(0, 1)] = 0.5
    """How often all properties of a picture are hidden together."""
    ema: Annotated[float, Range(0, 1)] = 0.9995
    """Decay of the averaged weights, reached after a warm-up of (1 + step) / (10 + step)."""
    shift: Annotated[int, Range(0)] = 0
    """Training pictures are moved by up to this many pixels each way."""
    save_minutes: Annotated[float, Range(0)] = 5.0
    """Between checkpoints, by the clock; one is also written at the end and on Ctrl-C."""
    save_every: Annotated[int, Range(0)] = 0
    """Between checkpoints, by steps; 0 leaves it to the clock."""
    validate_every: Annotated[int, Range(0)] = 500
    """Between validations on held-out pairs; 0 never."""
    sample_every: Annotated[int, Range(0)] = 1000
    """Between sample grids; 0 never."""
    prompts: tuple[str, ...] = ("gold", "fish", "tree", "water", "sickness", "bird", "insect", "a small song bird")
    """What the sample grids draw."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    """Where the log goes beside log.jsonl; each needs its package."""
    self_check: bool = True
    """Overfit eight pairs before a long run, and say whether it worked."""
    init_from: str = ""
    """A model whose weights (alone) to start from."""

    def __post_init__(self) -> None:
        if self.sample_every and not self.prompts:
            raise ZaoziError("train.prompts is empty; give some, or train.sample_every = 0")


def _distinct(found: tuple[Property, ...]) -> tuple[Property, ...]:
    if len({p.column for p in found}) < len(found):
        raise ZaoziError("a property is listed twice; keep one of each column")
    if len({p.column.replace(".", "_") for p in found}) < len(found):
        raise ZaoziError("two properties' columns differ only in '.' and '_'; rename one")
    return found


Properties = Annotated[tuple[Annotated[Property, properties], ...], Length(0, 1000), AfterValidator(_distinct)]
"""The properties of a model, each of a column of its own."""


@config()
class Recipe(Config):
    """Everything that decides a training run."""

    name: str = "unnamed"
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    network: Annotated[NetworkConfig, networks] = field(default_factory=networks.usual)
    space: Annotated[SpaceConfig, spaces] = field(default_factory=spaces.usual)
    diffusion: DiffusionConfig = DiffusionConfig()
    properties: Properties = ()
    optim: Annotated[OptimConfig, optimisers] = field(default_factory=optimisers.usual)
    train: TrainConfig = field(default_factory=TrainConfig)


@config()
class ModelConfig(Config):
    """Everything needed to build a model before its weights are read."""

    name: str
    size: Annotated[int, Range(8, 1024)]
    """Side of the finished pictures."""
    channels: Literal[1, 3]
    """1 (grey) or 3 (RGB)."""
    network: Annotated[NetworkConfig, networks]
    space: Annotated[SpaceConfig, spaces]
    diffusion: DiffusionConfig
    text: TextConfig
    properties: Properties = ()
