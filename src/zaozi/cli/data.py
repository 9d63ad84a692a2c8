"""`zaozi data build` and `zaozi data show`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from zaozi.core.errors import ZaoziError, printable

SHOWN = 3
"""Maximum number of skipped or excluded files to print; the manifest lists all."""


@dataclass(frozen=True)
class Building:
    """Build the glyph dataset, or a dataset from your own folder."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The output folder; glyphs go to ~/.cache/zaozi (or $ZAOZI_HOME) by default, where other commands find them."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Your folder: metadata.jsonl or metadata.csv (file_name, text), or name.png with name.txt. Only files inside it are read."""
    openmoji: Annotated[Path | None, tyro.conf.arg(metavar="PACKAGE")] = None
    """Colour emoji: the .tgz from npm pack openmoji (CC BY-SA 4.0), or its unpacked folder."""
    skin_tones: tyro.conf.FlagCreatePairsOff[bool] = False
    """With --openmoji, add the variants with skin tones."""
    limit: int = 0
    """Maximum number of pairs (0: all); glyphs and emoji are selected at even spacing."""
    undefined: tyro.conf.FlagCreatePairsOff[bool] = False
    """Add characters without a definition to the training split; the meaning of their radical is used as the caption."""
    size: int = 128
    """Width and height of the pictures in pixels, 8 to 1024."""
    mode: Literal["auto", "grey", "rgb"] = "auto"
    """Greyscale or RGB pictures; auto selects grey if all pictures in the folder are grey."""
    fit: Literal["crop", "pad"] = "crop"
    """How pictures of your own become square: crop to the central square, or pad with white."""
    font: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Use another font for the glyphs."""
    skip_bad: tyro.conf.FlagCreatePairsOff[bool] = False
    """Skip and count bad pictures and captions."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Overwrite existing dataset files that zaozi did not write; by default this is an error."""


def build(s: Building) -> None:
    """Build a dataset from the settings. Raises `ZaoziError`."""
    from zaozi.data.folder import Square, build_folder
    from zaozi.data.glyphs import build_glyphs, default_folder
    from zaozi.data.shards import captions

    other = "--images" if s.images is not None else "--openmoji" if s.openmoji is not None else ""
    if s.images is not None and s.openmoji is not None:
        raise ZaoziError("--images and --openmoji do not go together; choose one")
    if other and (s.undefined or s.font is not None):
        raise ZaoziError(f"--{'undefined' if s.undefined else 'font'} is for the glyphs; leave it out with {other}")
    if s.skin_tones and s.openmoji is None:
        raise ZaoziError("--skin-tones is for emoji; add --openmoji PACKAGE")
    if s.fit != "crop" and s.images is None:
        raise ZaoziError("--fit is for pictures of your own; add --images FOLDER")
    start, unread = time.monotonic(), list[str]()
    if s.openmoji is not None:
        from zaozi.data.openmoji import LICENCE, build_openmoji

        if (out := s.out) is None:
            raise ZaoziError("the emoji need an output folder; add --out DIR")
        manifest = build_openmoji(
            s.openmoji,
            out,
            size=s.size,
            skin_tones=s.skin_tones,
            limit=s.limit,
            skip_bad=s.skip_bad,
            overwrite=s.overwrite,
        )
        print(f"licence: {LICENCE}")
        unread = _unread(captions(out))
    elif s.images is not None:
        if (out := s.out) is None:
            raise ZaoziError("a folder of your own needs a place to go; add --out DIR")
        manifest = build_folder(
            s.images, out, Square(s.size, s.mode, s.fit), limit=s.limit, skip_bad=s.skip_bad, overwrite=s.overwrite
        )
        unread = _unread(captions(out))
    else:
        if s.font is not None and s.out is None:
            raise ZaoziError("another font needs a place to go; add --out DIR")
        out = s.out or default_folder(s.size, s.limit, undefined=s.undefined)
        manifest = build_glyphs(
            out,
            size=s.size,
            limit=s.limit,
            undefined=s.undefined,
            font_path=s.font,
            overwrite=s.overwrite or s.out is None,  # zaozi's own cache
        )
    counts = manifest["counts"]
    skipped = counts["skipped"]
    lacking = manifest.get("lacking_in_font", 0)
    left_out = f"; {skipped} bad ones skipped" if skipped else ""
    left_out += f"; {lacking} characters the font lacks left out" if lacking else ""
    for line in [*_notes(manifest), *unread]:
        print(printable(line))
    print(
        f"{counts['pairs']} pairs ({counts['train']} train, {counts['validation']} validation, {counts['test']} test), "
        f"{counts['captions']} captions, {manifest['size']}x{manifest['size']}, to {printable(str(out))} "
        f"in {time.monotonic() - start:.1f} s{left_out}"
    )


def _unread(captions: list[str]) -> list[str]:
    """Report what the default encoder will not read of the captions."""
    from zaozi.text.captions import caption_report
    from zaozi.text.encoders import load_encoder

    return caption_report(load_encoder(network=False), captions).lines()


def _notes(manifest: dict[str, Any]) -> list[str]:
    """Return notes about a folder build that its counts do not show."""
    notes = [f"skipped: {why}" for why in manifest["skipped"][:SHOWN]]
    notes += [f"left out: {why}" for why in manifest.get("left_out", [])[:SHOWN]]
    for name in ("skipped", "left_out"):
        if (more := len(manifest.get(name, [])) - SHOWN) > 0:
            notes.append(f"{name.replace('_', ' ')}: {more} more, which manifest.json names")
    counts, split = manifest["counts"], manifest.get("split", {})
    if split.get("by") == "picture":
        notes.append(
            f"{counts['captions']} captions for {counts['pairs']} pictures: the split is by picture, so held-out pictures have "
            "captions that are trained too; give most pictures a caption of their own to hold out captions"
        )
    if moved := split.get("moved_to_train"):
        notes.append(
            f"{moved} pictures went to train so that every repeated caption and every class has one there; "
            "add pictures of rare ones to hold some out"
        )
    return notes


def show(
    data: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="DIR")] = None,
    /,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("out/data.png"),
    count: int = 24,
    split: Literal["train", "validation", "test"] = "train",
    seed: int = 0,
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Draw a contact sheet of a dataset: random pictures with their captions.

    Args:
        data: The dataset; by default the glyphs (built if missing).
        out: The picture to write.
        count: Number of pairs.
        split: The split to show.
        seed: Seed for the random selection.
        overwrite: Overwrite an existing file that zaozi did not write; by default this is an error.
    """
    import numpy as np
    from PIL import Image

    from zaozi.core.noise import check_seed
    from zaozi.core.recipe import DataConfig
    from zaozi.data.pairs import find_dataset, load_pairs
    from zaozi.data.sheet import contact_sheet, picture_output
    from zaozi.pipeline import to_images

    if count < 1:
        raise ZaoziError(f"count {count} is out of range; use 1 or more")
    check_seed(seed)
    output = picture_output(out, "data sheet", overwrite=overwrite)
    output.check()
    folder = find_dataset(DataConfig(path=str(data) if data else ""))
    pairs = load_pairs(folder, split)
    if not len(pairs):
        raise ZaoziError(f"{folder} has no {split} pair; choose another --split")
    rows = np.random.Generator(np.random.Philox(seed)).permutation(len(pairs))[:count]
    tiles = [
        contact_sheet([[picture]], [pairs.texts[r]], tile=160, lines=3, text_size=13)
        for r, picture in zip(rows, to_images(pairs.pictures[rows]), strict=True)
    ]
    columns = min(6, len(tiles))
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * width, i // columns * height))
    with output.write() as work:
        sheet.save(work / out.name)
    print(printable(f"{len(tiles)} of {len(pairs)} {split} pairs of {folder}: {out}"))
