"""The page that the package holds: its folder, and which model its figures were drawn with. Light to import."""

from __future__ import annotations

import json
from pathlib import Path

from zaozi.core.files import sha256

SITE = Path(__file__).parent / "site"
BASE = SITE.parents[1] / "weights" / "base" / "model.safetensors"
"""The weights of the model that the package holds."""
EDITION = 3
"""Of the figures; those kept on disk from an older one are drawn again."""
INDEX, DRAWN = "figures/index.json", "figures/drawn.json"
"""What the page is to know of each figure; and the edition and the model (the SHA-256 of its weights) that they show."""
COMPRESSED = frozenset((".css", ".html", ".js", ".json", ".mjs", ".onnx", ".svg", ".txt", ".wasm", ".xml"))
"""Kinds of files that gzip makes smaller."""
LEAST, SMALL_ENOUGH = 1024, 2**23
"""Bytes of files that are compressed: fewer are not worth it, and more are compressed when the page is packed, or not."""


def shows(weights: Path) -> bool:
    """Whether the shipped figures were drawn with the model of these weights."""
    try:
        drawn = json.loads((SITE / DRAWN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(drawn == {"edition": EDITION, "model": sha256(weights)})
