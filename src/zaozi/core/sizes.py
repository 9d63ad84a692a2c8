"""Networks by name: a recipe says `size = "dit-small"`, and any key beside it changes that one."""

from __future__ import annotations

from zaozi.core.config import NetworkConfig

SIZES: dict[str, NetworkConfig] = {
    "dit-tiny": NetworkConfig(kind="dit", width=64, depth=2, head_width=32),
    "dit-small": NetworkConfig(kind="dit", width=192, depth=6),
    "dit-base": NetworkConfig(kind="dit", width=256, depth=8),
    "unet-tiny": NetworkConfig(
        kind="unet", width=32, depth=1, head_width=32, multipliers=(1, 2), attention_levels=(1,)
    ),
    "unet-small": NetworkConfig(kind="unet", width=48, depth=1, head_width=48, patch=4),
    "unet-base": NetworkConfig(kind="unet", width=64, depth=2, patch=4),
}
