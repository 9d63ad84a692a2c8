"""Validation of prompts and properties, and their conversion to conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zaozi.core.arrays import Device, Tensor, on
from zaozi.core.components import Property
from zaozi.core.errors import ZaoziError, unknown
from zaozi.text.captions import check_prompts, warn_of
from zaozi.text.encoders import TextEncoder

Prompt = str | Mapping[str, float]
"""A text, or several weighted texts: {"fire": 1.0, "sickness": 0.7}."""


def property_values(
    known: Sequence[Property], asked: Mapping[str, str | float], count: int, device: Device | str | None = "cpu"
) -> dict[str, Tensor]:
    """Convert requested properties to condition tensors `[count]`, or NumPy arrays if `device` is None.

    Raises `ZaoziError` for an unknown name or value.
    """
    by_name = {p.column: p for p in known}
    made = {}
    for name, value in asked.items():
        if name not in by_name:
            raise unknown("property", name, by_name)
        number = by_name[name].asked(value)
        made[name] = on(np.full(count, number, np.int64 if isinstance(number, int) else np.float32), device)
    return made


def halfway(a: str, b: str, share: float) -> Prompt:
    """Return the composed prompt at fraction `share` between a (0) and b (1)."""
    return a if a == b else {a: 1.0 - share, b: share}


def in_english(encoder: TextEncoder, text: str) -> dict[str, str]:
    """Map the Chinese characters of a text to their Unihan definitions, for an encoder that reads only English.

    Returns {} for any other text or encoder, and if Unihan is not installed.

    >>> from zaozi.text.encoders import load_encoder
    >>> in_english(load_encoder(), "\u7ea2 \u732b")
    {'\u7ea2': 'red', '\u732b': 'cat'}
    """
    if not encoder.english or text.isascii():
        return {}
    from zaozi.data.unihan import glossed

    try:
        return glossed(text)
    except ZaoziError:  # the data packages are an optional extra
        return {}


def check_texts(encoder: TextEncoder, prompts: Sequence[Prompt], may_be_empty: bool) -> None:
    """Like `check_prompts`, but also supports composed prompts. Empty prompts are allowed if `may_be_empty`.

    Raises `ZaoziError` if a prompt is invalid.
    """
    if not prompts:
        check_prompts(encoder, [])
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, (str, Mapping)):
            raise ZaoziError(
                f"prompt {i} is a {type(prompt).__name__}; give one text, or texts with weights such as {{'fire': 1.0}}, per call"
            )
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not texts:
            raise ZaoziError(f"prompt {i} is empty; compose at least one text, for instance {{'fire': 1.0}}")
        bad = None if isinstance(prompt, str) else next((w for w in prompt.values() if not np.isfinite(w)), None)
        if bad is not None:
            raise ZaoziError(f"weight {bad} of prompt {i} is not a number; use for instance 0.7, or -1 to push away")
        if not may_be_empty and any(not text.strip() for text in texts):
            raise ZaoziError(f"prompt {i} is empty; say what to draw, for instance 'gold'")
    flat = dict.fromkeys(t for p in prompts for t in ([p] if isinstance(p, str) else p) if t.strip())
    glosses = {text: in_english(encoder, text) for text in flat}
    warn_of(
        [
            f"Chinese is read by definition ({'; '.join(f'{c}: {meant}' for c, meant in gloss.items())})"
            for gloss in glosses.values()
            if gloss
        ],
        "more prompts are read by definition",
    )
    if flat:
        check_prompts(encoder, [", ".join(gloss.values()) or text for text, gloss in glosses.items()])
