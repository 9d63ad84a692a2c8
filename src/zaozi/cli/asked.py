"""Parse command line values: prompts, weights, properties and start pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from zaozi.core.errors import ZaoziError
from zaozi.core.sampling import Sampling
from zaozi.data.pictures import KEPT, half_mask

Settings = TypeVar("Settings", bound=Any)


def read_prompts(path: Path) -> list[str]:
    """Return the prompts in a file, one per line, without blank lines. Raises `ZaoziError`."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ZaoziError(
            f"cannot read prompts from {path} ({error}); give a text file with one prompt per line"
        ) from None
    found = [line for line in found if line]
    if not found:
        raise ZaoziError(f"{path} has no prompt; write one per line")
    return found


def as_distilled(settings: Settings, args: Sequence[str]) -> Settings:
    """Return a command's settings, `model` and `sampling`, with the steps, sampler, grid and guidance of a distilled model
    wherever `args` do not give them.
    """
    from zaozi.model.checkpoint import find_model, read_distilled

    how: Sampling = settings.sampling
    usual = read_distilled(find_model(settings.model)).usual(how)
    given = {re.split(r"[.=]", arg.removeprefix("--"))[0] for arg in args if arg.startswith("--")}
    names = ("steps", "sampler", "grid", "guidance")
    changes = {name: getattr(usual, name) for name in names if name not in given}
    return replace(settings, sampling=replace(how, **changes))


def composition(parts: tuple[str, ...]) -> dict[str, float]:
    """Return the texts and weights of `TEXT=WEIGHT` arguments; the default weight is 1. Raises `ZaoziError` if one is invalid."""
    made: dict[str, float] = {}
    for part in parts:
        text, sign, weight = part.rpartition("=")
        name = (text if sign else part).strip()
        try:
            made[name] = made.get(name, 0.0) + (float(weight) if sign else 1.0)
        except ValueError:
            raise ZaoziError(
                f"--compose '{part}' has no number after '='; for instance --compose \"fire=0.7\""
            ) from None
    return made


def asked_properties(
    pairs: Sequence[str], *, structure: str = "", strokes: int = 0, radical: str = "", pinyin: str = ""
) -> dict[str, str | float]:
    """Return the requested properties, from NAME=VALUE pairs and options. Raises `ZaoziError` if one is invalid."""
    made: dict[str, str | float] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name or not value:
            raise ZaoziError(f"property '{pair}' is not NAME=VALUE; for instance --property structure=left-right")
        made[name.strip()] = value.strip()
    if structure:
        made["structure"] = structure
    if strokes < 0:
        raise ZaoziError(f"strokes {strokes} is out of range; use 1 or more")
    if strokes:
        made["strokes"] = float(strokes)
    if radical:
        from zaozi.data.unihan import radical_forms

        numbers = (int(radical),) if radical.isdecimal() else radical_forms().get(radical, ())
        if not numbers:
            raise ZaoziError(
                f"'{radical}' is not a radical; give one of the 214 as a character, such as 金, or its number"
            )
        made["radical"] = str(numbers[0])
    if pinyin:
        made |= syllable(pinyin)
    return made


def syllable(reading: str) -> dict[str, str]:
    """Return the properties of a reading; the tone is a digit or a mark: 'yang2' or 'yáng'. Raises `ZaoziError`."""
    from zaozi.data.unihan import split_pinyin

    digits = re.fullmatch(r"([a-zü:v]+)([1-5])", reading.casefold())
    initial, final, tone = split_pinyin(
        (digits[1] if digits else reading.casefold()).replace("v", "ü").replace("u:", "ü")
    )
    if not final.isalpha():
        raise ZaoziError(f"'{reading}' is not a reading; give one syllable, such as yang, yang2 or yáng")
    made = {"pinyin_final": final}
    if digits or tone < 5:
        made["tone"] = digits[2] if digits else str(tone)
    return made | ({"pinyin_initial": initial} if initial else {})


def picture_to_start_from(init: str, size: int) -> Image.Image:
    """Return the picture in a file, or one character drawn with the font. Raises `ZaoziError`."""
    if len(init) == 1:
        from zaozi.data.font import default_font, glyph

        return glyph(init, default_font(), size)
    from zaozi.data.pictures import open_picture

    if not os.path.isfile(init):
        raise ZaoziError(
            f"cannot open the picture {init} (it is not there); give a file, such as a PNG or JPEG, or one character"
        )
    return open_picture(Path(init), size)


def mask_of(keep: str, size: int) -> Image.Image:
    """Return a mask, white where pixels are kept, from a side or a picture (transparent means not kept). Raises `ZaoziError`."""
    if keep not in KEPT:
        if not Path(keep).is_file():
            raise ZaoziError(
                f"--keep {keep} is neither a side nor a file; use left, right, top, bottom or a mask's file"
            )
        return picture_to_start_from(keep, size)
    return half_mask(keep, size)
