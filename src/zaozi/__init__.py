"""zaozi (造字): a text-to-image diffusion system to read, train and watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["TextToImage", "ZaoziError", "__version__"]

if TYPE_CHECKING:
    from zaozi.core.errors import ZaoziError
    from zaozi.pipeline import TextToImage


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import zaozi` costs nothing."""
    if name == "TextToImage":
        from zaozi.pipeline import TextToImage

        return TextToImage
    if name == "ZaoziError":
        from zaozi.core.errors import ZaoziError

        return ZaoziError
    raise AttributeError(f"module 'zaozi' has no attribute '{name}'")
