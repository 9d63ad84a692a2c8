"""`zaozi font OUT.ttf --prompts FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from zaozi.cli.asked import read_prompts
from zaozi.cli.main import parse
from zaozi.core.config import Guidance, Sampling
from zaozi.core.errors import ZaoziError
from zaozi.core.outputs import file_output
from zaozi.core.progress import progress


def font(args: list[str]) -> None:
    parse(_font, args, "font")


def _font(
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.ttf")],
    /,
    prompts: Annotated[str, tyro.conf.arg(metavar="FILE")] = "",
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    count: int = 1,
    family: str = "Zaozi",
    steps: int = Sampling.steps,
    sampler: str = Sampling.sampler,
    guidance: float = Guidance.scale,
    seed: int = Sampling.seed,
    model: str = "base",
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Draw characters and make a font of them that can be installed, so that they can be typed, scaled and printed.

    Writes OUT.ttf (the characters from U+E000 on, in the Private Use Area), OUT.png, a proof sheet set in that font, and
    OUT.tsv, which says what stands where.

    Args:
        out: The font's file.
        prompts: A file of prompts, one a line.
        prompt: A prompt; may be repeated.
        count: Characters a prompt.
        family: The font's name.
        steps: Steps of the sampler, 1 to 1000.
        sampler: As for zaozi generate.
        guidance: Guidance scale.
        seed: Picture i depends on (seed, i, prompt) alone.
        model: A shipped name, or the folder of a model or training run.
        overwrite: Replace files of these names that zaozi did not write; without it they are refused.
    """
    from zaozi.guide.outlines import FIRST, LAST, proof_sheet, write_font
    from zaozi.pipeline import TextToImage

    wanted = [*prompt, *(read_prompts(Path(prompts)) if prompts else [])]
    if not wanted:
        raise ZaoziError("no prompt was given; give a file of them with --prompts, or --prompt gold")
    if out.suffix.lower() != ".ttf":
        raise ZaoziError(f"cannot write '{out.name}'; a font's name ends in .ttf")
    if len(wanted) * count > LAST + 1 - FIRST:
        raise ZaoziError(f"{len(wanted) * count} characters are too many; a font holds {LAST + 1 - FIRST}")
    inputs = [Path(prompts)] if prompts else []
    output = file_output(out, "font", ".png", ".tsv", overwrite=overwrite, inputs=inputs)
    output.check()
    artist = TextToImage.from_pretrained(model)
    drawn = artist.pictures(wanted, Sampling(steps, sampler, Guidance(guidance), seed), count=count)
    bar = progress(drawn, total=len(wanted) * count, desc="drawing", unit="glyph")
    texts, pictures = zip(*((wanted[p], picture) for p, _, picture in bar), strict=True)
    rows = [f"U+{FIRST + i:04X}\t{chr(FIRST + i)}\t{text}" for i, text in enumerate(texts)]
    with output.write() as work:
        made, sheet, table = (work / name for name in output.names)
        write_font(pictures, family, made)
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
        proof_sheet(made, texts).save(sheet)
    print(f"{len(texts)} characters: {', '.join(str(out.with_name(name)) for name in output.names)}")
