"""`zaozi font OUT.ttf --prompts FILE`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zaozi.cli.asked import read_prompts
from zaozi.core.errors import ZaoziError
from zaozi.core.outputs import file_output
from zaozi.core.progress import progress
from zaozi.core.sampling import Sampling


@dataclass(frozen=True)
class Font:
    """Draw characters and package them as an installable font.

    Writes OUT.ttf (characters from U+E000, in the Private Use Area), OUT.png (a proof sheet set in the font) and
    OUT.tsv (the prompt for each code point).
    """

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.ttf")]
    """The font file to write."""
    prompts: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A file of prompts, one per line."""
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A prompt; may be repeated."""
    count: int = 1
    """Characters per prompt."""
    family: str = "Zaozi"
    """Font name."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = Sampling()
    """Sampling; --guidance 5 is short for --guidance.scale 5."""
    model: str = "base"
    """Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the Hugging Face hub."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Overwrite existing files of these names that zaozi did not write; by default this is an error."""


def font(s: Font) -> None:
    """Draw the characters and write the font. Raises `ZaoziError`."""
    from zaozi.media.outlines import FIRST, LAST, proof_sheet, write_font
    from zaozi.pipeline import TextToImage

    wanted = [*s.prompt, *(read_prompts(Path(s.prompts)) if s.prompts else [])]
    if not wanted:
        raise ZaoziError("no prompt was given; give a file of them with --prompts, or --prompt gold")
    if s.out.suffix.lower() != ".ttf":
        raise ZaoziError(f"cannot write '{s.out.name}'; a font's name ends in .ttf")
    if len(wanted) * s.count > LAST + 1 - FIRST:
        raise ZaoziError(f"{len(wanted) * s.count} characters are too many; a font holds {LAST + 1 - FIRST}")
    inputs = [Path(s.prompts)] if s.prompts else []
    output = file_output(s.out, "font", ".png", ".tsv", overwrite=s.overwrite, inputs=inputs)
    output.check()
    artist = TextToImage.from_pretrained(s.model)
    drawn = artist.pictures(wanted, s.sampling, count=s.count)
    bar = progress(drawn, total=len(wanted) * s.count, desc="drawing", unit="glyph")
    texts, pictures = zip(*((wanted[p], picture) for p, _, picture in bar), strict=True)
    rows = [f"U+{FIRST + i:04X}\t{chr(FIRST + i)}\t{text}" for i, text in enumerate(texts)]
    with output.write() as work:
        made, sheet, table = (work / name for name in output.names)
        write_font(pictures, s.family, made)
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
        proof_sheet(made, texts).save(sheet)
    print(f"{len(texts)} characters: {', '.join(str(s.out.with_name(name)) for name in output.names)}")
