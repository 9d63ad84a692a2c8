"""Component types and their interfaces. A component is one file with its configuration, validation and construction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from zaozi.core.config import Config, Range, config
from zaozi.core.errors import unknown
from zaozi.core.registry import Configs, Families, Registry
from zaozi.core.types import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


@config()
class Property(Config):
    """A condition other than text: any column of the dataset. Each kind is one file of `zaozi.nn.properties`."""

    column: str
    """Name of the dataset column."""
    kind: str = ""
    dropout: Annotated[float, Range(0, 1)] = 0.5
    """Dropout rate of this property in training, in addition to `train.property_dropout`, in [0, 1]."""

    def filled(self, values: Sequence[Any]) -> Self:
        """Return a copy fitted to the column's `values` in the training split. Raises `ZaoziError` if their type is wrong."""
        raise NotImplementedError

    def on_the_scale_of(self, known: Property) -> Self:
        """Return a copy with the scale of an existing model, to keep its weights valid."""
        return self

    def tensor(self, values: Sequence[Any]) -> Tensor:
        """Convert a column to the network's input, `[N]`; unknown values become `hidden`."""
        raise NotImplementedError

    @property
    def hidden(self) -> float:
        """The number that means the property is not given."""
        raise NotImplementedError

    def asked(self, value: str | float) -> float:
        """Convert a requested value to the network's number. Raises `ZaoziError` if the value is unknown."""
        raise NotImplementedError

    def knows(self, value: Any) -> bool:
        """Whether a value can be requested."""
        return True

    def example(self) -> str | float:
        """Return an example value."""
        raise NotImplementedError

    @property
    def span(self) -> tuple[float, float]:
        """Return the range of numbers allowed in untrusted requests."""
        return -math.inf, math.inf

    def summary(self) -> str:
        """Return a short description: a word or a number."""
        return self.kind

    def embedding(self, width: int) -> nn.Module:
        """Build the module that maps numbers `[B]` to vectors `[B, width]`, zero for `hidden`, and for all at initialisation."""
        raise NotImplementedError

    def take_over(self, own: dict[str, Tensor], known: Property, theirs: Mapping[str, Tensor]) -> bool:
        """Copy another model's weights for the same property into `own`, the embedding's weights; False if nothing fits."""
        raise NotImplementedError


@dataclass(frozen=True)
class Conditions:
    """The network's conditions other than the level: the width of the text encoder's states, and properties."""

    text_width: int
    properties: tuple[Property, ...] = ()
    lower_channels: int = 0
    """Channels of the smaller picture that a super-resolution stage enlarges; 0 for other models."""


@config("network")
class NetworkConfig(Config):
    """The denoiser's network, selected by `kind` or by a named `size`. Each kind is one file of `zaozi.nn`."""

    kind: str = ""

    def check(self, shape: Shape) -> None:
        """Raises `ZaoziError` if pictures of this shape, (C, h, w), do not fit, or would need too much memory."""

    def build(self, shape: Shape, conditions: Conditions) -> nn.Module:
        """Build the network F(x_t, u, cond), initialised: pictures `[B, C, h, w]` and noise shares `[B]` -> `[B, C, h, w]`."""
        raise NotImplementedError

    @property
    def least_weights(self) -> int:
        """Return a lower bound on the number of weight tensors, without building the network."""
        return 1

    @property
    def reads_text(self) -> bool:
        """Whether the output depends on the text; if not, pictures need no prompt."""
        return True

    @property
    def is_imported(self) -> bool:
        """Whether its first weights come from elsewhere, under a licence of their own."""
        return False

    @property
    def is_random(self) -> bool:
        """Whether the network uses random numbers in training, such as for dropout."""
        return True

    @classmethod
    def sizes(cls) -> dict[str, Self]:
        """Return the named networks of this kind, such as `dit-small`."""
        return {}


@config("space")
class SpaceConfig(Config):
    """The space in which diffusion runs: pixels, or a smaller space that is decoded afterwards. Each is one file of
    `zaozi.model.spaces`.
    """

    kind: str = ""

    def shape(self, size: int, channels: int) -> Shape:
        """Return the shape (C, h, w) of the space for square pictures. Raises `ZaoziError` if the size does not fit."""
        return channels, size, size

    def filled(self) -> Self:
        """Return a copy with everything that is needed to load a trained model on another machine."""
        return self

    def build(self, channels: int) -> Any:
        """Build the `zaozi.model.space.Space`, freshly initialised."""
        raise NotImplementedError


@config("optim")
class OptimConfig(Config):
    """The optimiser and its learning rates over a run. Each kind is one file of `zaozi.train.optimisers`."""

    kind: str = ""
    lr: Annotated[float, Range(1e-12)] = 1e-3
    """Peak learning rate of AdamW."""
    beta1: Annotated[float, Range(0, 0.9999)] = 0.9
    beta2: Annotated[float, Range(0, 0.99999)] = 0.95
    weight_decay: Annotated[float, Range(0)] = 0.0
    warmup: Annotated[int, Range(0)] = 200
    """Steps of linear warm-up."""
    flat: Annotated[float, Range(0, 1)] = 0.6
    """Share of the run after which the learning rates decay linearly."""
    final: Annotated[float, Range(0, 1)] = 0.02
    """Final learning rates, as a share of the peak."""
    clip: Annotated[float, Range(1e-12)] = 1.0
    """Maximum gradient norm; larger gradients are clipped."""

    def build(self, network: nn.Module) -> dict[str, Optimizer]:
        """Return optimisers by name, which together cover the network's weights; each group's `lr` is its peak."""
        raise NotImplementedError


networks: Configs[NetworkConfig] = Configs("network", "zaozi.nn", "dit")
spaces: Configs[SpaceConfig] = Configs("space", "zaozi.model.spaces", "pixels")
properties: Configs[Property] = Configs("property", "zaozi.nn.properties", "class")
optimisers: Configs[OptimConfig] = Configs("optimiser", "zaozi.train.optimisers", "muon")
schedules: Families[Any] = Families("schedule", "zaozi.diffusion")
predictions: Registry[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = Registry("prediction", "zaozi.diffusion")
samplers: Registry[Callable[..., Tensor]] = Registry("sampler", "zaozi.diffusion")
encoders: Registry[Callable[..., Any]] = Registry("text encoder", "zaozi.text")


def named_size(name: str) -> NetworkConfig:
    """Return the network of a named size. Raises `ZaoziError` listing the known sizes."""
    found = named_sizes()
    if name not in found:
        raise unknown("size", name, found)
    return found[name]


def named_sizes() -> dict[str, NetworkConfig]:
    """Return the named networks of all kinds."""
    return {name: network for kind in networks.values() for name, network in kind.sizes().items()}
