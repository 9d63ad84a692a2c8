"""`zaozi space fit RECIPE`."""

from __future__ import annotations

from pathlib import Path

from zaozi.cli.train import recipe_of

_HELP = """usage: zaozi space fit RECIPE [--out DIR] [--space.key VALUE ...] [--overwrite]

Fit the space of a recipe to its data, without training a denoiser, and write DIR/space.safetensors, DIR/space.json and
DIR/space.png: held-out pictures above what the space keeps of them. Training uses it with --train.space-from DIR.
"""


def fit(args: list[str]) -> None:
    recipe = recipe_of(args, "space fit", _HELP)
    if recipe is None:
        return
    from zaozi.evaluate.reconstruction import reconstruction, sheet
    from zaozi.model.fitted import save_space, space_output
    from zaozi.train.prepare import fitted_space

    output = space_output(Path(recipe.train.out), overwrite="--overwrite" in args)
    output.check()
    space, held_out, seconds = fitted_space(recipe)
    figures = reconstruction(space, held_out)
    save_space(output, space, recipe.space, {"seconds": round(seconds, 1), **figures}, sheet(space, held_out))
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(
        f"fitted in {seconds / 60:.1f} min: {output.folder / 'space.png'}; use it with --train.space-from {output.folder}"
    )
