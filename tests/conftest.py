"""Small data, small models, and oracles with closed forms."""

from __future__ import annotations

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the promises tested are those of the CPU

import copy
import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from zaozi.core.machine import using_environment
from zaozi.core.recipe import DataConfig, DiffusionConfig, Recipe, TextConfig, TrainConfig
from zaozi.core.types import Cond
from zaozi.model.spaces.halved import HalvedConfig
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.nn.dit import DiTConfig
from zaozi.nn.properties.class_ import ClassProperty
from zaozi.nn.properties.number import NumberProperty

if TYPE_CHECKING:
    from zaozi import TextToImage

torch.set_num_threads(1)

SHAPES = {"disc": "ellipse", "box": "rectangle"}


def pytest_configure(config: pytest.Config) -> None:
    """Tests come in random order, where pytest-randomly is installed; the global generators stay as they are."""
    config.option.randomly_reset_seed = False


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches go to a folder of the test run; every worker has one of its own."""
    with using_environment({"ZAOZI_HOME": str(tmp_path_factory.mktemp("home"))}):
        yield


def switches() -> dict[str, object]:
    """What the whole process shares, by name."""
    return {
        "threads": torch.get_num_threads(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "autocast": torch.is_autocast_enabled("cpu"),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "NumPy's errors": np.geterr(),
        "Pillow's limit": Image.MAX_IMAGE_PIXELS,
        "filters of warnings": [*warnings.filters],
        "how warnings are shown": warnings.showwarning,
        "signal handlers": {s: signal.getsignal(s) for s in signal.valid_signals()},
        "folder": os.getcwd(),
        "environment": {k: v for k, v in os.environ.items() if k not in FOREIGN},
    }


FOREIGN = {"PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}
"""Variables that pytest, PyTorch and Numba set for the process."""


@pytest.fixture(autouse=True)
def _switches_untouched(_home: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test leaves a switch of the process other than it was, so neither does the code."""
    before, loaded = switches(), len(sys.modules)
    yield
    monkeypatch.undo()
    after = switches()
    if len(sys.modules) > loaded:  # some packages add filters when they are imported
        del before["filters of warnings"]
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    assert not changed, "\n".join(changed)


@pytest.fixture(autouse=True)
def _global_generator_untouched() -> Iterator[None]:
    """No test of ours moves the global generators, so neither does the code."""
    before, before_numpy = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    yield
    assert torch.equal(before, torch.get_rng_state()), "the global torch generator was used"
    assert before_numpy == str(np.random.get_state()), "the global NumPy generator was used"  # noqa: NPY002


def draw_folder(folder: Path, count: int = 24, size: int = 32, mode: str = "L") -> Path:
    """A folder of discs and boxes with captions beside them."""
    folder.mkdir(parents=True)
    rng = np.random.Generator(np.random.Philox(7))
    for i in range(count):
        kind = list(SHAPES)[i % 2]
        picture = Image.new(mode, (size, size), "white")
        x, y, r = (int(v) for v in (*rng.integers(8, size - 8, 2), rng.integers(3, 8)))
        getattr(ImageDraw.Draw(picture), SHAPES[kind])((x - r, y - r, x + r, y + r), fill="black")
        picture.save(folder / f"{i:02d}.png")
        (folder / f"{i:02d}.txt").write_text(f"a {kind} of size {r} number {i}")
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four 32x32 pictures as a built dataset."""
    from zaozi.data.folder import Square, build_folder

    root = tmp_path_factory.mktemp("tiny")
    build_folder(draw_folder(root / "pictures"), root / "data", Square(32), processes=1)
    return root / "data"


@pytest.fixture(scope="session")
def small_glyphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven hundred 32x32 glyphs as a built dataset."""
    from zaozi.data.glyphs import build_glyphs

    folder = tmp_path_factory.mktemp("small") / "data"
    build_glyphs(folder, limit=700, size=32)
    return folder


@pytest.fixture
def tiny_recipe(tiny_data: Path, tmp_path: Path) -> Recipe:
    """A run of seconds on the tiny data."""
    return Recipe(
        name="tiny",
        data=DataConfig(path=str(tiny_data)),
        network=DiTConfig(width=32, depth=2, head_width=16, patch=4),
        space=HalvedConfig(width=4, steps=3),
        diffusion=DiffusionConfig(),
        train=TrainConfig(
            out=str(tmp_path / "run"),
            steps=6,
            batch_size=8,
            precision="fp32",
            device="cpu",
            sample_every=0,
            validate_every=0,
            self_check=False,
            prompts=("a disc",),
        ),
    )


def with_train(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe with other training settings."""
    return replace(recipe, train=replace(recipe.train, **changes))  # type: ignore[arg-type]


def random_cond(count: int, length: int = 5, width: int = 384, seed: int = 0) -> Cond:
    """Text that means nothing, of lengths 1 to `length`."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (count, 1), generator=g)
    mask = torch.arange(length)[None] < lengths
    return Cond(torch.randn(count, length, width, generator=g), mask, torch.randn(count, width, generator=g))


def fill_randomly(module: torch.nn.Module, scale: float = 0.1, seed: int = 0) -> torch.nn.Module:
    """Weights away from their zero initialisation, so that every path matters."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=g))
        for part in module.modules():
            if isinstance(part, torch.nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx] = 0  # 'not given' never learns
    return module


PROPERTIES = (
    ClassProperty("kind", values=("disc", "box"), dropout=0.3),
    NumberProperty("size", mean=5.0, std=2.0, dropout=0.3),
)


@pytest.fixture(scope="session")
def glyph_artist() -> TextToImage:
    """An untrained model of 32x32 glyphs with the properties that glyphs have."""
    from zaozi import TextToImage
    from zaozi.core.recipe import ModelConfig
    from zaozi.model.denoiser import make_denoiser
    from zaozi.text.encoders import load_encoder

    properties = (
        ClassProperty("structure", values=("left-right", "single")),
        NumberProperty("strokes", mean=12.0, std=4.0),
        ClassProperty("radical", values=("85", "167")),
        ClassProperty("pinyin_initial", values=("y",)),
        ClassProperty("pinyin_final", values=("ang",)),
        ClassProperty("tone", values=("2",)),
    )
    network = DiTConfig(width=32, depth=2, head_width=16, patch=8)
    config = ModelConfig(
        "tiny", 32, 1, network, PixelsConfig(), DiffusionConfig(), TextConfig(max_tokens=16), properties
    )
    model = make_denoiser(config)
    fill_randomly(model.network, 0.2)
    return TextToImage(model, load_encoder("minilm", 16))


@pytest.fixture(scope="session")
def glyph_model(glyph_artist: TextToImage, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, in a folder."""
    from zaozi.model.checkpoint import save_model

    folder = tmp_path_factory.mktemp("glyphs") / "model"
    save_model(folder, glyph_artist.model)
    return str(folder)


@pytest.fixture(scope="session")
def halved(glyph_artist: TextToImage) -> TextToImage:
    """An artist whose weights half precision holds exactly, as those of a released model."""
    from zaozi import TextToImage

    model = copy.deepcopy(glyph_artist.model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half())
    return TextToImage(model, glyph_artist.encoder)


@pytest.fixture(scope="session")
def exported(halved: TextToImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ONNX files; the model is in the folder `model` beside them."""
    from zaozi.cli.main import main
    from zaozi.model.checkpoint import save_model

    folder = tmp_path_factory.mktemp("onnx")
    save_model(folder / "model", halved.model)
    assert main(["export", str(folder / "model"), "--out", str(folder / "files")]) == 0
    return folder / "files"


def word_tokenizer(folder: Path) -> None:
    """Save the tokenizer of a tiny T5, of eight words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", "gold", "fish", "a", "small", "bird"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
