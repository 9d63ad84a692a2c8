"""`zaozi generate PROMPT...`"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Annotated, Any

import tyro
from PIL import Image
from torch import Tensor

from zaozi import __version__
from zaozi.cli.main import parse
from zaozi.core.errors import ZaoziError


def generate(args: list[str]) -> None:
    parse(_generate, args, "generate")


def folder_name(number: int, prompt: str) -> str:
    """'007-a-small-song-bird': the prompt's number and its letters and digits, at most 40 of them."""
    letters = re.sub(r"\W+", "-", prompt.casefold()).strip("-_")[:40].strip("-")
    return f"{number:03d}-{letters or 'prompt'}"


def read_prompts(path: Path) -> list[str]:
    """One prompt a line, blank lines left out. Raises `ZaoziError`."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ZaoziError(f"cannot read prompts from {path} ({error}); give a text file, one prompt a line") from None
    found = [line for line in found if line]
    if not found:
        raise ZaoziError(f"{path} has no prompt; write one a line")
    return found


def _given(pairs: list[str]) -> dict[str, str]:
    made = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name or not value:
            raise ZaoziError(f"property '{pair}' is not NAME=VALUE; for instance --property structure=left-right")
        made[name.strip()] = value.strip()
    return made


def _clear(out: Path) -> None:
    """Remove what an earlier run wrote there (its run.json lists it), so that a folder holds one run."""
    try:
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        earlier = [str(name) for name in record["files"]] if "sampler" in record else []
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in earlier:
        if re.fullmatch(r"\d{3,}-[^/\\]+/\d+\.png|sheet\.png", name):
            path = out / name
            path.unlink(missing_ok=True)
            if path.parent != out and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()


def _generate(
    prompt: Annotated[tyro.conf.Positional[list[str]], tyro.conf.arg(metavar="PROMPT")] = [],  # noqa: B006
    /,
    prompts: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    count: int = 8,
    steps: int = 20,
    sampler: str = "dpmpp-2m",
    guidance: float = 5.0,
    seed: int = 0,
    model: str = "base",
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out"),
    grid: str = "uniform",
    eta: float = 0.0,
    property: tyro.conf.UseAppendAction[list[str]] = [],  # noqa: B006
    batch_size: int = 16,
    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    columns: int = 8,
    device: str = "",
) -> None:
    """Draw pictures for prompts: DIR/000-gold/0.png ..., a contact sheet DIR/sheet.png, and DIR/run.json.

    Args:
        prompt: What to draw, in quotes; as many as you like.
        prompts: A file of prompts, one a line.
        count: Pictures a prompt.
        steps: Steps of the sampler, 1 to 1000.
        sampler: ddpm, ddim, euler, heun, dpmpp-2m, dpmpp-2m-sde, dpmpp-sde or unipc.
        guidance: Guidance scale; 1 is none, 5 is usual, more is truer and less varied.
        seed: Picture i depends on (seed, i, prompt) alone.
        model: A shipped name, or the folder of a model or training run.
        out: Where to.
        grid: Which levels are visited: uniform, trailing, logsnr or karras.
        eta: Fresh noise in ddim, 0 (none) to 1 (as ddpm).
        property: What else to ask for, as NAME=VALUE (zaozi model info lists them); may be repeated.
        batch_size: Pictures drawn at a time.
        video: A film of the first prompt's pictures forming (.mp4, .gif or .webp).
        columns: Pictures in a row of the contact sheet.
        device: cpu, cuda or mps; a GPU where there is one unless told.
    """
    start = time.monotonic()
    wanted = [*prompt, *(read_prompts(prompts) if prompts else [])]
    if not wanted:
        raise ZaoziError('no prompt was given; try: zaozi generate "gold"')
    if columns < 1:
        raise ZaoziError(f"columns {columns} is out of range; use 1 or more")
    if video:
        from zaozi.guide.video import check_suffix

        check_suffix(video)
    given = _given(property)

    from tqdm import tqdm

    from zaozi.core.files import sha256, write_json
    from zaozi.data.sheet import contact_sheet
    from zaozi.model.checkpoint import WEIGHTS, find_model
    from zaozi.pipeline import TextToImage

    artist = TextToImage.from_pretrained(model, device=device or None)
    steps_in_all = -(-len(wanted) * count // max(batch_size, 1)) * steps
    frames: list[tuple[int, Tensor]] = []
    made: list[list[Image.Image]] = [[] for _ in wanted]
    files: list[str] = []
    with tqdm(total=steps_in_all, desc="drawing", unit="step", delay=2, leave=False) as bar:

        def watch(t: float, x: Tensor, x0: Tensor, eps: Tensor) -> None:
            bar.update()
            if video and len(made[0]) < count:
                frames.append((len(made[0]), x[: count - len(made[0])].cpu()))

        stream = artist.pictures(
            wanted,
            count=count,
            num_steps=steps,
            guidance_scale=guidance,
            sampler=sampler,
            grid=grid,
            eta=eta,
            seed=seed,
            properties=given,
            batch_size=batch_size,
            on_step=watch,
        )
        for p, i, picture in stream:
            if not files:
                out.mkdir(parents=True, exist_ok=True)
                _clear(out)
            name = f"{folder_name(p, wanted[p])}/{i}.png"
            (out / name).parent.mkdir(exist_ok=True)
            picture.save(out / name)
            made[p].append(picture)
            files.append(name)

    contact_sheet(made, wanted, columns=min(columns, count)).save(out / "sheet.png")
    files.append("sheet.png")
    if video:
        _film(frames, made[0], count, batch_size, video)
    record: dict[str, Any] = {
        "version": __version__,
        "model": model,
        "weights": sha256(find_model(model) / WEIGHTS),
        "prompts": wanted,
        "count": count,
        "steps": steps,
        "sampler": sampler,
        "guidance": guidance,
        "seed": seed,
        "grid": grid,
        "eta": eta,
        "properties": given,
        "batch_size": batch_size,
        "files": files,
    }
    write_json(out / "run.json", record)
    seconds = time.monotonic() - start
    print(f"{sum(map(len, made))} pictures in {seconds:.1f} s: {out / 'sheet.png'}" + (f", {video}" if video else ""))


def _film(
    frames: list[tuple[int, Tensor]], finished: list[Image.Image], count: int, batch_size: int, path: Path
) -> None:
    """Frames came batch by batch; a film wants them step by step."""
    import torch

    from zaozi.guide.video import Film

    film = Film()
    batches: dict[int, list[Tensor]] = {}
    for start, x in frames:
        batches.setdefault(start, []).append(x)
    for step in zip(*(batches[start] for start in sorted(batches)), strict=True):
        film.add(torch.cat(step))
    film.write(path, finished)
