"""Reference network: a small CNN that classifies a glyph's radical, structure and parts; its features measure distances."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from zaozi.core.config import Config, config, from_dict, to_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.files import sha256, write_json
from zaozi.core.journal import verified
from zaozi.core.noise import lent_generator
from zaozi.core.outputs import Output
from zaozi.data.pairs import Pairs
from zaozi.data.unihan import radical, radical_forms
from zaozi.model.checkpoint import fill, read_tensors

SHIPPED = Path(__file__).resolve().parent / "weights"
CONFIG, WEIGHTS = "reference.json", "reference.safetensors"
NAMES = ("*.json", "*.safetensors")
SIDE = 64
FEATURES = 192


@config()
class ReferenceConfig(Config):
    """Classes of the network, and its accuracy on held-out glyphs."""

    radicals: tuple[int, ...]
    """Kangxi radical numbers, by class."""
    structures: tuple[str, ...]
    parts: tuple[str, ...]
    """Parts detected anywhere in a glyph; a radical's character includes all its forms (金 for 釒 and 钅)."""
    radical_accuracy: float = 0.0
    structure_accuracy: float = 0.0
    parts_precision: float = 0.0
    parts_recall: float = 0.0
    held_out: int = 0
    """Number of held-out glyphs."""


class Trunk(nn.Module):
    """Pictures `[B, C, S, S]` in [-1, 1] (white +1) -> features `[B, 192]`: six convolutions at 32, 16 and 8 pixels."""

    def __init__(self) -> None:
        super().__init__()

        def block(i: int, o: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for width in (i, o):
                layers += [nn.Conv2d(width, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
            return nn.Sequential(*layers, nn.MaxPool2d(2))

        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1),  # (B, 32, 32, 32)
            block(32, 64),  # (B, 64, 16, 16)
            block(64, 128),  # (B, 128, 8, 8)
            block(128, 256),  # (B, 256, 4, 4)
            nn.Conv2d(256, 96, 1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(96 * 16, FEATURES),
        )

    def forward(self, x: Tensor) -> Tensor:
        ink = (1.0 - resized(x)) / 2.0
        return self.layers(ink.contiguous(memory_format=torch.channels_last))


def resized(x: Tensor) -> Tensor:
    """Convert pictures `[B, C, S, S]` to grayscale at the network's size, `[B, 1, 64, 64]`, by averaging or interpolation."""
    grey = x.mean(1, keepdim=True)
    if grey.shape[-1] > SIDE:
        return F.adaptive_avg_pool2d(grey, SIDE)
    return F.interpolate(grey, SIDE, mode="bilinear") if grey.shape[-1] < SIDE else grey


class Reference(nn.Module):
    """Features with three heads: `radical` and `structure` (multi-class), `parts` (multi-label)."""

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk()
        self.radical = nn.Linear(FEATURES, len(config.radicals))
        self.structure = nn.Linear(FEATURES, len(config.structures))
        self.parts = nn.Linear(FEATURES, len(config.parts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits `[B, radicals]`, `[B, structures]`, `[B, parts]`."""
        z = self.trunk(x)
        return self.radical(z), self.structure(z), self.parts(z)


@dataclass(frozen=True)
class Seen:
    """Outputs of the reference network for N glyphs."""

    features: NDArray[np.float64]
    """`[N, 192]`"""
    radical: NDArray[np.int64]
    """Kangxi number of the most likely radical, `[N]`."""
    structure: NDArray[np.int64]
    """Index of the most likely structure, `[N]`."""
    parts: NDArray[np.bool_]
    """Detected parts (probability above 0.5), `[N, parts]`."""

    def take(self, rows: NDArray[np.integer] | Sequence[int]) -> Seen:
        index = np.asarray(rows, np.int64)
        return Seen(self.features[index], self.radical[index], self.structure[index], self.parts[index])


@torch.inference_mode()
def look(network: Reference, pictures: NDArray[np.uint8], batch: int = 256) -> Seen:
    """Apply the network to pictures `[N, C, S, S]` uint8 (255 is white)."""
    network.eval()
    numbers = np.array(network.config.radicals)
    made = []
    for start in range(0, max(len(pictures), 1), batch):
        x = torch.from_numpy(np.array(pictures[start : start + batch])).float().div(127.5).sub(1.0)
        z = network.trunk(x)
        radicals, structures = numbers[network.radical(z).argmax(1)], network.structure(z).argmax(1)
        made.append(Seen(z.double().numpy(), radicals, structures.numpy(), network.parts(z).numpy() > 0))
    return joined(made)


def joined(some: Sequence[Seen]) -> Seen:
    """Concatenate several sets."""
    columns = zip(*(vars(s).values() for s in some), strict=True)
    return Seen(*(np.concatenate(column) for column in columns))


def in_words(network: Reference) -> str:
    """Return one line about the network's accuracy."""
    c = network.config
    return (
        f"reference network on {c.held_out} held-out glyphs: radical {100 * c.radical_accuracy:.1f}%, "
        f"structure {100 * c.structure_accuracy:.1f}%, parts {100 * c.parts_precision:.1f}% precision and "
        f"{100 * c.parts_recall:.1f}% recall"
    )


# -- training labels ------------------------------------------------------------------------------------------------

RESERVED = 0.15


def reserved(pairs: Pairs) -> NDArray[np.bool_]:
    """Return a mask `[N]` of training glyphs reserved from the reference network (about 15%), the real glyphs for floors.
    Like the splits, groups of equal captions and cross-references stay together."""
    shares = [
        int.from_bytes(hashlib.sha256(f"reserved {g}".encode()).digest()[:8], "big") for g in pairs.columns["group"]
    ]
    return np.array(shares, np.float64) < RESERVED * 2**64


def parts_of(character: str, components: Sequence[str], number: int) -> set[str]:
    """Return the part labels of a glyph: every component, with forms of a radical mapped to the radical's character."""
    forms = radical_forms()
    found = {radical(number)} if number else set()
    for part in (character, *components):
        found |= {radical(n) for n in forms[part]} if part in forms else {part}
    return found


def all_parts(pairs: Pairs) -> list[set[str]]:
    """Return `parts_of` for every row."""
    columns = (pairs.columns[name] for name in ("character", "components", "radical"))
    return [parts_of(c, parts, number or 0) for c, parts, number in zip(*columns, strict=True)]


def check_columns(pairs: Pairs) -> None:
    """Raises `ZaoziError` if a dataset is empty or lacks the columns that the reference network needs."""
    if not len(pairs):
        raise ZaoziError("the dataset lacks training, validation or test glyphs; build a larger one")
    for name in ("character", "components", "cross_reference", "group", "radical", "structure"):
        if name not in pairs.columns:
            raise ZaoziError(f"the dataset has no column '{name}'; evaluation needs glyphs (zaozi data build)")


def labels(pairs: Pairs, least: int = 30) -> ReferenceConfig:
    """Return the classes of a training split: all radicals and structures, and parts of at least `least` glyphs."""
    check_columns(pairs)
    counts = Counter(part for parts in all_parts(pairs) for part in parts)
    return ReferenceConfig(
        radicals=tuple(sorted({r for r in pairs.columns["radical"] if r})),
        structures=tuple(sorted(set(pairs.columns["structure"]))),
        parts=tuple(sorted(part for part, n in counts.items() if n >= least)),
    )


def targets(config: ReferenceConfig, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Return radical and structure classes `[N]` (-100 unknown), and parts `[N, parts]` as 0 or 1."""
    check_columns(pairs)
    radicals = {number: i for i, number in enumerate(config.radicals)}
    structures = {name: i for i, name in enumerate(config.structures)}
    index = {part: i for i, part in enumerate(config.parts)}
    parts = torch.zeros(len(pairs), len(config.parts))
    for row, found in enumerate(all_parts(pairs)):
        parts[row, [index[part] for part in found if part in index]] = 1.0
    return (
        torch.tensor([radicals.get(r, -100) for r in pairs.columns["radical"]]),
        torch.tensor([structures.get(s, -100) for s in pairs.columns["structure"]]),
        parts,
    )


# -- on disk --------------------------------------------------------------------------------------------------------


def reference_output(folder: Path, *, overwrite: bool = False) -> Output:
    """Return the output folder of a reference network."""
    return Output(folder, "reference", NAMES, overwrite=overwrite)


def save_reference(output: Output, network: Reference) -> None:
    """Write the network in half precision."""
    with output.write() as work:
        save_file({k: half(v) for k, v in network.state_dict().items()}, work / WEIGHTS)
        write_json(work / CONFIG, to_dict(network.config))


def half(value: Tensor) -> Tensor:
    """Convert a floating-point tensor to half precision for saving."""
    return (value.half() if value.is_floating_point() else value).contiguous()


def load_reference(folder: Path | None = None) -> Reference:
    """Load the bundled reference network, or one from a folder. Raises `ZaoziError` if it is missing or damaged."""
    folder = folder or SHIPPED
    verified(folder, (CONFIG, WEIGHTS))
    try:
        config = from_dict(ReferenceConfig, json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ZaoziError(
            f"{folder} holds no reference network ({error}); train one: zaozi evaluate train-reference"
        ) from None
    with lent_generator(0):
        network = Reference(config)
    fill(network, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return network.eval().requires_grad_(False)


def fingerprint(folder: Path | None = None) -> str:
    """Return the SHA-256 of the network's weights."""
    return sha256((folder or SHIPPED) / WEIGHTS)
