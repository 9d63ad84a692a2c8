"""Recipe files: TOML that may extend another recipe, and the recipes packaged with zaozi."""

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
from zaozi.core.registry import Configs
from zaozi.core.schema import migrated, renamed

SECTIONS: dict[str, Configs[Any]] = {"network": networks, "space": spaces, "optim": optimisers}
"""The sections of a recipe that have a kind."""
PACKAGED = Path(__file__).parents[1] / "recipes"
"""Folder of the packaged recipes."""


def packaged_recipes(inside: str = "") -> dict[str, Path]:
    """Return the packaged recipes by name, or those of a folder `inside`, from the installed package or the source repository."""
    folder = PACKAGED if PACKAGED.is_dir() else PACKAGED.parents[2] / "recipes"
    return {path.stem: path for path in sorted((folder / inside).glob("*.toml"))}


def find_recipe(path: Path) -> Path:
    """Return the recipe's file: `path` itself, or the packaged recipe of that name. Raises `ZaoziError` if neither exists."""
    known = packaged_recipes()
    if path.is_file():
        return path
    if str(path) in known:
        return known[str(path)]
    if path.exists():
        return path  # a folder or a pipe: handled on read
    if path.suffix or path.name != str(path):
        near = f"did you mean the packaged recipe '{path.stem}'?" if path.stem in known else "give a TOML file"
        raise ZaoziError(f"the recipe {path} is missing; {near} (packaged recipes: {', '.join(known)})")
    raise unknown("recipe", str(path), known)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from its file, or a packaged one by name.

    `extends = "base.toml"` inherits all unset values from another recipe: a file in the same folder, or a packaged recipe
    by name. Sections are merged key by key, except that a section with its own `kind` or `size` replaces the inherited
    one; lists are replaced.

    Raises `ZaoziError` if a file is missing or damaged, or a key is unknown.
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
    """Return the plain values of a recipe, including those it extends."""
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
    """Expand a network's `size` to its values."""
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
    """Return the recipe with another kind of `network`, `space` or `optim`, keeping the values of shared keys."""
    before, wanted = to_dict(getattr(recipe, section)), SECTIONS[section][kind]
    kept = {f.name: before[f.name] for f in fields(wanted) if f.name in before and f.name != "kind"}
    return replace(recipe, **{section: wanted(**kept)})


def with_size(recipe: Recipe, name: str) -> Recipe:
    """Return the recipe with the network of a named size."""
    return replace(recipe, network=named_size(name))
