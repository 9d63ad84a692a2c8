"""Recipes as files: TOML that may extend another recipe, and the ones that zaozi carries."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from zaozi.core.components import named_size, networks, optimisers, spaces
from zaozi.core.config import from_dict, to_dict
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.recipe import Recipe
from zaozi.core.schema import migrated, renamed

PACKAGED = Path(__file__).parents[1] / "recipes"
"""The recipes that an installed zaozi carries."""


def packaged_recipes() -> dict[str, Path]:
    """The recipes that zaozi carries, by name: those of the installed package, or of the repository it runs from."""
    folder = PACKAGED if PACKAGED.is_dir() else PACKAGED.parents[2] / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(path: Path) -> Path:
    """The recipe's file: `path` itself, or the packaged recipe of that name. Raises `ZaoziError` where there is neither."""
    known = packaged_recipes()
    if path.is_file():
        return path
    if str(path) in known:
        return known[str(path)]
    if path.exists():
        return path  # a folder or a pipe: reading it tells
    if path.suffix or path.name != str(path):
        near = f"did you mean the packaged recipe '{path.stem}'?" if path.stem in known else "give a TOML file"
        raise ZaoziError(f"the recipe {path} is missing; {near} (packaged recipes: {', '.join(known)})")
    raise unknown("recipe", str(path), known)


def read_recipe(path: Path) -> Recipe:
    """A recipe from its file, or a packaged one by its name.

    `extends = "base.toml"` takes all that the recipe does not say itself from another one: a file beside it, or a packaged
    one by its name. Sections are merged key by key, but for one that names its own `kind` or `size`, which starts afresh; a
    list replaces the other's.

    Raises `ZaoziError` for a missing or damaged file, or a key that is misspelt.
    """
    path = find_recipe(path)
    values = _read(path, ())
    try:
        values, changes = migrated(values)
        recipe = from_dict(Recipe, values)
    except ZaoziError as error:
        raise ZaoziError(f"{path}: {error}") from None
    for line in changes:
        warnings.warn(f"{path}: {line}", stacklevel=2)
    return recipe


def _read(path: Path, extended: tuple[Path, ...]) -> dict[str, Any]:
    """The plain values of a recipe and of those that it extends."""
    if path.resolve() in extended:
        raise ZaoziError(f"{path} extends itself; remove 'extends' from one of the recipes")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ZaoziError(f"{path} is not TOML ({error}); fix it") from None
    base = values.pop("extends", None)
    try:
        values = _sized(values)
        changes = renamed(values)
    except ZaoziError as error:
        raise ZaoziError(f"{path}: {error}") from None
    for line in changes:
        warnings.warn(f"{path}: {line}", stacklevel=3)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ZaoziError(f"{path}: 'extends' is {base!r}; give the name of one recipe")
    beside = path.parent / base
    return _merged(_read(beside if beside.is_file() else find_recipe(Path(base)), (*extended, path.resolve())), values)


def _sized(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with a network's `size` written out."""
    network = values.get("network")
    if not isinstance(network, Mapping) or "size" not in network:
        return dict(values)
    rest = {key: value for key, value in network.items() if key != "size"}
    return {**values, "network": to_dict(named_size(str(network["size"]))) | rest}


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(base)
    for key, value in own.items():
        former = made.get(key)
        merges = isinstance(value, Mapping) and isinstance(former, Mapping) and "kind" not in value
        made[key] = {**former, **value} if merges else value  # type: ignore[dict-item]
    return made


def with_kind(recipe: Recipe, section: str, kind: str) -> Recipe:
    """The recipe with another kind of `network`, `space` or `optim`, which keeps the values of the keys that both have."""
    registry: Any = {"network": networks, "space": spaces, "optim": optimisers}[section]
    before, wanted = to_dict(getattr(recipe, section)), registry[kind]
    kept = {f.name: before[f.name] for f in fields(wanted) if f.name in before and f.name != "kind"}
    return replace(recipe, **{section: wanted(**kept)})


def with_size(recipe: Recipe, name: str) -> Recipe:
    """The recipe with the network of a named size."""
    return replace(recipe, network=named_size(name))
