"""The bundled page: its folder, and the model of its figures. Cheap to import."""

from __future__ import annotations

import json
from pathlib import Path

from zaozi.core.files import sha256

SITE = Path(__file__).parent / "site"
BASE = SITE.parents[1] / "weights" / "base" / "model.safetensors"
"""Weights of the bundled model."""
EDITION = 6
"""Version of the figures; cached figures of an older version are redrawn."""
PAGES = ("index.html", "zh.html")
"""The page in each language."""
INDEX, DRAWN = "figures/index.json", "figures/drawn.json"
"""Metadata of each figure; and the figures' edition and model (SHA-256 of its weights)."""
COMPRESSED = frozenset((".css", ".html", ".js", ".json", ".mjs", ".onnx", ".svg", ".txt", ".wasm", ".xml"))
"""Suffixes of files that gzip makes smaller."""
LEAST, SMALL_ENOUGH = 1024, 2**23
"""Size range in bytes of files to compress; larger files are compressed when the page is packed, if at all."""


def shows(weights: Path) -> bool:
    """Whether the bundled figures were drawn with these weights."""
    try:
        drawn = json.loads((SITE / DRAWN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(drawn == {"edition": EDITION, "model": sha256(weights)})
