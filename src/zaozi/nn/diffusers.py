"""U-Nets of the package diffusers, with their own weights and their own idea of time and text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from zaozi.core.components import Conditions, NetworkConfig, networks
from zaozi.core.config import Range, config
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.types import Cond, Shape
from zaozi.diffusion.schedules import schedule

TEXTLESS = "UNet2DModel"
TEXTUAL = "UNet2DConditionModel"
CLASSES = (TEXTLESS, TEXTUAL)
NEAR = 0.02
"""How far from a whole number a timestep counts as that number: u is float32, and so is the interpolation."""
MOST = 64
"""Most levels of a U-Net, layers of a level, and transformer layers of a block."""
_UNSUPPORTED = (
    "class_embed_type",
    "num_class_embeds",
    "addition_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
    "dual_cross_attention",
)


@networks.add
@config("network")
class DiffusersConfig(NetworkConfig):
    """A UNet2DModel or UNet2DConditionModel (package diffusers); `zaozi import` makes it."""

    kind: Literal["diffusers"] = "diffusers"
    settings: str = ""
    """The U-Net's own configuration, as JSON."""
    timesteps: str = "linear"
    """The schedule whose timesteps the network was trained with, such as scaled_linear:0.00085:0.012."""
    empty_tokens: Annotated[int, Range(1, 512)] = 1
    """Tokens of the empty text, which stands for no text."""

    @cached_property
    def own(self) -> dict[str, Any]:
        """The U-Net's configuration. Raises `ZaoziError` if it is missing, damaged or not supported."""
        try:
            made = json.loads(self.settings)
        except (ValueError, RecursionError):
            raise ZaoziError("network.settings is not JSON; use the network of an imported model") from None
        check_supported(made)
        return made

    @cached_property
    def logsnrs(self) -> list[float]:
        """The log-SNR of each timestep. Raises `ZaoziError` if the schedule has no timesteps."""
        path = schedule(self.timesteps)
        if path.alpha_bar is None:
            raise ZaoziError(
                f"network.timesteps '{self.timesteps}' has no timesteps; use linear, cosine or another table"
            )
        return [float(value) for value in path.logsnrs]

    @property
    def reads_text(self) -> bool:
        return bool(self.own["_class_name"] == TEXTUAL)

    @property
    def is_imported(self) -> bool:
        return True

    @property
    def is_random(self) -> bool:
        return bool(self.own.get("dropout"))

    @property
    def least_weights(self) -> int:
        return len(self._levels) * min(_flat(self.own.get("layers_per_block", 1)))

    @property
    def _levels(self) -> list[Any]:
        """The channels of each level."""
        return list(_flat(self.own.get("block_out_channels", [0] * 4)))

    def check(self, shape: Shape) -> None:
        channels, height, width = shape
        reads = self.own.get("in_channels", 4 if self.reads_text else 3)
        if channels != reads:
            raise ZaoziError(f"the U-Net reads {reads} channels, the space has {channels}; use its own space")
        stride = 2 ** (len(self._levels) - 1)
        if height % stride or width % stride:
            raise ZaoziError(f"a picture of {width}x{height} does not fit; use sides divisible by {stride}")

    def build(self, shape: Shape, conditions: Conditions) -> UNetOfDiffusers:
        if conditions.properties or conditions.lower_channels:
            raise ZaoziError("a network of kind 'diffusers' takes no properties and is no stage; remove them")
        return UNetOfDiffusers(self, conditions.text_width)


class UNetOfDiffusers(nn.Module):
    """F(x_t, u, cond): pictures `[B, C, h, w]` and the noise share u `[B]` in [0, 1] -> `[B, C, h, w]`.

    The U-Net gets the timestep k in [0, N - 1] whose log-SNR in its own schedule is 2 log((1 - u) / u), interpolated. A row
    without text gets the states of the empty text, which are part of the weights (zeros until they are filled).
    """

    def __init__(self, how: DiffusersConfig, text_width: int) -> None:
        super().__init__()
        own = how.own
        self.reads_text = how.reads_text
        width = own.get("cross_attention_dim", 1280)
        if self.reads_text and width != text_width:
            raise ZaoziError(
                f"the U-Net reads text states of {width} channels, not {text_width}; use its own text encoder"
            )
        try:
            self.network: Any = class_of_diffusers(own["_class_name"]).from_config(own)
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
            line = (str(error) or type(error).__name__).splitlines()[0]
            raise ZaoziError(
                f"the U-Net cannot be built ({line[:120]}); use the network of an imported model"
            ) from None
        logsnr = torch.tensor(how.logsnrs, dtype=torch.float64)
        self.register_buffer("logsnr", logsnr[:-1].float(), persistent=False)
        self.register_buffer("fall", -logsnr.diff().float(), persistent=False)
        if self.reads_text:
            self.register_buffer("empty", torch.zeros(how.empty_tokens, text_width))
        self.logsnr: Tensor
        self.fall: Tensor
        self.empty: Tensor

    def timestep(self, u: Tensor) -> Tensor:
        """Return the U-Net's timesteps for noise shares, float32 `[B] -> [B]`: whole numbers where they are nearly so.

        Between log-SNRs L_k the timestep is linear: k(l) = sum over j of clamp((L_j - l) / (L_j - L_{j+1}), 0, 1).
        """
        u = u.float()
        logsnr = 2.0 * torch.log((1.0 - u) / u)
        k = ((self.logsnr - logsnr[:, None]) / self.fall).clamp(0.0, 1.0).sum(-1)  # (B,)
        whole = k.round()
        return torch.where((k - whole).abs() < NEAR, whole, k)

    def forward(self, x: Tensor, u: Tensor, cond: Cond) -> Tensor:
        k = self.timestep(u)
        if not self.reads_text:
            return self.network(x, k).sample
        rows, length, _ = cond.tokens.shape
        given = cond.mask.reshape(rows, length)  # an exported graph has one symbol for each size then
        absent = ~given.any(1, keepdim=True)  # (B, 1)
        tokens = torch.cat([cond.tokens.to(x), self.empty.to(x).expand(rows, -1, -1)], dim=1)  # (B, L + E, D)
        mask = torch.cat([given, absent.expand(-1, self.empty.shape[0])], dim=1)  # (B, L + E)
        seen, k = x.reshape(rows, *x.shape[1:]), k.reshape(rows)
        return self.network(seen, k, encoder_hidden_states=tokens, encoder_attention_mask=mask).sample


def class_of_diffusers(name: str) -> Any:
    """Return a class of diffusers, which is imported only when needed."""
    import diffusers

    return getattr(diffusers, name)


def check_supported(own: Any) -> None:
    """Raises `ZaoziError` if this is not the configuration of a U-Net of noise level and text alone."""
    name = own.get("_class_name") if isinstance(own, dict) else own
    if name not in CLASSES:
        raise unknown("U-Net", str(name)[:40], CLASSES)
    for key in _UNSUPPORTED:
        if own.get(key) not in (None, False):
            raise ZaoziError(
                f"a U-Net with {key} is not supported; use one conditioned on the noise level and text only"
            )
    for key, wanted in (("time_embedding_type", "positional"), ("attention_type", "default")):
        if own.get(key, wanted) != wanted:
            raise ZaoziError(f"a U-Net with {key} '{str(own[key])[:40]}' is not supported; use one with '{wanted}'")
    if not isinstance(own.get("cross_attention_dim", 0), int):
        raise ZaoziError(
            "a U-Net with several values of cross_attention_dim is not supported; use one with a single value"
        )
    usual = 4 if name == TEXTUAL else 3
    reads, gives = (own.get(key, usual) for key in ("in_channels", "out_channels"))
    if reads != gives:
        raise ZaoziError(f"a U-Net from {reads} to {gives} channels is not supported; use one with as many out as in")
    for key, most in (
        ("block_out_channels", 2**16),
        ("layers_per_block", MOST),
        ("transformer_layers_per_block", MOST),
    ):
        counts = list(_flat(own.get(key, 1)))
        if not 0 < len(counts) <= MOST or not all(type(n) is int and 0 < n <= most for n in counts):
            raise ZaoziError(f"the U-Net's {key} is out of range; use up to {MOST} whole numbers, 1 to {most}")


def _flat(value: Any) -> Iterator[Any]:
    """Yield the values of a list of lists of any depth, or a value that is none."""
    if not isinstance(value, (list, tuple)):
        yield value
        return
    for part in value:
        yield from _flat(part)
