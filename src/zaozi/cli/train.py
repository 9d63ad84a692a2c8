"""`zaozi train RECIPE.toml [--section.key value]`."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from zaozi.cli.main import parse
from zaozi.core.config import Recipe, from_dict, to_dict
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.sizes import SIZES

_SHORT = {
    "--max-minutes": "--train.max-minutes",
    "--init-from": "--train.init-from",
    "--out": "--train.out",
    "--steps": "--train.steps",
}

_HELP = """usage: zaozi train RECIPE.toml [--resume] [--max-minutes M] [--init-from MODEL] [--out DIR] [--section.key VALUE ...]

Train a recipe (a TOML file; recipes/ has some), or go on with it:
  --steps N            train for so many steps instead of to the recipe's clock
  --resume             go on from the last checkpoint in the recipe's folder
  --overwrite          replace files of a run's names that zaozi did not write
  --max-minutes M      train to a clock; the rates fall so as to end there   (= --train.max-minutes)
  --init-from MODEL    start from the weights of another model               (= --train.init-from)
  --out DIR            where the run goes                                    (= --train.out)
  --section.key VALUE  change any key of the recipe; all of them are below

Many devices: torchrun --nproc-per-node N -m zaozi train RECIPE.toml
"""


def read_recipe(path: Path) -> Recipe:
    """A recipe from its file. Raises `ZaoziError` for a missing or damaged file, or a key that is misspelt."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ZaoziError(f"{path} is missing; give a recipe, for instance recipes/glyphs-1h.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ZaoziError(f"{path} is not TOML ({error}); mend it") from None
    try:
        network = values.get("network")
        if isinstance(network, dict) and "size" in network:
            size = network.pop("size")
            if size not in SIZES:
                raise unknown("network.size", str(size), SIZES)
            values["network"] = to_dict(SIZES[size]) | network
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
        raise ZaoziError("the recipe comes first: zaozi train RECIPE.toml [--section.key value]")
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
