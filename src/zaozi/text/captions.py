"""Check which parts of captions and prompts an encoder can read, and report the rest."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from zaozi.core.errors import ZaoziError
from zaozi.core.progress import progress
from zaozi.text.encoders import TextEncoder

_CHUNK = 4096
"""Captions per tokenizer call."""
_SHOWN = 8
"""Maximum number of prompts with a separate warning."""


def _short(text: str) -> str:
    """Return a text in quotes, with the middle of long texts omitted."""
    return f"'{text}'" if len(text) <= 40 else f"'{text[:37]}...'"


@dataclass(frozen=True)
class CaptionReport:
    """Counts of captions that an encoder cannot fully read."""

    count: int
    """Number of captions."""
    cut: int
    """Captions with more than `max_tokens` tokens, which are truncated."""
    unknown: int
    """Captions with at least half of their words unknown to the encoder."""
    example_cut: str
    example_unknown: str
    max_tokens: int
    limit: int
    english: bool

    def lines(self) -> list[str]:
        """Return one line for truncated captions and one for unknown words, if any."""
        lines = []
        if self.cut:
            way = f"raise text.max_tokens (up to {self.limit})" if self.max_tokens < self.limit else "shorten them"
            lines.append(
                f"{self.cut} of {self.count} captions are longer than {self.max_tokens} tokens and are cut, "
                f"for instance {_short(self.example_cut)}; {way}"
            )
        if self.unknown:
            lines.append(
                f"{self.unknown} of {self.count} captions are mostly words that the encoder does not know"
                + (" (it reads English)" if self.english else "")
                + f", for instance {_short(self.example_unknown)}"
            )
        return lines


def caption_report(encoder: TextEncoder, captions: Sequence[str]) -> CaptionReport:
    """Count the captions that are truncated, and those of mostly unknown words (with a progress bar)."""
    times = Counter(captions)
    distinct = list(times)
    cut = unknown = 0
    example_cut = example_unknown = ""
    with progress(total=len(distinct), desc="checking captions", unit="caption") as bar:
        for start in range(0, len(distinct), _CHUNK):
            some = distinct[start : start + _CHUNK]
            for text, reading in zip(some, encoder.readings(some), strict=True):
                if reading.tokens > encoder.max_tokens:
                    cut += times[text]
                    example_cut = example_cut or text
                if reading.unknown and 2 * reading.unknown >= reading.words:
                    unknown += times[text]
                    example_unknown = example_unknown or text
            bar.update(len(some))
    return CaptionReport(
        count=len(captions),
        cut=cut,
        unknown=unknown,
        example_cut=example_cut,
        example_unknown=example_unknown,
        max_tokens=encoder.max_tokens,
        limit=encoder.limit,
        english=encoder.english,
    )


def check_prompts(encoder: TextEncoder, prompts: Sequence[str]) -> None:
    """Reject empty prompts, and warn about prompts that are truncated or have unknown words. Raises `ZaoziError`."""
    if not prompts:
        raise ZaoziError('no prompt was given; try: zaozi generate "gold"')
    for i, prompt in enumerate(prompts):
        if not prompt.strip():
            raise ZaoziError(f"prompt {i} is empty; say what to draw, for instance 'gold'")
        if any("\ud800" <= c <= "\udfff" for c in prompt):  # bytes that are not UTF-8, or a lone surrogate
            raise ZaoziError(f"prompt {_short(prompt)} is not valid text; write it as UTF-8")
    distinct = list(dict.fromkeys(prompts))
    cut, unknown = [], []
    for prompt, reading in zip(distinct, encoder.readings(distinct), strict=True):
        if reading.tokens > encoder.max_tokens:
            cut.append(
                f"the prompt {_short(prompt)} has {reading.tokens} tokens; only the first {encoder.max_tokens} are read"
            )
        if reading.unknown:
            which = f"{reading.unknown} of {reading.words} words of {_short(prompt)} are unknown to"
            unknown.append(f"the encoder reads English; {which} it" if encoder.english else f"{which} the encoder")
    warn_of(cut, "more prompts are cut")
    warn_of(unknown, "more prompts have unknown words")


def warn_of(lines: Sequence[str], more: str) -> None:
    """Issue one warning per line, and one with the number of further lines if there are many: '17 ' + `more`."""
    for line in lines[:_SHOWN]:
        warnings.warn(line, stacklevel=3)
    if len(lines) > _SHOWN:
        warnings.warn(f"{len(lines) - _SHOWN} {more}", stacklevel=3)
