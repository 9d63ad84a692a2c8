"""`zaozi push`: share a released model on the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import tyro


def push(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    to: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="USER/NAME")],
    /,
    private: tyro.conf.FlagCreatePairsOff[bool] = False,
    revision: Annotated[str, tyro.conf.arg(metavar="BRANCH")] = "",
    message: Annotated[str, tyro.conf.arg(metavar="TEXT")] = "",
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Upload a released model to the Hugging Face hub: the files that its record lists, and its card as README.md.

    Needs a token that may write (`hf auth login`). Anyone can then draw with `--model USER/NAME --allow-download`.

    Args:
        model: Name of a shipped model, or the folder of a released model.
        to: The repository; it is made if there is none.
        private: Make a new repository private.
        revision: The branch to push to, made if there is none; by default the main branch.
        message: The commit's message.
        overwrite: Replace files of the repository that zaozi did not write; by default this is an error.
    """
    from zaozi.model.push import Push
    from zaozi.model.push import push as upload

    print(upload(model, to, Push(private, revision, message, overwrite)))
