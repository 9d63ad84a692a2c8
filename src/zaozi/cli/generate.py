"""`zaozi generate PROMPT...` and `zaozi invert PICTURE`."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from PIL import Image

from zaozi import __version__
from zaozi.cli.asked import (
    KEPT,
    asked_properties,
    check_guide,
    composition,
    mask_of,
    picture_to_start_from,
    read_prompts,
)
from zaozi.cli.main import parse
from zaozi.core.config import Guidance, from_dict, to_dict
from zaozi.core.errors import ZaoziError

if TYPE_CHECKING:
    from torch import Tensor

    from zaozi.pipeline import Prompt, TextToImage

SHOWN, FILMED, FRAMES = 64, 16, 150
"""Pictures of a prompt, and prompts, that the contact sheet shows at most; pictures of a film, and frames. A run of any count
keeps no more than these in memory."""


@dataclass(frozen=True)
class Drawing:
    """Draw pictures for prompts: DIR/000-gold/0.png ..., a contact sheet DIR/sheet.png, and DIR/run.json.

    zaozi generate --redo run.json draws a run again, to the same bytes.
    """

    prompt: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PROMPT")] = ()
    """What to draw, in quotes; as many as you like."""
    prompts: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A file of prompts, one a line."""
    compose: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """TEXT or TEXT=WEIGHT, repeated: one picture of all of them; negative weights push away."""
    negative: str = ""
    """What to steer away from."""
    to: Annotated[str, tyro.conf.arg(metavar="PROMPT")] = ""
    """Draw the way from the prompt to this one, in --count pictures."""
    count: int = 8
    """Pictures a prompt."""
    steps: int = 20
    """Steps of the sampler, 1 to 1000."""
    sampler: str = "dpmpp-2m"
    """How it walks from noise to a picture: dpmpp-2m, ddim, ...; a wrong name lists them all."""
    guidance: float = 5.0
    """Guidance scale; 1 is none, 5 is usual, more is truer and less varied."""
    guide: Guidance = field(default_factory=Guidance)
    """More about guidance; its scale is --guidance."""
    weak: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """A lesser model, an early checkpoint say, to guide away from (autoguidance)."""
    seed: int = 0
    """Picture i depends on (seed, i, prompt) alone."""
    to_seed: int | None = None
    """Draw the way from --seed to this seed, in --count pictures."""
    model: str = "base"
    """A shipped name, or the folder of a model or training run."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "out"
    """Where to."""
    grid: str = "uniform"
    """Which levels are visited: uniform, trailing, logsnr or karras."""
    eta: float = 0.0
    """Fresh noise in ddim, 0 (none) to 1 (as ddpm)."""
    property: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What else to ask for, as NAME=VALUE (zaozi model info lists them); may be repeated."""
    structure: str = ""
    """How the parts stand: left-right, above-below, single, ... (the same as --property structure=...)."""
    strokes: int = 0
    """How many strokes."""
    radical: str = ""
    """A radical, as a character in any of its forms (金, 钅) or its Kangxi number."""
    pinyin: str = ""
    """A reading: yang2, or yáng."""
    init: Annotated[str, tyro.conf.arg(metavar="PICTURE")] = ""
    """A picture to start from: a file, or one character."""
    strength: float = 1.0
    """How much of the picture is drawn anew: the share of the steps that is walked, above 0 to 1; 0.8 to 0.95 varies it."""
    keep: Annotated[str, tyro.conf.arg(metavar="SIDE")] = ""
    """What to keep of it: left, right, top or bottom, or a picture whose white parts are kept."""
    batch_size: int = 16
    """Pictures drawn at a time."""
    video: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A film of the first prompt's pictures forming (.mp4, .gif or .webp)."""
    svg: bool = False
    """Write each picture's outlines too, as 0.svg ... beside 0.png ..."""
    columns: int = 8
    """Pictures in a row of the contact sheet."""
    device: str = ""
    """cpu, cuda or mps; cuda where there is one unless told."""


def generate(args: list[str]) -> None:
    default, recorded = Drawing(), dict[str, str]()
    args = [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--redo=") else [arg])]
    if "--redo" in args:
        place = args.index("--redo")
        if place + 1 >= len(args):
            raise ZaoziError("--redo needs a file; give the run.json of an earlier run")
        default, recorded = read_run(Path(args[place + 1]))
        args = args[:place] + args[place + 2 :]
        given = {arg.split("=")[0] for arg in args}
        if given & {"--compose", "--prompts"}:
            default = replace(default, prompt=(), compose=())
        if "--property" in given:
            default = replace(default, property=())
    run(parse(Drawing, args, "generate", default=default), recorded)


def read_run(path: Path) -> tuple[Drawing, dict[str, str]]:
    """An earlier run's settings, and the SHA-256 of the files it used. Raises `ZaoziError` where the file is no such record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        settings, digests = from_dict(Drawing, record["settings"]), dict(record["sha256"])
        theirs, ours = record["versions"], versions()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ZaoziError(f"{path} is no record of a run ({error}); give the run.json of zaozi generate") from None
    if theirs != ours:
        warnings.warn(f"drawn with {theirs}, now with {ours}: bytes may differ by rounding", stacklevel=2)
    return settings, digests


def versions() -> dict[str, str]:
    """What a picture's last bits depend on beside its settings."""
    import torch

    return {"zaozi": __version__, "torch": torch.__version__, "threads": str(torch.get_num_threads())}


def folder_name(number: int, prompt: str) -> str:
    """'007-a-small-song-bird': the prompt's number and its letters and digits, at most 40 of them."""
    letters = re.sub(r"\W+", "-", prompt.casefold()).strip("-_")[:40].strip("-")
    return f"{number:03d}-{letters or 'prompt'}"


def earlier(out: Path) -> list[Path]:
    """What an earlier run wrote there, as its run.json lists it."""
    try:
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        names = [str(name) for name in record["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [out / name for name in names if re.fullmatch(r"\d{3,}-[^/\\]+/\d+\.(png|svg)|sheet\.png", name)]


def _clear(out: Path) -> None:
    """Remove what an earlier run wrote there, so that a folder holds one run."""
    for path in earlier(out):
        path.unlink(missing_ok=True)
        if path.parent != out and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def wanted_prompts(s: Drawing) -> list[str]:
    """The plain prompts that the settings name. Raises `ZaoziError` where they say nothing or contradict each other."""
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
    """Draw by the settings. Raises `ZaoziError` for a mistake in them, or for files that are not what was `recorded`."""
    start = time.monotonic()
    wanted = wanted_prompts(s)
    given = asked_properties(s.property, structure=s.structure, strokes=s.strokes, radical=s.radical, pinyin=s.pinyin)
    if not wanted and not s.compose and not given:
        raise ZaoziError('no prompt was given; try: zaozi generate "gold"')
    if s.columns < 1:
        raise ZaoziError(f"columns {s.columns} is out of range; use 1 or more")
    if s.keep and not s.init:
        raise ZaoziError("--keep needs a picture; give it with --init")
    if s.video:
        from zaozi.guide.video import check_suffix

        check_suffix(Path(s.video))

    check_guide(s.guide)

    from zaozi.core.files import sha256, write_json
    from zaozi.data.sheet import contact_sheet
    from zaozi.guide.outlines import svg
    from zaozi.model.checkpoint import WEIGHTS, find_model, load_model, shipped
    from zaozi.pipeline import TextToImage

    def settled(name: str) -> str:
        """A model's or a picture's name as it will still be known tomorrow and elsewhere."""
        if not name or name in shipped() or len(name) == 1 or name in KEPT:
            return name
        return str((Path(name) if Path(name).is_file() else find_model(name)).absolute())

    artist = TextToImage.from_pretrained(s.model, device=s.device or None)
    size = artist.model.config.size
    options: dict[str, Any] = {
        "properties": given,
        "negative": s.negative,
        "num_steps": s.steps,
        "guidance": replace(s.guide, scale=s.guidance),
        "sampler": s.sampler,
        "grid": s.grid,
        "eta": s.eta,
        "seed": s.seed,
        "strength": s.strength,
        "batch_size": s.batch_size,
        "init": picture_to_start_from(s.init, size) if s.init else None,
        "mask": mask_of(s.keep, size) if s.keep else None,
        "weak": load_model(find_model(s.weak)) if s.weak else None,
    }
    names: dict[str, Any] = {name: settled(getattr(s, name)) for name in ("model", "weak", "init", "keep")}
    settings = replace(s, prompt=tuple(wanted), prompts="", **names)
    used = {name: find_model(name) / WEIGHTS for name in (names["model"], names["weak"]) if name}
    used |= {name: Path(name) for name in (names["init"], names["keep"]) if name and Path(name).is_file()}
    digests = {name: sha256(path) for name, path in used.items()}
    for name, digest in recorded.items():
        if digests.get(name, digest) != digest:
            raise ZaoziError(f"{name} is not what it was when this run was drawn; put the old one back to redo it")

    if lost := {path.resolve() for path in earlier(Path(s.out))} & {path.resolve() for path in used.values()}:
        raise ZaoziError(f"{lost.pop()} would be cleared with the earlier run in {s.out}; give another --out")

    labels = labels_of(s, wanted, given)
    out, film = Path(s.out), Frames(s)
    shown: list[list[Image.Image]] = [[] for _ in labels[:SHOWN]]
    ends = ("png", "svg") if s.svg else ("png",)
    planned = [
        f"{folder_name(p, label)}/{i}.{e}" for p, label in enumerate(labels) for i in range(s.count) for e in ends
    ]
    files: list[str] = []
    """What is drawn; a run that is cut short leaves what was `planned`, for the next one to clear."""

    def record(files: list[str], complete: bool) -> None:
        kept = {"settings": to_dict(settings), "sha256": digests, "versions": versions()}
        write_json(out / "run.json", {"complete": complete, **kept, "prompts": labels, "files": files})

    stopped, drawn = False, 0
    drawings = len(labels) * s.count
    try:
        for p, i, picture in stream(artist, s, wanted, options, film, drawings):
            if not files:
                out.mkdir(parents=True, exist_ok=True)
                _clear(out)
                record(planned, complete=False)
            name = f"{folder_name(p, labels[p])}/{i}.png"
            (out / name).parent.mkdir(exist_ok=True)
            picture.save(out / (name + ".partial"), "PNG")
            os.replace(out / (name + ".partial"), out / name)
            files.append(name)
            if s.svg:
                files.append(str(Path(name).with_suffix(".svg")))
                (out / files[-1]).write_text(svg(picture), encoding="utf-8")
            drawn += 1
            if p < SHOWN and i < SHOWN:
                shown[p].append(picture)
    except KeyboardInterrupt:
        if not files:
            raise
        stopped = True
    rows = [row for row in shown if row]
    contact_sheet(rows, labels[: len(rows)], columns=min(s.columns, s.count), tile=min(size, 128)).save(
        out / "sheet.png"
    )
    files.append("sheet.png")
    record(files, complete=not stopped)
    if stopped:
        print(f"stopped after {drawn} of {drawings} pictures, which are kept: {out / 'sheet.png'}")
        raise KeyboardInterrupt
    if s.video:
        film.write(shown[0])
    seconds = time.monotonic() - start
    print(f"{drawn} pictures in {seconds:.1f} s: {out / 'sheet.png'}" + (f", {s.video}" if s.video else ""))


def labels_of(s: Drawing, wanted: list[str], given: dict[str, str | float]) -> list[str]:
    """What stands under each row of the sheet, and in its folder's name."""
    if s.compose:
        parts = composition(s.compose).items()
        return [" + ".join(text if weight == 1 else f"{weight:g} {text}" for text, weight in parts)]
    if s.to:
        return [f"{wanted[0]} to {s.to}"]
    return wanted or [", ".join(f"{name} {value}" for name, value in given.items())]


def stream(
    artist: TextToImage,
    s: Drawing,
    wanted: list[str],
    options: dict[str, Any],
    film: Frames,
    drawings: int,
) -> Iterator[tuple[int, int, Image.Image]]:
    """(row, column, picture) of everything the settings ask for, with a progress bar."""
    from tqdm import tqdm

    from zaozi.pipeline import halfway

    prompts: list[Prompt] = [composition(s.compose)] if s.compose else list(wanted or [""])
    shares = [k / max(s.count - 1, 1) for k in range(s.count)]
    batches = -(-drawings // max(s.batch_size, 1))
    walked = max(1, round(s.steps * s.strength))
    with tqdm(total=batches * walked, desc="drawing", unit="step", delay=2, leave=False) as bar:

        def watch(t: float, x: Tensor, x0: Tensor, eps: Tensor) -> None:
            bar.update()
            film.see(x)

        options = {**options, "on_step": watch}
        if s.to:
            way = [halfway(wanted[0], s.to, share) for share in shares]
            made: Iterator[tuple[int, int, Image.Image]] = (
                (0, k, picture) for k, _, picture in artist.pictures(way, **options)
            )
        elif s.to_seed is not None:
            way = [prompt for prompt in prompts for _ in shares]
            toward = s.to_seed, shares * len(prompts)
            made = (
                (*divmod(n, s.count), picture) for n, _, picture in artist.pictures(way, toward_seed=toward, **options)
            )
        else:
            made = artist.pictures(prompts, count=s.count, **options)
        for row, column, picture in made:
            yield row, column, picture
            film.drawn(row)


class Frames:
    """What the film of the first prompt needs: x_t of its first pictures, batch by batch, at up to 150 of the steps."""

    def __init__(self, s: Drawing) -> None:
        self.path = Path(s.video) if s.video else None
        self.wanted = min(s.count, FILMED)
        self.every = -(-s.steps // FRAMES)
        self.have = 0
        self.seen = 0
        self.batches: list[list[Tensor]] = []

    def see(self, x: Tensor) -> None:
        """x_t of a batch at the next step."""
        if self.path is None or self.have >= self.wanted:
            return
        if self.seen == 0:
            self.batches.append([])
        if self.seen % self.every == 0:
            self.batches[-1].append(x[: self.wanted - self.have].to("cpu", copy=True))
        self.seen += 1

    def drawn(self, row: int) -> None:
        """One picture of a row is finished, and with it its batch."""
        if self.seen and row == 0:
            self.have += len(self.batches[-1][0])
            self.seen = 0

    def write(self, finished: list[Image.Image]) -> None:
        """The film, its last frame the finished pictures."""
        import torch

        from zaozi.guide.video import Film

        assert self.path is not None
        film = Film()
        for step in zip(*self.batches, strict=True):
            film.add(torch.cat(step))
        film.write(self.path, finished[: self.wanted])


def invert(args: list[str]) -> None:
    parse(_invert, args, "invert")


def _invert(
    picture: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PICTURE")],
    /,
    prompt: str = "",
    edit: str = "",
    steps: int = 50,
    guidance: float = 5.0,
    model: str = "base",
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("out/inverted.png"),
) -> None:
    """Find the noise from which a picture is drawn, draw it again from there, and perhaps for another prompt.

    Writes one picture: what was given, what its noise gives back, and with --edit what the other prompt makes of that noise.

    Args:
        picture: A file, or one character.
        prompt: What the picture shows; none is fine.
        edit: Draw from the same noise for this prompt too.
        steps: Steps each way.
        guidance: For --edit; the way there and back has none.
        model: A shipped name, or the folder of a model or training run.
        out: Where to.
    """
    import numpy as np

    from zaozi.data.sheet import contact_sheet
    from zaozi.pipeline import TextToImage, from_picture, to_pictures

    artist = TextToImage.from_pretrained(model)
    config = artist.model.config
    given = from_picture(picture_to_start_from(picture, config.size), config.size, config.channels)
    shown = to_pictures(given)
    start = artist.invert(shown[0], prompt, num_steps=steps)
    plain = Guidance(1.0 if prompt else 0.0, threshold="none")
    shown += artist(prompt, count=1, num_steps=steps, sampler="ddim", guidance=plain, start=start)
    if edit:
        shown += artist(edit, count=1, num_steps=steps, sampler="ddim", guidance_scale=guidance, start=start)
    out.parent.mkdir(parents=True, exist_ok=True)
    words = ["given, drawn again from its noise", *([f"and for '{edit}'"] if edit else [])]
    contact_sheet([shown], [", ".join(words)]).save(out)
    away = np.abs(np.asarray(shown[0], np.float64) - np.asarray(shown[1], np.float64)).mean() / 255
    print(f"{out}: the way there and back changed the picture by {away:.2%} of the range on average")
