"""zaozi (造字): a text-to-image diffusion system to read, train and watch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Edit", "Guidance", "Sampling", "TextToImage", "ZaoziError", "__version__"]

if TYPE_CHECKING:
    from zaozi.core.errors import ZaoziError
    from zaozi.core.sampling import Guidance, Sampling
    from zaozi.pipeline import Edit, TextToImage

_HOMES = {
    "Edit": "zaozi.pipeline",
    "Guidance": "zaozi.core.sampling",
    "Sampling": "zaozi.core.sampling",
    "TextToImage": "zaozi.pipeline",
    "ZaoziError": "zaozi.core.errors",
}


def __getattr__(name: str) -> Any:
    """Import lazily on first use, so that `import zaozi` is cheap."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zaozi' has no attribute '{name}'")
