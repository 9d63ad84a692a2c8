"""Errors that a user can fix: one line with the problem and the solution."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class ZaoziError(Exception):
    """An error in user input; the message is one line and says how to fix it."""


def unknown(kind: str, name: str, known: Iterable[str]) -> ZaoziError:
    """Return the error for an unknown name, with the closest known name first.

    >>> str(unknown("sampler", "ddmp", ["ddim", "ddpm"]))
    "unknown sampler 'ddmp'; did you mean 'ddpm'? (known: ddim, ddpm)"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return ZaoziError(f"unknown {kind} '{name}'{hint} (known: {', '.join(names)})")


def printable(text: str) -> str:
    r"""A text that is safe to print on a terminal and to write as UTF-8, on one line.

    Control characters (escape sequences, line ends), invisible formatting characters (which can reverse the text around them)
    and bytes of file names that are not UTF-8 become backslash escapes. Letters of any script stay as they are.

    >>> print(printable("caf\udce9 \x1b[31mred 金"))
    caf\udce9 \x1b[31mred 金
    """
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in text)


def _harmless(c: str) -> bool:
    if " " <= c <= "~" or c in "\u200c\u200d":  # the two joiners are used in the spelling of some scripts and in emoji
        return True
    return unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
