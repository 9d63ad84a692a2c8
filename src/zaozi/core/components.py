"""The kinds of components and what each must offer. A component is one file: its configuration, its checks, its construction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from zaozi.core.config import Config, Range, config
from zaozi.core.registry import Configs, Registry
from zaozi.core.types import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


@config()
class Property(Config):
    """A condition beside the text: any column of the data. Each kind is one file of `zaozi.nn.properties`."""

    column: str
    """The column of the dataset that holds it."""
    kind: str = ""
    dropout: Annotated[float, Range(0, 1)] = 0.5
    """How often training hides it, on top of `train.property_dropout`, in [0, 1]."""

    def filled(self, values: Sequence[Any]) -> Self:
        """With what the column's `values` in the training split decide. Raises `ZaoziError` where they are not of the kind."""
        raise NotImplementedError

    def on_the_scale_of(self, known: Property) -> Self:
        """As a model already knows it, so that its weights still fit."""
        return self

    def tensor(self, values: Sequence[Any]) -> Tensor:
        """A column of the data as the network takes it, `[N]`; what is not known as `hidden`."""
        raise NotImplementedError

    @property
    def hidden(self) -> float:
        """The number that says that the property is not given."""
        raise NotImplementedError

    def asked(self, value: str | float) -> float:
        """What somebody asked for as the network's number. Raises `ZaoziError` for a value that it does not know."""
        raise NotImplementedError

    def knows(self, value: Any) -> bool:
        """Whether somebody may ask for a value."""
        return True

    def example(self) -> str | float:
        """A value to try it with."""
        raise NotImplementedError

    @property
    def span(self) -> tuple[float, float]:
        """Between which numbers a stranger's request may lie."""
        return -math.inf, math.inf

    def summary(self) -> str:
        """What it is, in a word or a number."""
        return self.kind

    def embedding(self, width: int) -> nn.Module:
        """The module that makes vectors `[B, width]` of numbers `[B]`, zero for `hidden`, and for all at initialisation."""
        raise NotImplementedError

    def take_over(self, own: dict[str, Tensor], known: Property, theirs: Mapping[str, Tensor]) -> bool:
        """Copy into `own`, the embedding's weights, what another model learned of the same property; False where nothing fits."""
        raise NotImplementedError


@dataclass(frozen=True)
class Conditions:
    """What a network is told beside the level: the width of the text encoder's states, and properties."""

    text_width: int
    properties: tuple[Property, ...] = ()


@config("network")
class NetworkConfig(Config):
    """The denoiser's network, by its `kind` or by the name of a `size`. Each kind is one file of `zaozi.nn`."""

    kind: str = ""

    def check(self, shape: Shape) -> None:
        """Raises `ZaoziError` where pictures of this shape, (C, h, w), do not fit, or would take too much memory."""

    def build(self, shape: Shape, conditions: Conditions) -> nn.Module:
        """The network F(x_t, u, cond), freshly initialised: pictures `[B, C, h, w]` and noise shares `[B]` -> `[B, C, h, w]`."""
        raise NotImplementedError

    @property
    def least_weights(self) -> int:
        """A number of weight tensors that such a network has at least; told before it is built."""
        return 1

    @property
    def is_random(self) -> bool:
        """Whether the network draws random numbers in training, as dropout does."""
        return True

    @classmethod
    def sizes(cls) -> dict[str, Self]:
        """Networks of this kind by name: `dit-small` and the like."""
        return {}


@config("space")
class SpaceConfig(Config):
    """Where diffusion happens: the pixels, or a smaller space that is decoded afterwards. Each is one file of
    `zaozi.model.spaces`."""

    kind: str = ""

    def shape(self, size: int, channels: int) -> Shape:
        """(C, h, w) of the space for square pictures. Raises `ZaoziError` for a size that does not fit."""
        return channels, size, size

    def build(self, channels: int) -> Any:
        """The `zaozi.model.space.Space`, freshly initialised."""
        raise NotImplementedError


@config("optim")
class OptimConfig(Config):
    """How the weights move, and at which rates over a run. Each kind is one file of `zaozi.train.optimisers`."""

    kind: str = ""
    lr: Annotated[float, Range(1e-12)] = 1e-3
    """AdamW's peak learning rate."""
    beta1: Annotated[float, Range(0, 0.9999)] = 0.9
    beta2: Annotated[float, Range(0, 0.99999)] = 0.95
    weight_decay: Annotated[float, Range(0)] = 0.0
    warmup: Annotated[int, Range(0)] = 200
    """Steps of linear warm-up."""
    flat: Annotated[float, Range(0, 1)] = 0.6
    """Share of the run after which the rates fall linearly."""
    final: Annotated[float, Range(0, 1)] = 0.02
    """The rates' last value as a share of the peak."""
    clip: Annotated[float, Range(1e-12)] = 1.0
    """Largest norm of the gradient."""

    def build(self, network: nn.Module) -> dict[str, Optimizer]:
        """Optimisers by name that share out the network's weights; each group's `lr` is its peak."""
        raise NotImplementedError


networks: Configs[NetworkConfig] = Configs("network", "zaozi.nn", "dit")
spaces: Configs[SpaceConfig] = Configs("space", "zaozi.model.spaces", "pixels")
properties: Configs[Property] = Configs("property", "zaozi.nn.properties", "class")
optimisers: Configs[OptimConfig] = Configs("optimiser", "zaozi.train.optimisers", "muon")
schedules: Registry[Callable[[], Any]] = Registry("schedule", "zaozi.diffusion")
predictions: Registry[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = Registry("prediction", "zaozi.diffusion")
samplers: Registry[Callable[..., Tensor]] = Registry("sampler", "zaozi.diffusion")
encoders: Registry[Callable[..., Any]] = Registry("text encoder", "zaozi.text")


def named_size(name: str) -> NetworkConfig:
    """The network of a named size. Raises `ZaoziError` that lists the known ones."""
    from zaozi.core.errors import unknown

    found = named_sizes()
    if name not in found:
        raise unknown("size", name, found)
    return found[name]


def named_sizes() -> dict[str, NetworkConfig]:
    """Networks of every kind by name."""
    return {name: network for kind in networks.values() for name, network in kind.sizes().items()}
