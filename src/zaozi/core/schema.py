"""Versions of saved configurations: a model's `config.json` and a run's `recipe.json` contain their version.

Each version has one function that converts the values of the previous version.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from zaozi.core.config import from_dict, to_dict
from zaozi.core.errors import ZaoziError

C = TypeVar("C")
SCHEMA = 2
KEY = "schema"
RENAMED = {"train": {"save_steps": "save_every", "sample_steps": "sample_every", "validate_steps": "validate_every"}}
"""Keys of version 1 that were renamed, by section."""
_IGNORED: dict[str, dict[str, tuple[str, ...]]] = {
    "network": {"dit": ("multipliers", "attention_levels"), "unet": ("cross_every",)},
    "space": {"pixels": ("width", "steps")},
    "optim": {"adamw": ("muon_lr",)},
    "properties": {"class": ("mean", "std"), "number": ("values",)},
}
"""Keys that version 1 had in a section for every kind, even if some kinds did not use them."""
_DEFAULTS = {"network": "dit", "space": "pixels", "optim": "muon", "properties": "class"}
"""Kinds of version 1 for sections without one; a later change of a default does not change them."""


def renamed(values: dict[str, Any]) -> list[str]:
    """Rename the keys of a recipe to their current names, in place; returns the changes, one line each.

    Raises `ZaoziError` if a key is present under both names.
    """
    said = []
    for section, names in RENAMED.items():
        part = values.get(section)
        if not isinstance(part, dict):
            continue
        for old, new in names.items():
            if old in part and new in part:
                raise ZaoziError(f"'{section}.{old}' and '{section}.{new}' are the same key; keep the second")
            if old in part:
                part[new] = part.pop(old)
                said.append(f"'{section}.{old}' is now called '{section}.{new}'; the old name still works")
    return said


def to_2(values: dict[str, Any]) -> list[str]:
    """Convert from version 1, in which every kind had the keys of all kinds, and the network the text width. In place.

    Returns the changes to user-written values, one line each. Raises `ZaoziError` if a key is present under both names.
    """
    said = renamed(values)
    network, text = values.get("network"), values.setdefault("text", {})
    if isinstance(network, dict):
        for key in ("channels", "text_width"):
            found = network.pop(key, None)
            if found is not None and key == "text_width" and isinstance(text, dict):
                text.setdefault("width", found)
            if found is not None and key in values and values[key] != found:
                raise ZaoziError(f"channels {values[key]} and network.channels {found} must be the same")
    for section, kinds in _IGNORED.items():
        parts = values.get(section)
        for part in parts if isinstance(parts, (list, tuple)) else [parts]:
            if not isinstance(part, dict):
                continue
            kind = part.get("kind", _DEFAULTS[section])
            for key in kinds.get(kind, ()) if isinstance(kind, str) else ():
                if part.pop(key, None) is not None:
                    said.append(f"'{section}.{key}' has no effect for '{kind}'; remove it")
    return said


_MIGRATIONS: dict[int, Callable[[dict[str, Any]], list[str]]] = {1: to_2}


def migrated(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a configuration's plain values in the current version, and the changes, one line each. The default version is 1.

    Raises `ZaoziError` if this zaozi does not support the version.
    """
    made = {key: copy.deepcopy(value) for key, value in values.items()}
    version = made.pop(KEY, 1)
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= SCHEMA:
        raise ZaoziError(f"schema {str(version)[:40]} is unknown here (known: 1 to {SCHEMA}); update zaozi")
    said: list[str] = []
    for number in range(version, SCHEMA):
        said += _MIGRATIONS[number](made)
    return made, said


def read(kind: type[C], values: Mapping[str, Any]) -> C:
    """Read a configuration from the output of `written`, in this version or an earlier one. Raises `ZaoziError`."""
    return from_dict(kind, migrated(values)[0])


def written(config: Any) -> dict[str, Any]:
    """Return the plain values of a configuration with their version."""
    return {KEY: SCHEMA, **to_dict(config)}
