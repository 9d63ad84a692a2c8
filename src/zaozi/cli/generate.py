"""`zaozi generate PROMPT...`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from zaozi.cli.asked import (
    as_distilled,
    asked_properties,
    composition,
    mask_of,
    picture_to_start_from,
    read_prompts,
)
from zaozi.cli.engine import engine_of
from zaozi.cli.main import parse
from zaozi.cli.record import RunFolder, read_run, run_output
from zaozi.core.arrays import on
from zaozi.core.config import Config, config, to_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.outputs import file_output, first_free
from zaozi.core.progress import progress
from zaozi.core.sampling import Editing, Sampling
from zaozi.data.pictures import KEPT

if TYPE_CHECKING:
    from torch import Tensor

    from zaozi.pipeline import Edit, Prompt

SHOWN, FILMED, FRAMES = 64, 16, 150
"""Limits: pictures per prompt and prompts on the contact sheet, pictures in a video, video frames. A run keeps no more than
this in memory, whatever its size.
"""


@config()
class Drawing(Config):
    """Generate pictures from prompts: DIR/000-gold/0.png ..., a contact sheet DIR/sheet.png, and DIR/run.json.

    Use zaozi generate --redo run.json to reproduce a run byte for byte.
    """

    prompt: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PROMPT")] = ()
    """What to draw, in quotes; can be repeated."""
    prompts: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A file of prompts, one per line."""
    compose: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """TEXT or TEXT=WEIGHT; repeat to combine several texts in one picture. Negative weights steer away."""
    negative: str = ""
    """Negative prompt: what to avoid."""
    to: Annotated[str, tyro.conf.arg(metavar="PROMPT")] = ""
    """Interpolate from the prompt to this one, over --count pictures."""
    count: int = 8
    """Pictures per prompt."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = Sampling()
    """Sampling; --guidance 5 is short for --guidance.scale 5."""
    weak: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """A weaker model, such as an early checkpoint, to guide away from (autoguidance)."""
    to_seed: int | None = None
    """Interpolate from --seed to this seed, over --count pictures."""
    model: str = "base"
    """Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the Hugging Face hub."""
    stage: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="MODEL")] = ()
    """A super-resolution stage, for a larger --size, instead of those in the model's folder; can be repeated."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """The output folder; by default out, or out-2 and so on if it contains files that zaozi did not write."""
    property: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Condition on a property, as NAME=VALUE (listed by zaozi model info); can be repeated."""
    structure: str = ""
    """Arrangement of the parts: left-right, above-below, single, ... (same as --property structure=...)."""
    strokes: int = 0
    """Number of strokes."""
    radical: str = ""
    """A radical, as a character in any of its forms (金, 钅) or its Kangxi number."""
    pinyin: str = ""
    """A reading: yang2 or yáng."""
    edit: Annotated[Editing, tyro.conf.arg(name="")] = Editing()
    """Editing."""
    video: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Write a video of the denoising for the first prompt (.mp4, .gif or .webp)."""
    svg: bool = False
    """Also write outlines for each picture: 0.svg ... next to 0.png ..."""
    columns: int = 8
    """Pictures per row of the contact sheet."""
    device: str = ""
    """cpu, cuda or mps; by default cuda if available."""
    engine: Literal["auto", "torch", "onnx"] = "auto"
    """`onnx` draws on the CPU without PyTorch, which starts sooner; it exports the model on first use. `auto` is onnx for a
    model that has been exported so, if it can do what is asked and there is no GPU; else torch.
    """
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Overwrite existing files of these names that zaozi did not write; by default this is an error."""


def generate(args: list[str]) -> None:
    default, recorded = Drawing(), dict[str, str]()
    args = [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--redo=") else [arg])]
    if "--redo" in args:
        place = args.index("--redo")
        if place + 1 >= len(args):
            raise ZaoziError("--redo needs a file; give the run.json of an earlier run")
        default, recorded = read_run(Path(args[place + 1]), Drawing)
        args = args[:place] + args[place + 2 :]
        given = {arg.split("=")[0] for arg in args}
        if given & {"--compose", "--prompts"}:
            default = replace(default, prompt=(), compose=())
        if "--property" in given:
            default = replace(default, property=())
    s = parse(Drawing, args, "generate", default=default)
    run(s if recorded else as_distilled(s, args), recorded)


def wanted_prompts(s: Drawing) -> list[str]:
    """Return the plain prompts in the settings. Raises `ZaoziError` if there are none or they conflict."""
    wanted = [*s.prompt, *(read_prompts(Path(s.prompts)) if s.prompts else [])]
    ways = [
        name
        for name, given in (("--compose", s.compose), ("--to", s.to), ("--to-seed", s.to_seed is not None))
        if given
    ]
    if len(ways) > 1:
        raise ZaoziError(f"{ways[0]} and {ways[1]} do not go together; choose one")
    if s.compose and wanted:
        raise ZaoziError("prompts and --compose do not go together; add the prompt with one more --compose")
    if s.to and len(wanted) != 1:
        raise ZaoziError('--to needs one prompt to start from: zaozi generate "fire" --to "water"')
    if (s.to or s.to_seed is not None) and s.count < 2:
        raise ZaoziError(f"count {s.count} is too few for a way; use 2 or more")
    return wanted


def run(s: Drawing, recorded: dict[str, str]) -> None:
    """Draw with the settings. Raises `ZaoziError` if they are invalid, or files do not match the `recorded` hashes."""
    start = time.monotonic()
    wanted = wanted_prompts(s)
    given = asked_properties(s.property, structure=s.structure, strokes=s.strokes, radical=s.radical, pinyin=s.pinyin)
    s = replace(s, engine=engine_of(s))
    if s.columns < 1:
        raise ZaoziError(f"columns {s.columns} is out of range; use 1 or more")
    if s.edit.keep and not s.edit.init:
        raise ZaoziError("--keep needs a picture; give it with --init")
    if s.video:
        from zaozi.media.video import check_suffix

        check_suffix(Path(s.video))

    from zaozi.data.sheet import contact_sheet
    from zaozi.model.checkpoint import find_model, load_model
    from zaozi.pipeline import Edit, TextToImage, check_distilled, check_sampling, check_strength
    from zaozi.pipeline.pictures import mask_pixels, pixels

    check_strength(s.edit.strength)
    check_sampling(s.sampling)
    engine: Literal["torch", "onnx"] = "onnx" if s.engine == "onnx" else "torch"
    artist = TextToImage.from_pretrained(s.model, stages=s.stage or None, device=s.device or None, engine=engine)
    if not (wanted or s.compose or given) and artist.model.config.network.reads_text:
        raise ZaoziError('no prompt was given; try: zaozi generate "gold"')
    artist.check_size(s.sampling.size)
    plain = not (s.negative or s.weak or s.to or len(s.compose) > 1)
    check_distilled(artist.model.config, s.sampling.guidance, plain=plain)
    size = artist.model.config.size
    init = picture_to_start_from(s.edit.init, size) if s.edit.init else None
    here = None if s.engine == "onnx" else "cpu"
    edit = Edit(
        on(pixels(init, size, artist.model.config.channels), here) if init else None,
        s.edit.strength,
        on(mask_pixels(mask_of(s.edit.keep, size), size), here) if s.edit.keep else None,
    )
    weak = load_model(find_model(s.weak)) if s.weak else None
    draw = partial(artist.pictures, how=s.sampling, properties=given, negative=s.negative, weak=weak)
    settings, used, digests = settled(replace(s, prompt=tuple(wanted), prompts="", out="", overwrite=False), recorded)
    labels = labels_of(s, wanted, given)
    made = {"settings": to_dict(settings), "sha256": digests}
    if s.prompts:
        used.append(Path(s.prompts))
    folders = [Path(s.out)] if s.out else [Path("out"), *(Path(f"out-{n}") for n in range(2, 100))]
    output = first_free(
        run_output(folder, labels, s.count, outlines=s.svg, used=used, overwrite=s.overwrite) for folder in folders
    )
    film = Frames(s, used, artist.model.space.preview)
    shown: list[list[Image.Image]] = [[] for _ in labels[:SHOWN]]
    stopped, drawn = False, 0
    drawings = len(labels) * s.count
    with output.open() as writer:
        folder = RunFolder(writer, labels, s.count, outlines=s.svg, made=made)
        try:
            for row, i, picture in stream(draw, edit, s, wanted, film, drawings):
                folder.add(row, i, picture)
                drawn += 1
                if row < SHOWN and i < SHOWN:
                    shown[row].append(picture)
        except KeyboardInterrupt:
            if not drawn:
                raise
            stopped = True
        rows = [row for row in shown if row]
        sheet = contact_sheet(rows, labels[: len(rows)], columns=min(s.columns, s.count), tile=min(size, 128))
        folder.close(sheet, complete=not stopped)
    if stopped:
        print(f"stopped after {drawn} of {drawings} pictures, which are kept: {folder.sheet}")
        raise KeyboardInterrupt
    if s.video:
        film.write(shown[0])
    seconds = time.monotonic() - start
    print(f"{drawn} pictures in {seconds:.1f} s: {folder.sheet}" + (f", {s.video}" if s.video else ""))


def settled(s: Drawing, recorded: dict[str, str]) -> tuple[Drawing, list[Path], dict[str, str]]:
    """Return the settings with stable names for models and pictures, the input files, and their SHA-256 by those names.

    Raises `ZaoziError` if a file does not match its `recorded` hash.
    """
    from zaozi.core.files import sha256
    from zaozi.model.checkpoint import SHIPPED, WEIGHTS, find_model, stages_in

    def known(name: str) -> str:
        if not name or len(name) == 1 or name in KEPT:
            return name
        found = Path(name) if Path(name).is_file() else find_model(name)
        return name if found.parent == SHIPPED else str(found.absolute())

    model, weak = known(s.model), known(s.weak)
    edit = replace(s.edit, init=known(s.edit.init), keep=known(s.edit.keep))
    stages = tuple(known(name) for name in s.stage)
    used = {name: find_model(name) / WEIGHTS for name in (model, weak, *stages) if name}
    if s.sampling.size and not stages:
        used |= {f"{model}, {own.parent.name}/{own.name}": own / WEIGHTS for own in stages_in(find_model(model))}
    used |= {name: Path(name) for name in (edit.init, edit.keep) if name and Path(name).is_file()}
    digests = {name: sha256(path) for name, path in used.items()}
    for name, digest in recorded.items():
        if digests.get(name, digest) != digest:
            raise ZaoziError(f"{name} is not what it was when this run was drawn; put the old one back to redo it")
    return replace(s, model=model, weak=weak, stage=stages, edit=edit), list(used.values()), digests


def labels_of(s: Drawing, wanted: list[str], given: dict[str, str | float]) -> list[str]:
    """Return the label of each row, used on the sheet and in its folder name."""
    if s.compose:
        parts = composition(s.compose).items()
        return [" + ".join(text if weight == 1 else f"{weight:g} {text}" for text, weight in parts)]
    if s.to:
        return [f"{wanted[0]} to {s.to}"]
    return wanted or [", ".join(f"{name} {value}" for name, value in given.items()) or "pictures"]


def stream(
    draw: Callable[..., Iterator[tuple[int, int, Image.Image]]],
    edit: Edit,
    s: Drawing,
    wanted: list[str],
    film: Frames,
    drawings: int,
) -> Iterator[tuple[int, int, Image.Image]]:
    """Yield (row, column, picture) for everything in the settings, with a progress bar."""
    from zaozi.pipeline import halfway

    prompts: list[Prompt] = [composition(s.compose)] if s.compose else list(wanted or [""])
    shares = [k / max(s.count - 1, 1) for k in range(s.count)]
    batches = -(-drawings // s.sampling.batch_size)
    walked = max(1, round(s.sampling.steps * s.edit.strength))
    with progress(total=batches * walked, desc="drawing", unit="step") as bar:

        def watch(t: float, x: Tensor, x0: Tensor, eps: Tensor) -> None:
            bar.update()
            film.see(x)

        if s.to:
            way = [halfway(wanted[0], s.to, share) for share in shares]
            made: Iterator[tuple[int, int, Image.Image]] = (
                (0, k, p) for k, _, p in draw(way, edit=edit, on_step=watch)
            )
        elif s.to_seed is not None:
            way = [prompt for prompt in prompts for _ in shares]
            toward = replace(edit, toward_seed=(s.to_seed, shares * len(prompts)))
            made = ((*divmod(n, s.count), picture) for n, _, picture in draw(way, edit=toward, on_step=watch))
        else:
            made = draw(prompts, edit=edit, count=s.count, on_step=watch)
        for row, column, picture in made:
            yield row, column, picture
            film.drawn(row)


class Frames:
    """Collect video frames for the first prompt: x_t of its first pictures, batch by batch, at up to 150 of the steps."""

    def __init__(self, s: Drawing, used: Sequence[Path], preview: Callable[[Tensor], Tensor]) -> None:
        self.preview = preview
        self.output = file_output(Path(s.video), "film", overwrite=s.overwrite, inputs=used) if s.video else None
        if self.output:
            self.output.check()
        self.wanted = min(s.count, FILMED)
        self.every = -(-s.sampling.steps // FRAMES)
        self.have = 0
        self.seen = 0
        self.batches: list[list[NDArray[np.float32]]] = []

    def see(self, x: Tensor) -> None:
        """Add x_t of a batch at the next step."""
        if self.output is None or self.have >= self.wanted:
            return
        if self.seen == 0:
            self.batches.append([])
        if self.seen % self.every == 0:
            self.batches[-1].append(np.array(on(self.preview(x[: self.wanted - self.have]), None)))
        self.seen += 1

    def drawn(self, row: int) -> None:
        """Mark one picture of a row, and so its batch, as finished."""
        if self.seen and row == 0:
            self.have += len(self.batches[-1][0])
            self.seen = 0

    def write(self, finished: list[Image.Image]) -> None:
        """Write the video, with the finished pictures as the last frame."""
        from zaozi.media.video import Film

        assert self.output is not None
        film = Film()
        for step in zip(*self.batches, strict=True):
            film.add(np.concatenate(step))  # type: ignore[arg-type]
        with self.output.write() as work:
            film.write(work / self.output.names[0], finished[: self.wanted])
