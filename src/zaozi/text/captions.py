"""What an encoder can read of captions and prompts, and what to say where it cannot."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from zaozi.core.errors import ZaoziError
from zaozi.core.progress import progress
from zaozi.text.encoders import TextEncoder

_CHUNK = 4096
"""Captions tokenized at a time."""
_SHOWN = 8
"""Prompts of which each gets a warning of its own."""


def _short(text: str) -> str:
    """A text in quotes, its middle left out where it is long."""
    return f"'{text}'" if len(text) <= 40 else f"'{text[:37]}...'"


@dataclass(frozen=True)
class CaptionReport:
    """What an encoder does not read of some captions."""

    count: int
    """All captions."""
    cut: int
    """Those with more than `max_tokens` tokens: the rest of such a caption is never read."""
    unknown: int
    """Those of whose words at least half are unknown to the encoder."""
    example_cut: str
    example_unknown: str
    max_tokens: int
    limit: int
    english: bool

    def lines(self) -> list[str]:
        """One line for captions that are cut and one for unknown words, where there are any."""
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
    """How many captions the encoder cuts, and how many are mostly words unknown to it (with a progress bar)."""
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
    """Refuse empty prompts, and warn of those that will be cut or have words unknown to the encoder. Raises `ZaoziError`."""
    if not prompts:
        raise ZaoziError('no prompt was given; try: zaozi generate "gold"')
    for i, prompt in enumerate(prompts):
        if not prompt.strip():
            raise ZaoziError(f"prompt {i} is empty; say what to draw, for instance 'gold'")
        if any("\ud800" <= c <= "\udfff" for c in prompt):  # bytes that are not UTF-8, or half of a surrogate pair
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
    """One warning a line, and one that counts the rest where there are many: '17 ' + `more`."""
    for line in lines[:_SHOWN]:
        warnings.warn(line, stacklevel=3)
    if len(lines) > _SHOWN:
        warnings.warn(f"{len(lines) - _SHOWN} {more}", stacklevel=3)
