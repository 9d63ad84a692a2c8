"""A model exported to diffusers draws the same pictures there, in a process that cannot import this package."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import PROPERTIES, fill_randomly
from zaozi.cli.main import main
from zaozi.core.components import NetworkConfig, SpaceConfig
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import DiffusionConfig, DistilledConfig, ModelConfig, StageConfig, TextConfig
from zaozi.core.sampling import Guidance, Sampling
from zaozi.export.bundle import bundle
from zaozi.export.diffusers import export_diffusers
from zaozi.model.denoiser import Denoiser, make_denoiser
from zaozi.model.diffusers import import_diffusers
from zaozi.model.spaces.autoencoder import AutoencoderConfig
from zaozi.model.spaces.halved import HalvedConfig
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.nn.dit import DiTConfig
from zaozi.nn.unet import UNetConfig
from zaozi.pipeline import TextToImage
from zaozi.text.encoders import load_encoder

DRAWING = """
import json, sys
sys.modules["zaozi"] = None  # importing it fails
import diffusers, numpy as np
asked = json.loads(sys.argv[1])
made = {}
for folder, draws in asked.items():
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    usual = pipe.scheduler
    for name, (scheduler, options) in draws.items():
        if scheduler:
            kind, settings = scheduler
            pipe.scheduler = getattr(diffusers, kind).from_config(usual.config, **settings)
        made[name] = np.stack([np.asarray(picture) for picture in pipe(**options).images])
        pipe.scheduler = usual
np.savez(sys.argv[2], **made)
"""


def drawn_elsewhere(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The pictures that diffusers draws in a process of its own."""
    path, out = folder / "draw.py", folder / "made.npz"
    path.write_text(DRAWING)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(folder / "modules"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path), json.dumps(asked), str(out)],
        check=False, env=environment, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(np.load(out))


def drawn_here(artist: TextToImage, prompts: list[str], how: Sampling, **options: Any) -> Any:
    return np.stack([np.asarray(picture) for _, _, picture in artist.pictures(prompts, how, **options)])


def artist(
    network: NetworkConfig,
    space: SpaceConfig,
    diffusion: DiffusionConfig,
    channels: int = 1,
    distilled: DistilledConfig | None = None,
) -> TextToImage:
    text = TextConfig(max_tokens=16)
    config = ModelConfig(
        "tiny", 32, channels, network, space, diffusion, text, PROPERTIES, StageConfig(), distilled or DistilledConfig()
    )
    model = make_denoiser(config)
    fill_randomly(model, 0.15)
    large = UNetConfig(
        width=8, depth=1, head_width=8, patch=2, multipliers=(1, 2), attention_levels=(), middle_attention=False,
        cross_attention=False, pooled_text=False,
    )  # fmt: skip
    straight = DiffusionConfig(schedule="linear_path", prediction="sample", weight="velocity")
    wide = ModelConfig(
        "wide",
        64,
        channels,
        large,
        PixelsConfig(),
        straight,
        TextConfig(max_tokens=16),
        (),
        StageConfig(2, noise=0.1, steps=3),
    )

    def stages() -> list[Denoiser]:
        stage = make_denoiser(wide)
        fill_randomly(stage, 0.1)
        return [stage]

    return TextToImage(model, load_encoder("minilm", 16), stages if diffusion.schedule == "linear_path" else tuple)


DIT = DiTConfig(width=32, depth=2, head_width=16, patch=4)
UNET = UNetConfig(width=16, depth=1, head_width=16, patch=2, multipliers=(1, 2), attention_levels=(1,))
STRAIGHT = DiffusionConfig(schedule="linear_path", prediction="sample", weight="velocity")
LATENT = AutoencoderConfig(factor=4, latent_channels=4, width=8, blocks=1)
ARTISTS = {
    "straight": lambda: artist(DIT, HalvedConfig(width=4, blocks=1, snap=0.1), STRAIGHT),
    "cosine": lambda: artist(UNET, PixelsConfig(), DiffusionConfig(schedule="cosine", prediction="v_prediction")),
    "student": lambda: artist(DIT, PixelsConfig(), STRAIGHT, distilled=DistilledConfig(4, 3.0, "base")),
    "latent": lambda: artist(DIT, LATENT, DiffusionConfig(schedule="linear", prediction="v_prediction"), channels=3),
}


def test_diffusers_draws_the_same_pictures_without_this_package(tmp_path: Path) -> None:
    flow = {"prediction_type": "flow_prediction"}
    cases: dict[str, tuple[str, dict[str, Any], Any]] = {
        "usual": ("straight", {}, None),
        "euler": ("straight", {"sampler": "euler"}, ("FlowMatchEulerDiscreteScheduler", flow)),
        "large": ("straight", {"size": 64}, None),
        "properties": ("straight", {"properties": {"kind": "box", "size": 7.0}}, None),
        "negative": ("straight", {"negative": "a disc"}, None),
        "student": ("student", {"steps": 4, "sampler": "ddim", "guidance": Guidance(1.0)}, None),
        "plain": ("straight", {"guidance": Guidance(1.0)}, None),
        "v": ("cosine", {}, None),
        "v ddim": ("cosine", {"sampler": "ddim", "steps": 8}, ("DDIMScheduler", {"clip_sample": False})),
        "v unipc": ("cosine", {"sampler": "unipc"}, ("UniPCMultistepScheduler", {"solver_order": 2})),
        "rgb": ("latent", {}, None),
        "rgb ddim": ("latent", {"sampler": "ddim"}, ("DDIMScheduler", {"clip_sample": False})),
    }  # fmt: skip
    prompts = ["a disc", "a box of size 5"]
    asked: dict[str, Any] = {}
    here = {}
    artists = {name: make() for name, make in ARTISTS.items()}
    for name, one in artists.items():
        export_diffusers(one, tmp_path / name)
    for name, (which, options, scheduler) in cases.items():
        own = {"steps": 10, "seed": 5, "guidance": Guidance(3.0)} | options
        extra = {key: own.pop(key) for key in ("properties", "negative") if key in own}
        here[name] = drawn_here(artists[which], prompts, Sampling(**own), count=2, **extra)
        usual = which == "student"  # its own number of steps, and no guidance
        there = {
            "prompt": prompts,
            "num_images_per_prompt": 2,
            "num_inference_steps": 0 if usual else own["steps"],
            "guidance_scale": None if usual else own["guidance"].scale,
            "generator": 5,
            "size": own.get("size", 0),
            "properties": extra.get("properties"),
            "negative_prompt": extra.get("negative", ""),
        }
        asked.setdefault(str(tmp_path / which), {})[name] = (scheduler, there)
    made = drawn_elsewhere(asked, tmp_path)
    off = {name: int(np.abs(made[name].astype(int) - here[name].astype(int)).max()) for name in cases}
    assert max(off.values()) <= 2, off
    assert min(picture.std() for picture in here.values()) > 5  # not just white


def test_the_shipped_model_draws_the_same_glyphs_in_diffusers(tmp_path: Path) -> None:
    assert main(["export", "base", "--to", "diffusers", "--out", str(tmp_path / "base")]) == 0
    base = TextToImage.from_pretrained("base", device="cpu")
    size = max([base.model.config.size, *(stage.config.size for stage in base.stages)])
    asked = {
        "prompt": ["gold"], "num_inference_steps": 8, "guidance_scale": 4.0, "generator": 3, "size": size,
        "num_images_per_prompt": 2,
    }  # fmt: skip
    made = drawn_elsewhere({str(tmp_path / "base"): {"gold": (None, asked)}}, tmp_path)["gold"]
    here = drawn_here(base, ["gold"], Sampling(steps=8, guidance=Guidance(4.0), seed=3, size=size), count=2)
    assert np.abs(made.astype(int) - here.astype(int)).max() <= 2
    assert made.shape == (2, size, size)


def test_weights_are_written_in_half_precision_only_if_nothing_is_lost(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    one = ARTISTS["straight"]()
    for half in (False, True):
        if half:
            with torch.no_grad():
                for weight in [*one.model.parameters(), *one.stages[0].parameters()]:
                    weight.copy_(weight.half())
        export_diffusers(one, tmp_path / "out")
        found = load_file(tmp_path / "out" / "denoiser" / "diffusion_pytorch_model.safetensors")
        assert {v.dtype for v in found.values()} == {torch.float16 if half else torch.float32}


@pytest.mark.parametrize("module", ["zaozi.export.pipeline", "zaozi.export.network"])
def test_the_exported_code_is_complete_and_its_own(module: str) -> None:
    """Every name is defined or imported, and nothing is imported from this package."""
    text = bundle(module)
    tree = ast.parse(text)
    origins = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    origins += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert not [origin for origin in origins if (origin or "").startswith("zaozi")]
    code = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", "-"],
        input=text, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert code.returncode == 0, code.stdout


def test_an_exported_model_with_a_stage_comes_back_unchanged(tmp_path: Path) -> None:
    one = ARTISTS["straight"]()
    export_diffusers(one, tmp_path / "there")
    assert main(["import", f"diffusers:{tmp_path / 'there'}", "--out", str(tmp_path / "back"), "--name", "tiny"]) == 0
    again = TextToImage.from_pretrained(tmp_path / "back")
    assert again.model.config == one.model.config
    how = Sampling(steps=4, size=64, guidance=Guidance(2.0))
    properties = {"kind": "box"}
    assert [*again.pictures(["a box"], how, properties=properties)] == [
        *one.pictures(["a box"], how, properties=properties)
    ]
    config = tmp_path / "there" / "denoiser" / "config.json"
    config.write_text(config.read_text().replace('"depth": 2', '"depth": -2', 1))
    with pytest.raises(ZaoziError, match="depth"):
        import_diffusers(str(tmp_path / "there"), tmp_path / "other")
