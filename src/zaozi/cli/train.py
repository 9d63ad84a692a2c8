"""`zaozi train RECIPE [--section.key value]`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zaozi.cli.main import parse
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import Recipe
from zaozi.core.schema import RENAMED
from zaozi.train.recipes import SECTIONS, read_recipe, with_kind, with_size

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
_KINDS = {f"--{section}.kind": section for section in SECTIONS}

_HELP = """usage: zaozi train RECIPE [--resume] [--max-minutes M] [--init-from MODEL] [--out DIR] [--section.key VALUE ...]

Train a recipe (a TOML file, or the name of a packaged one such as glyphs-1h), or resume it:
  --steps N            train for this number of steps instead of the recipe's time limit
  --resume             continue from the last checkpoint in the output folder
  --overwrite          overwrite files with the names of a run that zaozi did not write
  --max-minutes M      time limit; the learning rates decay to reach their end there   (= --train.max-minutes)
  --init-from MODEL    start from the weights of another model                         (= --train.init-from)
  --out DIR            output folder                                                   (= --train.out)
  --network.size NAME  a network by its named size, such as dit-small; --network.kind, --space.kind and --optim.kind
                       select another kind
  --section.key VALUE  change any key of the recipe; all keys are listed below

Several devices: torchrun --nproc-per-node N -m zaozi train RECIPE
"""


def train(args: list[str]) -> None:
    recipe = recipe_of(args, "train", _HELP)
    if recipe is None:
        return
    from zaozi.train.loop import train as train_run
    from zaozi.train.prepare import prepare

    run = prepare(recipe, resume="--resume" in args, overwrite="--overwrite" in args)
    train_run(run)
    if run.stopping:
        raise SystemExit(130)


def recipe_of(args: list[str], name: str, usage: str) -> Recipe | None:
    """Return the recipe in a command's arguments, with its changes; None if there is nothing but a request for help."""
    if not args or args[0] in ("-h", "--help"):
        print(usage)
        if args:
            parse(Recipe, ["--help"], name)
        return None
    if args[0].startswith("-"):
        raise ZaoziError(f"the recipe comes first: zaozi {name} RECIPE [--section.key value]")
    if "-h" in args or "--help" in args:
        print(usage)
    recipe = read_recipe(Path(args[0]))
    if any(a.split("=")[0] == "--steps" for a in args) and not any("max-minutes" in a for a in args):
        recipe = replace(recipe, train=replace(recipe.train, max_minutes=0.0))  # steps replace the limit
    recipe, rest = _chosen(recipe, args[1:])
    made: Recipe = parse(Recipe, rest, name, default=recipe)
    return made


def _chosen(recipe: Recipe, args: list[str]) -> tuple[Recipe, list[str]]:
    """Return the recipe with the kinds and size from the command line, and the other arguments by their long names."""
    rest, left = [], [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    while left:
        arg = left.pop(0)
        if arg in _KINDS and left:
            recipe = with_kind(recipe, _KINDS[arg], left.pop(0))
        elif arg == "--network.size" and left:
            recipe = with_size(recipe, left.pop(0))
        elif arg not in ("--resume", "--overwrite"):
            rest.append(_SHORT.get(arg, arg))
    return recipe, rest
