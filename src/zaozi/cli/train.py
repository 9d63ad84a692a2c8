"""`zaozi train RECIPE [--section.key value]`."""

from __future__ import annotations

import tomllib
import warnings
from dataclasses import replace
from pathlib import Path

from zaozi.cli.main import parse
from zaozi.core.config import RENAMED, Recipe, from_dict, migrated, to_dict
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.sizes import SIZES

_SHORT = {
    "--max-minutes": "--train.max-minutes",
    "--init-from": "--train.init-from",
    "--out": "--train.out",
    "--steps": "--train.steps",
    **{
        f"--{section}.{old}".replace("_", "-"): f"--{section}.{new}".replace("_", "-")
        for section, names in RENAMED.items()
        for old, new in names.items()
    },
}

PACKAGED = Path(__file__).parents[1] / "recipes"
"""The recipes that an installed zaozi carries."""

_HELP = """usage: zaozi train RECIPE [--resume] [--max-minutes M] [--init-from MODEL] [--out DIR] [--section.key VALUE ...]

Train a recipe (a TOML file, or the name of a packaged one such as glyphs-1h), or go on with it:
  --steps N            train for so many steps instead of to the recipe's clock
  --resume             go on from the last checkpoint in the recipe's folder
  --overwrite          replace files of a run's names that zaozi did not write
  --max-minutes M      train to a clock; the rates fall so as to end there   (= --train.max-minutes)
  --init-from MODEL    start from the weights of another model               (= --train.init-from)
  --out DIR            where the run goes                                    (= --train.out)
  --section.key VALUE  change any key of the recipe; all of them are below

Many devices: torchrun --nproc-per-node N -m zaozi train RECIPE
"""


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

    Raises `ZaoziError` for a missing or damaged file, or a key that is misspelt.
    """
    path = find_recipe(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ZaoziError(f"{path} is not TOML ({error}); fix it") from None
    try:
        network = values.get("network")
        if isinstance(network, dict) and "size" in network:
            size = network.pop("size")
            if size not in SIZES:
                raise unknown("network.size", str(size), SIZES)
            values["network"] = to_dict(SIZES[size]) | network
        values, old = migrated(values)
        for name, new in sorted(old.items()):
            warnings.warn(f"{path}: '{name}' is now called '{new}'; the old name still works", stacklevel=2)
        return from_dict(Recipe, values)
    except ZaoziError as error:
        raise ZaoziError(f"{path}: {error}") from None


def train(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        print(_HELP)
        if args:
            parse(Recipe, ["--help"], "train")
        return
    if args[0].startswith("-"):
        raise ZaoziError("the recipe comes first: zaozi train RECIPE [--section.key value]")
    if "-h" in args or "--help" in args:
        print(_HELP)
    recipe = read_recipe(Path(args[0]))
    if any(a.split("=")[0] == "--steps" for a in args) and not any("max-minutes" in a for a in args):
        recipe = replace(recipe, train=replace(recipe.train, max_minutes=0.0))  # who counts steps means it
    rest = [
        _SHORT.get(a.split("=")[0], a.split("=")[0]) + a[len(a.split("=")[0]) :]
        for a in args[1:]
        if a not in ("--resume", "--overwrite")
    ]
    recipe = parse(Recipe, rest, "train", default=recipe)

    from zaozi.train.loop import Trainer

    trainer = Trainer(recipe, resume="--resume" in args, overwrite="--overwrite" in args)
    trainer.run()
    if trainer.stopping:
        raise SystemExit(130)
