"""The sections of a recipe: model and training configuration."""

from __future__ import annotations

from dataclasses import field, replace
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
from zaozi.core.sampling import Guidance, Sampling


@config("data")
class DataConfig(Config):
    """The training dataset."""

    path: str = ""
    """A dataset folder from `zaozi data build`; empty for the built-in glyphs, built on first use."""
    size: Annotated[int, Range(8, 1024)] = 128
    """Width and height of the glyph pictures when built; your own dataset keeps its size."""
    undefined: bool = False
    """Also train on characters without a definition; the meaning of their radical is used as the caption."""


@config("text")
class TextConfig(Config):
    """The frozen text encoder for captions."""

    encoder: str = "minilm"
    """`minilm` (packaged; English only); `t5:` and the folder or hub name of a T5, mT5 or umT5; or `clip:` and that of a CLIP."""
    max_tokens: Annotated[int, Range(2, 512)] = 64
    """Maximum number of tokens per caption, from 2 up to the encoder's limit."""
    width: Annotated[int, Range(1, 16_384)] = 384
    """Channels of the encoder's states; set when training starts."""


@config("stage")
class StageConfig(Config):
    """A super-resolution stage, which enlarges the pictures of a smaller model (cascaded diffusion, arXiv:2106.15282)."""

    factor: Annotated[int, Range(1, 8)] = 1
    """How many times larger the pictures become; 1 for a model that draws from noise alone."""
    augmentation: Annotated[float, Range(0, 0.95)] = 0.5
    """Largest share of noise on the smaller picture in training; the network is told it."""
    noise: Annotated[float, Range(0, 0.95)] = 0.1
    """Share of noise on the smaller picture in sampling."""
    steps: Annotated[int, Range(1, 1000)] = 4
    """Steps in sampling."""
    crop: Annotated[int, Range(0, 1024)] = 64
    """Side of the crops on which the stage is trained, in pixels of its own size; 0 for whole pictures."""


@config("diffusion")
class DiffusionConfig(Config):
    """The diffusion process: noise schedule, prediction target, loss weighting."""

    schedule: Annotated[str, schedules] = "linear_path"
    """linear_path, cosine, linear, scaled_linear or sigmoid, the last four also with numbers, as in linear:0.0001:0.03:500."""
    prediction: Annotated[str, predictions] = "sample"
    weight: Literal["unit", "snr", "min_snr_5", "velocity"] = "velocity"
    times: Literal["uniform", "logit_normal"] = "logit_normal"
    times_mean: Annotated[float, Range(-100, 100)] = 0.8
    """Mean of logit(t / T) for `logit_normal`; larger values train more on noisy levels."""
    times_std: Annotated[float, Range(1e-6, 100)] = 0.8


@config("distilled")
class DistilledConfig(Config):
    """A model distilled to draw in few steps, with its teacher's guidance built in (arXiv:2202.00512, arXiv:2210.03142)."""

    steps: Annotated[int, Range(0, 1000)] = 0
    """Steps in which it draws on the uniform grid; 0 for a model that is not distilled."""
    guidance: Annotated[float, Range(0, 100)] = 1.0
    """Guidance of the undistilled model, which this one has learned."""
    model: str = ""
    """Name of the undistilled model."""
    sampler: Literal["ddim", "consistency"] = "ddim"
    """`consistency`: from each level of its grid it goes to the end in one step, so that it draws in fewer steps too."""
    path: Annotated[int, Range(0, 1000)] = 0
    """Steps in which the teacher of a consistency model draws, a multiple of its own; 0 for as many."""
    adversarial: Annotated[float, Range(0)] = 0.0
    """Weight of the adversarial loss in its training; 0 for none."""

    @property
    def is_consistent(self) -> bool:
        return self.sampler == "consistency"

    @property
    def teacher_steps(self) -> int:
        """Steps that its teacher makes from pure noise: for a consistency model `path` or as many, else twice as many."""
        return (self.path or self.steps) if self.is_consistent else 2 * self.steps

    def usual(self, how: Sampling = Sampling()) -> Sampling:
        """Return the settings with the steps, sampler, grid and guidance of the model; unchanged if it is not distilled."""
        if not self.steps:
            return how
        return replace(how, steps=self.steps, sampler=self.sampler, grid="uniform", guidance=Guidance(1.0))


@config("train")
class TrainConfig(Config):
    """The training run: duration, batch size, and intervals."""

    out: str = "runs/train"
    """Output folder of the run: checkpoints, logs and sample grids."""
    steps: Annotated[int, Range(1)] = 10_000
    """Optimiser steps; ignored if `max_minutes` is set."""
    max_minutes: Annotated[float, Range(0)] = 0.0
    """Time limit in minutes; the learning rate schedule ends there. 0 uses `steps`."""
    batch_size: Annotated[int, Range(1)] = 128
    """Pictures per optimiser step, over all processes and accumulation steps."""
    accumulate: Annotated[int, Range(1)] = 1
    """Gradient accumulation: forward passes per step in each process."""
    seed: Annotated[int, Range(0, 2**63)] = 0
    device: Literal["auto", "cpu"] = "auto"
    """`auto` uses GPUs if available."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on CUDA GPUs from Ampere on and CPUs with AMX or AVX512-BF16, else fp32."""
    compile: bool = False
    """Compile the network with torch.compile (needs a C++ compiler; worthwhile for long runs)."""
    text_dropout: Annotated[float, Range(0, 1)] = 0.1
    """Text dropout rate, which trains the unconditional model for guidance."""
    hint_rate: Annotated[float, Range(0, 1)] = 0.0
    """Rate at which a caption is replaced by one of its hints: other short texts for the picture, a list in the dataset's
    column `hints` (for a glyph, the meaning of its radical and each of its single senses).
    """
    text_noise: Annotated[float, Range(0)] = 0.0
    """Noise on the text in training, one vector per text, as a share of its states' root mean square."""
    balance: str = ""
    """A column for class balancing: rarer classes are sampled more often, in proportion to (rows of the class)^-balance_power."""
    balance_power: Annotated[float, Range(0, 1)] = 0.5
    property_dropout: Annotated[float, Range(0, 1)] = 0.5
    """Rate at which all properties of a picture are dropped together."""
    ema: Annotated[float, Range(0, 1)] = 0.9995
    """Decay of the averaged weights (EMA), after a warm-up of (1 + step) / (10 + step)."""
    shift: Annotated[int, Range(0)] = 0
    """Maximum random shift of training pictures in pixels, in each direction."""
    save_minutes: Annotated[float, Range(0)] = 5.0
    """Minutes between checkpoints; one is also written at the end and on Ctrl-C."""
    save_every: Annotated[int, Range(0)] = 0
    """Steps between checkpoints; 0 uses `save_minutes` only."""
    validate_every: Annotated[int, Range(0)] = 500
    """Steps between validations on held-out pairs; 0 disables them."""
    sample_every: Annotated[int, Range(0)] = 1000
    """Steps between sample grids; 0 disables them."""
    prompts: tuple[str, ...] = ("gold", "fish", "tree", "water", "sickness", "bird", "insect", "a small song bird")
    """Prompts for the sample grids."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    """Trackers in addition to log.jsonl; each needs its package."""
    self_check: bool = True
    """Overfit eight pairs before a long run, and report the result."""
    init_from: str = ""
    """A model to start from; only its weights are used. Its space is used if it has the same settings."""
    student_from: str = ""
    """In distillation, an earlier student whose weights are the start, instead of those of the teacher, `init_from`."""
    space_from: str = ""
    """A model, or the folder of `zaozi space fit`, whose space is used instead of fitting one."""
    drawn_by: str = ""
    """A model in the same space, from which the decoder also learns: it redraws some training pictures (takes minutes)."""

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
"""The properties of a model, one column each."""


@config()
class Recipe(Config):
    """The full configuration of a training run."""

    name: str = "unnamed"
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    network: Annotated[NetworkConfig, networks] = field(default_factory=networks.usual)
    space: Annotated[SpaceConfig, spaces] = field(default_factory=spaces.usual)
    diffusion: DiffusionConfig = DiffusionConfig()
    stage: StageConfig = StageConfig()
    distilled: DistilledConfig = DistilledConfig()
    properties: Properties = ()
    optim: Annotated[OptimConfig, optimisers] = field(default_factory=optimisers.usual)
    train: TrainConfig = field(default_factory=TrainConfig)


@config()
class ModelConfig(Config):
    """The configuration needed to build a model before loading its weights."""

    name: str
    size: Annotated[int, Range(8, 1024)]
    """Width and height of the final pictures."""
    channels: Literal[1, 3]
    """1 (grey) or 3 (RGB)."""
    network: Annotated[NetworkConfig, networks]
    space: Annotated[SpaceConfig, spaces]
    diffusion: DiffusionConfig
    text: TextConfig
    properties: Properties = ()
    stage: StageConfig = StageConfig()
    distilled: DistilledConfig = DistilledConfig()


@config("distillation")
class DistillConfig(Config):
    """How to distill a model."""

    guidance: Annotated[float, Range(0, 100)] = 4.0
    """Guidance of the undistilled model, which the students learn."""
    consistency: bool = False
    """At the end, train one more student that goes from each level of the last one to the end of the path in one step, and so
    draws in that many steps or fewer.
    """
    consistency_steps: Annotated[int, Range(0, 1000)] = 0
    """Levels of that student, a divisor of the last one's steps; 0 for as many. With fewer, each gets more of the training."""
    adversarial: Annotated[float, Range(0)] = 0.0
    """Weight of an adversarial loss for the last student, which compares its pictures with real ones and so sharpens them; 0 for
    none.
    """
    student_from: str = ""
    """An earlier student like the last one, whose weights that one starts from, instead of those of its teacher."""
    samples: Annotated[int, Range(0)] = 0
    """Training pictures per stage; 0 for 60,000, and 80,000 in the last one."""
    batch_size: Annotated[int, Range(0)] = 0
    """Pictures per optimiser step; 0 for as many as in the training of the model."""
    max_minutes: Annotated[float, Range(0)] = 0.0
    """Time limit in minutes, over all stages; 0 for none."""
    precision: Literal["auto", "fp32", "bf16", ""] = ""
    """Precision of the networks; by default as in the training of the model."""
    compile: bool = False
    """Compile the networks with torch.compile."""
    data: str = ""
    """A dataset folder; by default the one in the recipe of the model."""
    device: Literal["auto", "cpu"] = "auto"
