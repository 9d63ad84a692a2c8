"""Errors a user can mend: one line that names what is wrong and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZaoziError(Exception):
    """A mistake in what the user gave; the message is one line and names the mend."""


def unknown(kind: str, name: str, known: Iterable[str]) -> ZaoziError:
    """The error for a name that is not in a list, with the nearest right one first.

    >>> str(unknown("sampler", "ddmp", ["ddim", "ddpm"]))
    "unknown sampler 'ddmp'; did you mean 'ddpm'? (known: ddim, ddpm)"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return ZaoziError(f"unknown {kind} '{name}'; {hint}(known: {', '.join(names)})")
