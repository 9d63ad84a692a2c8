"""`zaozi invert PICTURE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from zaozi.cli.asked import picture_to_start_from
from zaozi.core.sampling import Guidance


def invert(
    picture: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PICTURE")],
    /,
    prompt: str = "",
    edit: str = "",
    steps: int = 50,
    guidance: float = Guidance.scale,
    model: str = "base",
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("out/inverted.png"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Find the noise that produces a picture, redraw the picture from it, and optionally draw another prompt from it.

    Writes one picture: the input, its reconstruction, and with --edit the result for the other prompt.

    Args:
        picture: A file, or one character.
        prompt: What the picture shows; optional.
        edit: Also draw this prompt from the same noise.
        steps: Steps in each direction.
        guidance: Guidance scale for --edit; inversion and reconstruction use none.
        model: Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the hub.
        out: The picture to write.
        overwrite: Overwrite an existing file that zaozi did not write; by default this is an error.
    """
    import numpy as np

    from zaozi.data.sheet import contact_sheet, picture_output
    from zaozi.pipeline import TextToImage, from_picture, to_pictures

    output = picture_output(out, "inverted", overwrite=overwrite, inputs=[Path(picture)])
    output.check()
    artist = TextToImage.from_pretrained(model)
    config = artist.model.config
    given = from_picture(picture_to_start_from(picture, config.size), config.size, config.channels)
    shown = to_pictures(given)
    start = artist.invert(shown[0], prompt, num_steps=steps)
    plain = Guidance(1.0 if prompt else 0.0, threshold="none")
    shown += artist(prompt, count=1, num_steps=steps, sampler="ddim", guidance=plain, start=start)
    if edit:
        shown += artist(edit, count=1, num_steps=steps, sampler="ddim", guidance_scale=guidance, start=start)
    words = ["given, drawn again from its noise", *([f"and for '{edit}'"] if edit else [])]
    with output.write() as work:
        contact_sheet([shown], [", ".join(words)]).save(work / out.name)
    away = np.abs(np.asarray(shown[0], np.float64) - np.asarray(shown[1], np.float64)).mean() / 255
    print(f"{out}: the way there and back changed the picture by {away:.2%} of the range on average")
