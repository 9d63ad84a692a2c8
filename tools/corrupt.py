"""Damage files that zaozi wrote, at random, and see whether loading them is ever silently wrong.

    python tools/corrupt.py --count 200 --seed 0

A file of a dataset, of a run's checkpoint, of a released model, of an export or of a cache is cut, overwritten, swapped with
another, doubled, emptied or removed; then what reads it is run. Three outcomes are right: the result is what it was before
(a cache was made again, or an older checkpoint was named), a warning tells, or one line of `ZaoziError` does. Prints how many of
each, and ends with 1 if one was silent, or failed in any other way.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

Reader = Callable[[], str]


def digest(*values: Any) -> str:
    """A hash of arrays, tensors and texts."""
    made = hashlib.sha256()
    for value in values:
        if isinstance(value, torch.Tensor):
            value = value.detach().float().numpy()
        made.update(np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return made.hexdigest()


def prepared(root: Path, *, export: bool) -> dict[str, tuple[Path, Reader]]:
    """Small things of every kind under `root`: name -> its folder, and what reads it (returning a hash of what was read)."""
    from zaozi.core.files import home
    from zaozi.core.journal import verified
    from zaozi.core.recipe import DataConfig, Recipe, TrainConfig
    from zaozi.data.folder import Square, build_folder
    from zaozi.data.pairs import load_pairs
    from zaozi.export.onnx import export_onnx
    from zaozi.model.checkpoint import find_model, load_model
    from zaozi.model.release import release_model
    from zaozi.nn.dit import DiTConfig
    from zaozi.pipeline import TextToImage
    from zaozi.text.cache import cached
    from zaozi.text.encoders import load_encoder
    from zaozi.train.loop import train
    from zaozi.train.optim import flat_state
    from zaozi.train.prepare import prepare

    pictures = root / "pictures"
    pictures.mkdir()
    for i in range(12):
        picture = Image.new("L", (32, 32), "white")
        ImageDraw.Draw(picture).rectangle((i, i, i + 9, i + 9), fill="black")
        picture.save(pictures / f"{i}.png")
        (pictures / f"{i}.txt").write_text(f"a box at {i}")
    build_folder(pictures, root / "data", Square(32), processes=1)
    recipe = Recipe(
        name="t",
        data=DataConfig(path=str(root / "data")),
        network=DiTConfig(width=32, depth=1, head_width=16, patch=8),
        train=TrainConfig(
            out=str(root / "run"),
            steps=4,
            batch_size=4,
            save_every=2,
            sample_every=0,
            validate_every=0,
            self_check=False,
        ),
    )

    def quiet(_: str) -> None:
        return

    train(prepare(recipe, say=quiet))
    release_model(root / "run", root / "released", "t")
    if export:
        export_onnx(TextToImage.from_pretrained(root / "released"), root / "onnx")
    encoder = load_encoder("minilm", recipe.text.max_tokens)
    texts = [f"a box at {i}" for i in range(12)]

    def data() -> str:
        splits = [load_pairs(root / "data", name) for name in ("train", "validation", "test")]
        return digest(*(part for pairs in splits for part in (pairs.pictures, pairs.texts, pairs.keys, pairs.columns)))

    def run() -> str:
        run = prepare(recipe, resume=True, say=quiet)
        state = [*run.training.model.state_dict().values(), *run.training.average.state_dict().values()]
        return digest(run.step, *state, *flat_state(run.training.optimisers).values())

    def released() -> str:
        return digest(*load_model(find_model(str(root / "released"))).state_dict().values())

    def exported() -> str:
        verified(root / "onnx")
        return digest(*(p.read_bytes() for p in sorted((root / "onnx").iterdir()) if not p.name.startswith(".")))

    def captions() -> str:
        store = cached(encoder, texts, home() / "text")
        return digest(*(part for text in texts for part in _one(store, text)))

    data(), captions()
    kinds = {
        "dataset": (root / "data", data),
        "pictures' cache": (home() / "pictures", data),
        "captions' cache": (home() / "text", captions),
        "checkpoint": (root / "run", run),
        "released model": (root / "released", released),
    }
    return kinds | ({"export": (root / "onnx", exported)} if export else {})


def _one(store: Any, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    cond = store.cond(store.places([text]))
    return cond.tokens, cond.pooled


def damage(path: Path, others: list[Path], dice: random.Random) -> str:
    """Damage a file in one of seven ways; returns which."""
    data = bytearray(path.read_bytes())
    size = len(data)
    way = dice.choice(["flip", "cut", "zeros", "noise", "double", "empty", "remove", "swap"])
    if way == "flip" and size:
        data[dice.randrange(size)] ^= 1 << dice.randrange(8)
    elif way == "cut" and size:
        data = data[: dice.randrange(size)]
    elif way in ("zeros", "noise") and size:
        at, length = dice.randrange(size), dice.randint(1, 64)
        data[at : at + length] = bytes(length) if way == "zeros" else dice.randbytes(length)
        data = data[:size]
    elif way == "double":
        data = data + data
    elif way == "empty":
        data = bytearray()
    elif way == "swap" and others:
        data = bytearray(dice.choice(others).read_bytes())
    if way == "remove":
        path.unlink()
    else:
        path.write_bytes(data)
    return way


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-export", action="store_true", help="leave the export out, which takes longest to make")
    args = parser.parse_args()
    from zaozi.core.errors import ZaoziError

    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="zaozi-corrupt-"))
    good = root.with_name(root.name + "-good")
    os.environ["ZAOZI_HOME"] = str(root / "home")
    dice = random.Random(args.seed)
    outcomes: Counter[str] = Counter()
    wrong = []
    try:
        kinds = prepared(root, export=not args.no_export)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = {name: read() for name, (_, read) in kinds.items()}
        shutil.copytree(root, good)
        for _ in range(args.count):
            name = dice.choice(list(kinds))
            folder, read = kinds[name]
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            path = dice.choice(files)
            way = damage(path, [p for p in files if p != path], dice)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    outcome = "as before" if read() == before[name] else "told" if told else "SILENT"
                except ZaoziError as error:
                    outcome = "refused" if "\n" not in str(error) else "MANY LINES"
                except Exception as error:
                    outcome = f"FAILED ({type(error).__name__}: {error})"
            if outcome[:2].isupper():
                wrong.append(f"{name}: {path.relative_to(root)}, {way}: {outcome}")
            outcomes[outcome.split(" (")[0]] += 1
            for part in (p.name for p in good.iterdir()):
                shutil.rmtree(root / part)
                shutil.copytree(good / part, root / part)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(good, ignore_errors=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    for line in wrong:
        print(line)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
