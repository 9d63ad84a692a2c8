"""Latent space of a pretrained autoencoder in diffusers' format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Literal, Self

import torch
from torch import Tensor

from zaozi.core.components import SpaceConfig, spaces
from zaozi.core.config import config
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.noise import lent_generator
from zaozi.core.types import Shape
from zaozi.model.space import Pictures, Space, psnr, statistics
from zaozi.nn.diffusers import class_of_diffusers

CLASSES = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")
PROBE = 256
"""Side of the picture from which the latents' shape is found."""


@spaces.add
@config("space")
class DiffusersConfig(SpaceConfig):
    """Latents of an AutoencoderKL, AutoencoderTiny or AutoencoderDC (package diffusers), with pretrained weights."""

    kind: Literal["diffusers"] = "diffusers"
    path: str = ""
    """A local folder with config.json and weights, or a name on the hub (with --allow-download)."""
    subfolder: str = ""
    """A folder inside `path`, such as vae."""
    settings: str = ""
    """The autoencoder's own configuration, as JSON; filled in by training."""

    def filled(self) -> Self:
        """Return a copy with the autoencoder's configuration, so that the model can be loaded without `path`."""
        return self if self.settings else replace(self, settings=json.dumps(self._read(), sort_keys=True))

    def _read(self) -> dict[str, Any]:
        """Read config.json. Raises `ZaoziError` if it is missing or describes another class."""
        if not self.path:
            raise ZaoziError("space.path is missing; give the folder of an autoencoder, or its name on the hub")
        model = class_of_diffusers("AutoencoderKL")
        try:
            found = model.load_config(self.path, subfolder=self.subfolder or None, local_files_only=_local_only())
        except (OSError, ValueError) as error:
            raise ZaoziError(
                f"space.path '{self.path}' has no autoencoder ({str(error).splitlines()[0]}); give a folder with config.json, "
                "or pass --allow-download for a name on the hub"
            ) from None
        return {key: value for key, value in found.items() if key == "_class_name" or not key.startswith("_")}

    @property
    def own(self) -> dict[str, Any]:
        """The autoencoder's configuration. Raises `ZaoziError` if it is unknown."""
        try:
            made = json.loads(self.settings) if self.settings else self._read()
        except ValueError:
            raise ZaoziError("space.settings is not JSON; leave it empty") from None
        if not isinstance(made, dict) or made.get("_class_name") not in CLASSES:
            raise unknown("autoencoder", str(made.get("_class_name") if isinstance(made, dict) else made)[:40], CLASSES)
        return made

    @property
    def factor(self) -> int:
        """How many times smaller than a picture its latents are."""
        return PROBE // _latent_shape(self.own)[1]

    def shape(self, size: int, channels: int) -> Shape:
        latent, factor = _latent_shape(self.own)[0], self.factor
        if size % factor:
            raise ZaoziError(
                f"pictures of {size} pixels do not divide by the autoencoder's factor {factor}; use another size"
            )
        return latent, size // factor, size // factor

    def build(self, channels: int) -> Diffusers:
        return Diffusers(self, channels)


class Diffusers(Space):
    """encode: (z - shift) * scale with the autoencoder's own factors and the mode of its distribution, standardised per
    channel on the training split; decode is the inverse. Grey pictures are repeated for, and averaged from, three channels.
    """

    bounds = None
    cacheable = True

    def __init__(self, how: DiffusersConfig, channels: int) -> None:
        super().__init__()
        self.how, own = how, how.own
        self.network: Any = class_of_diffusers(own["_class_name"]).from_config(own)
        given = self.network.config
        if given.in_channels != channels and (channels, given.in_channels) != (1, 3):
            raise ZaoziError(f"the autoencoder reads {given.in_channels} channels, the pictures have {channels}")
        self.grey = channels == 1 and given.in_channels == 3
        self.scale = float(given.get("scaling_factor") or 1.0)
        self.shift = float(given.get("shift_factor") or 0.0)
        latent, _ = _latent_shape(own)
        self.register_buffer("mean", torch.zeros(latent, 1, 1))
        self.register_buffer("std", torch.ones(latent, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def encode(self, pictures: Tensor) -> Tensor:
        z = latents(self.network, pictures.expand(-1, 3, -1, -1) if self.grey else pictures)
        return ((z - self.shift) * self.scale - self.mean) / self.std

    def decode(self, x0: Tensor) -> Tensor:
        made: Tensor = self.network.decode((x0 * self.std + self.mean) / self.scale + self.shift).sample
        return (made.mean(1, keepdim=True) if self.grey else made).clamp(-1.0, 1.0)

    def fit(
        self,
        data: Pictures,
        *,
        seed: int = 0,
        drawn: Tensor | None = None,
        watch: Callable[[int, float], None] | None = None,
    ) -> str:
        """Load the pretrained weights, then compute the latents' mean and standard deviation per channel.

        Raises `ZaoziError` if the weights cannot be read.
        """
        how = self.how
        try:
            with lent_generator(seed):  # the network is initialised before its weights are read
                given = type(self.network).from_pretrained(
                    how.path, subfolder=how.subfolder or None, local_files_only=_local_only()
                )
        except (OSError, ValueError) as error:
            raise ZaoziError(f"the weights in {how.path} cannot be read ({str(error).splitlines()[0]})") from None
        self.network.load_state_dict(given.state_dict())
        self.eval().requires_grad_(False)
        mean, std = statistics(self.encode, data)
        self.mean.copy_(mean)
        self.std.copy_(std)
        return f"{type(self.network).__name__}: PSNR {psnr(self, data):.1f} dB on training pictures"


@cache
def _latent_shape_of(settings: str) -> tuple[int, int]:
    own = json.loads(settings)
    with torch.device("meta"), torch.no_grad():
        network = class_of_diffusers(own["_class_name"]).from_config(own)
        z = latents(network, torch.empty(1, network.config.in_channels, PROBE, PROBE))
    return int(z.shape[1]), int(z.shape[-1])


def _latent_shape(own: dict[str, Any]) -> tuple[int, int]:
    """Return channels and side of the latents of a picture of 256 pixels, without memory for weights."""
    return _latent_shape_of(json.dumps(own, sort_keys=True))


def latents(network: Any, pictures: Tensor) -> Tensor:
    """Return an autoencoder's own latents; of a distribution, its mode."""
    said = network.encode(pictures)
    if hasattr(said, "latent_dist"):
        mode: Tensor = said.latent_dist.mode()
        return mode
    return _first(said, "latents", "latent")


def _first(said: Any, *names: str) -> Tensor:
    found: Tensor = next(getattr(said, name) for name in names if hasattr(said, name))
    return found


def _local_only() -> bool:
    """Whether downloads are not allowed."""
    from zaozi.text.encoders import may_download

    return not may_download()
