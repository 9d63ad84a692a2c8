"""Imported pipelines of diffusers draw what diffusers draws with them, and are models like any other."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)
from PIL import Image
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)
from transformers.utils import sentencepiece_model_pb2_new

from conftest import fill_randomly, word_tokenizer
from test_export_diffusers import drawn_elsewhere
from zaozi.cli.main import main
from zaozi.core.components import samplers
from zaozi.core.errors import ZaoziError
from zaozi.core.noise import lent_generator, picture_noise
from zaozi.core.recipe import DiffusionConfig
from zaozi.core.sampling import Guidance, Sampling
from zaozi.diffusion.levels import levels
from zaozi.diffusion.samplers import sampler
from zaozi.diffusion.schedules import schedule
from zaozi.guide.compact import compact_model
from zaozi.model.checkpoint import load_model, newest, read_config
from zaozi.model.diffusers import import_diffusers
from zaozi.pipeline import TextToImage, draw
from zaozi.pipeline.drawing import guided
from zaozi.text.encoders import load_encoder

PROMPTS = ["a small bird", "gold"]
STEPS, PICTURES = 5, range(2)
LENGTH = 12
"""Tokens that the tiny CLIP reads."""
TEXTUAL = {
    "sample_size": 32,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 16, 16, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}


@dataclass(frozen=True)
class Built:
    """A pipeline in diffusers' format, and the T5 it needs, if that is elsewhere."""

    folder: Path
    text: str = ""


def save(folder: Path, parts: dict[str, Any], kind: str = "SomePipeline") -> None:
    """A pipeline of these parts, as save_pretrained writes it."""
    index: dict[str, Any] = {"_class_name": kind, "_diffusers_version": "0.30.0"}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))


def t5(folder: Path) -> None:
    """A tiny random T5 v1.1 with a word tokenizer."""
    word_tokenizer(folder)
    how = T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu")
    T5EncoderModel(how).save_pretrained(folder)


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """Pipelines of a U-Net, a scheduler and the name of a class that diffusers does not have; the T5 is elsewhere."""
    root = tmp_path_factory.mktemp("glyphs")
    with lent_generator(0):
        t5(root / "t5")
        unet = fill_randomly(UNet2DConditionModel(**TEXTUAL), 0.05)

    def build(**scheduler: Any) -> Built:
        folder = root / f"pipeline-{len(list(root.iterdir()))}"
        save(folder, {"unet": unet, "scheduler": DDPMScheduler(**scheduler)}, "GlyphPipeline")
        (folder / "pipeline.py").write_text(f"open({str(root / 'PWNED')!r}, 'w')\nclass GlyphPipeline: pass\n")
        return Built(folder, f"t5:{root / 't5'}")

    return build


@pytest.fixture(scope="module")
def imported(glyphs: Callable[..., Built], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The usual one, imported by the command."""
    built, out = glyphs(), tmp_path_factory.mktemp("imported") / "model"
    assert main(["import", f"diffusers:{built.folder}", "--out", str(out), "--text-encoder", built.text]) == 0
    return out


def read_t5(built: Built, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The states of texts and their mask, by transformers."""
    folder = built.text.removeprefix("t5:")
    tokenizer, network = PreTrainedTokenizerFast.from_pretrained(folder), T5EncoderModel.from_pretrained(folder).eval()
    words = tokenizer(list(texts), padding=True, return_tensors="pt")
    given = {key: words[key] for key in ("input_ids", "attention_mask")}
    return network(**given).last_hidden_state, given["attention_mask"]


def trailing(kind: Any, folder: Path, **changes: Any) -> Any:
    """The pipeline's scheduler as another class, at the timesteps that the uniform grid has."""
    made = kind.from_pretrained(folder / "scheduler", timestep_spacing="trailing", **changes)
    made.set_timesteps(STEPS)
    return made


SCHEDULERS: dict[str, Callable[[Path], Any]] = {
    "ddpm": lambda folder: trailing(DDPMScheduler, folder, clip_sample=True),
    "ddim": lambda folder: trailing(DDIMScheduler, folder, clip_sample=False),
    "dpmpp-2m": lambda folder: trailing(DPMSolverMultistepScheduler, folder, final_sigmas_type="zero"),
}


@torch.no_grad()
def theirs(
    scheduler: Any, call: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], monkeypatch: Any
) -> Tensor:
    """What a loop over a scheduler of diffusers draws, with zaozi's noise, which at the start has the schedule's sigma."""
    noise, drawn = picture_noise(7, PICTURES, shape), iter(range(1, 100))
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: noise(next(drawn)))
    x = float((1.0 - scheduler.alphas_cumprod[-1].double()).sqrt()) * noise(0)
    for k in scheduler.timesteps:
        x = scheduler.step(call(x, k), k, x).prev_sample
    return x


@torch.no_grad()
def ours(artist: TextToImage, name: str, prompts: Sequence[str], scale: float = 1.0) -> Tensor:
    """What zaozi draws with an imported model, before it is decoded."""
    model = artist.model
    path, noise = levels(model.schedule, STEPS), picture_noise(7, PICTURES, model.shape)
    limit = "clamp" if name == "ddpm" else "none"
    denoise = guided(model, [(artist.encode(prompts), 1.0)], Guidance(scale, low=0.0, threshold=limit))
    return sampler(name)(denoise, float(path[0].sigma) * noise(0), path, noise=noise)


def agree(found: Tensor, wanted: Tensor) -> None:
    """Within 1e-4 of the larger of 1 and the largest value."""
    assert float((found - wanted).abs().max()) < 1e-4 * max(1.0, float(wanted.abs().max()))


LINEAR: dict[str, Any] = {}
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SIGMOID = {"beta_schedule": "sigmoid", "beta_start": 1e-4, "beta_end": 0.03, "num_train_timesteps": 500}


@pytest.mark.parametrize(
    ("name", "prediction", "betas"),
    [
        ("ddpm", "epsilon", LINEAR),
        ("ddim", "epsilon", LINEAR),
        ("dpmpp-2m", "epsilon", LINEAR),
        ("ddim", "sample", {"beta_schedule": "squaredcos_cap_v2"}),
        ("dpmpp-2m", "v_prediction", SCALED),
        ("ddpm", "v_prediction", SIGMOID),
    ],
)
def test_an_imported_pipeline_draws_what_diffusers_draws(
    glyphs: Callable[..., Built],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    prediction: str,
    betas: dict[str, Any],
) -> None:
    built = glyphs(prediction_type=prediction, **betas)
    import_diffusers(str(built.folder), tmp_path / "model", text_encoder=built.text)
    artist = TextToImage.from_pretrained(tmp_path / "model")
    unet = UNet2DConditionModel.from_pretrained(built.folder / "unet").eval()
    states, mask = read_t5(built, PROMPTS)
    wanted = theirs(
        SCHEDULERS[name](built.folder),
        lambda x, k: unet(x, k, encoder_hidden_states=states, encoder_attention_mask=mask).sample,
        (1, 32, 32),
        monkeypatch,
    )
    found = ours(artist, name, PROMPTS)
    agree(found, wanted)
    if (name, prediction) == ("dpmpp-2m", "v_prediction"):
        with pytest.raises(AssertionError):
            agree(ours(artist, name, PROMPTS[::-1]), wanted)  # it reads the text


def clip_pipeline(folder: Path) -> dict[str, Any]:
    """A latent pipeline with a CLIP whose tokenizer has only its old files; returns its parts."""
    base = CLIPTokenizer()
    symbols = list(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("g", "o"), ("l", "d</w>"), ("go", "ld</w>")]
    words = [*symbols, *(s + "</w>" for s in symbols), *("".join(pair) for pair in pairs)]
    vocabulary = {w: i for i, w in enumerate([*words, base.bos_token, base.eos_token])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=LENGTH)
    with lent_generator(1):
        how = CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
        )
        parts = {
            "unet": fill_randomly(
                UNet2DConditionModel(**TEXTUAL | {"sample_size": 16, "in_channels": 4, "out_channels": 4}), 0.05
            ),
            "scheduler": DDIMScheduler(**SCALED),
            "vae": AutoencoderKL(
                block_out_channels=(8, 16),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                norm_num_groups=4,
                sample_size=32,
            ),
            "text_encoder": fill_randomly(CLIPTextModel(how), 0.1),
            "tokenizer": tokenizer,
        }
    save(folder, parts)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, pairs)) + "\n")
    return parts


def test_a_latent_pipeline_with_clip_draws_what_diffusers_draws_with_and_without_guidance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = clip_pipeline(tmp_path / "pipeline")
    unet, vae, clip = (parts[name].eval() for name in ("unet", "vae", "text_encoder"))
    import_diffusers(str(tmp_path / "pipeline"), tmp_path / "model")
    artist = TextToImage.from_pretrained(tmp_path / "model")
    assert artist.model.config.size == 32
    assert artist.model.config.diffusion.schedule == "scaled_linear"

    @torch.no_grad()
    def states(texts: Sequence[str]) -> Tensor:
        words = parts["tokenizer"](
            list(texts), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        )
        return clip(words.input_ids).last_hidden_state

    long = [*PROMPTS[:1], "gold " * 20]
    text, empty = states(long), states(["", ""])

    def call(scale: float) -> Callable[[Tensor, Tensor], Tensor]:
        def guide(x: Tensor, k: Tensor) -> Tensor:
            wanted, base = (unet(x, k, encoder_hidden_states=s).sample for s in (text, empty))
            return base + scale * (wanted - base)

        return guide

    for scale in (1.0, 3.0):
        wanted = theirs(SCHEDULERS["ddim"](tmp_path / "pipeline"), call(scale), (4, 16, 16), monkeypatch)
        found = ours(artist, "ddim", long, scale)
        agree(found, wanted)
        with torch.no_grad():
            decoded = vae.decode(wanted / vae.config.scaling_factor).sample.clamp(-1, 1)
            agree(artist.model.space.decode(found), decoded)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        agree(artist.model.space.encode(picture), vae.encode(picture).latent_dist.mode() * vae.config.scaling_factor)


def test_an_unconditional_pipeline_draws_what_diffusers_draws_and_needs_no_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    with lent_generator(2):
        unet = UNet2DModel(sample_size=16, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    fill_randomly(unet, 0.05)
    save(tmp_path / "pipeline", {"unet": unet, "scheduler": DDPMScheduler()})
    (tmp_path / "pipeline" / "README.md").write_text("---\nlicense: mit\n---\n# Butterflies\n")
    model = tmp_path / "model"
    import_diffusers(str(tmp_path / "pipeline"), model)
    wanted = theirs(SCHEDULERS["ddpm"](tmp_path / "pipeline"), lambda x, k: unet(x, k).sample, (3, 16, 16), monkeypatch)
    agree(ours(TextToImage.from_pretrained(model), "ddpm", ["", ""]), wanted)
    assert "licensed under mit" in (model / "card.md").read_text()
    assert main(["generate", "--model", str(model), "--steps", "2", "--count", "2", "--out", str(tmp_path / "o")]) == 0
    made = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "o").glob("000-*/*.png"))]
    assert len(made) == 2
    assert not np.array_equal(*made)


@pytest.mark.parametrize(
    ("name", "betas"),
    [
        ("linear", {}),
        ("linear:0.0001:0.03:500", {"beta_end": 0.03, "num_train_timesteps": 500}),
        ("scaled_linear", SCALED),
        ("scaled_linear:0.001:0.014", {"beta_schedule": "scaled_linear", "beta_start": 0.001, "beta_end": 0.014}),
        ("cosine", {"beta_schedule": "squaredcos_cap_v2"}),
        ("cosine:4000", {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 4000}),
        ("sigmoid:0.0001:0.03:500", SIGMOID),
    ],
)
def test_schedules_are_those_of_diffusers(name: str, betas: dict[str, Any]) -> None:
    """Its betas are float32; 1 - beta then has few digits where beta is near 1, which the cosine reaches at its end."""
    found, scheduler = schedule(name), DDPMScheduler(**betas)
    assert found.name == name
    assert found.alpha_bar is not None
    own = 1.0 - found.alpha_bar[1:] / found.alpha_bar[:-1]
    assert own == pytest.approx(scheduler.betas.double().numpy(), rel=1e-6)
    assert found.alpha_bar[1:] == pytest.approx(scheduler.alphas_cumprod.double().numpy(), rel=2e-4)
    steps = len(own)
    level = found.level(1000.0 * 123 / steps)
    assert float(level.alpha) ** 2 == pytest.approx(found.alpha_bar[123], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("linear:0.1", None),
        ("linear:a:b", "write linear:START:END:STEPS"),
        ("linear:0.1:0.2:500:3", "write linear:START:END:STEPS"),
        ("linear_path:500", "write linear_path"),
        ("linear:0.1:2", "above 0 and below 1"),
        ("cosine:1", "whole number, 2 to"),
        ("scaled_liner:0.1:0.2", "did you mean 'scaled_linear'"),
    ],
)
def test_schedules_with_wrong_numbers_are_refused_in_one_line(name: str, why: str | None) -> None:
    if why is None:
        DiffusionConfig(schedule="linear:0.001")
        return
    with pytest.raises(ZaoziError, match=why) as told:
        DiffusionConfig(schedule=name)
    assert "\n" not in str(told.value)


def test_timesteps_are_whole_at_every_level_of_training(imported: Path) -> None:
    model = load_model(imported)
    network: Any = model.network
    for name in ("linear", "scaled_linear:0.00085:0.012", "cosine:400", "sigmoid:0.0001:0.03:500"):
        path = schedule(name)
        assert path.alpha_bar is not None
        network.logsnr = torch.from_numpy(path.logsnrs[:-1]).float()
        network.fall = -torch.from_numpy(np.diff(path.logsnrs)).float()
        share = path.level(torch.from_numpy(path.times)).noise_share(len(path.times))
        assert torch.equal(network.timestep(share), torch.arange(len(path.times)).float()), name
        between = path.level(torch.from_numpy(path.times[:-1] + 0.5 * path.times[0])).noise_share(len(path.times) - 1)
        assert torch.allclose(network.timestep(between), torch.arange(len(path.times) - 1) + 0.5, atol=0.02), name


def test_every_sampler_draws_with_an_imported_model(imported: Path) -> None:
    artist = TextToImage.from_pretrained(imported)
    cond = artist.encode(PROMPTS)
    for name in samplers:
        made = draw(artist.model, cond, Sampling(3, name, Guidance(2.0)), pictures=PICTURES)
        assert made.shape == (2, 1, 32, 32)
        assert made.isfinite().all(), name


def test_an_imported_model_is_trained_further_released_and_taken_elsewhere(
    imported: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = tmp_path / "run", tmp_path / "released"
    words = ["train", str(imported / "recipe.toml"), "--data.path", str(tiny_data), "--out", str(run)]
    words += ["--init-from", str(imported), "--train.batch-size", "4", "--train.device", "cpu"]
    words += ["--train.sample-every", "0", "--train.validate-every", "0"]
    assert main([*words, "--steps", "6"]) == 0, capsys.readouterr().err
    assert main([*words, "--steps", "10", "--resume"]) == 0, capsys.readouterr().err
    before, after = load_model(imported), load_model(newest(run) or run)
    change = [float((a - b).abs().max()) for a, b in zip(after.parameters(), before.parameters(), strict=True)]
    assert 0 < max(change) < 1e-3
    assert main(["model", "release", str(run), str(model)]) == 0, capsys.readouterr().err
    assert main(["model", "assemble", str(model), str(tmp_path / "assembled")]) == 0, capsys.readouterr().err
    shutil.move(run, tmp_path / "gone")
    for folder in (model, tmp_path / "assembled"):
        assert read_config(folder).text.encoder == "t5:text"
        moved = TextToImage.from_pretrained(shutil.move(folder, f"{folder}-moved"))
        assert torch.equal(moved.encode(PROMPTS).tokens, TextToImage.from_pretrained(imported).encode(PROMPTS).tokens)
        assert len(moved("gold", num_steps=2)) == 1


def test_an_imported_model_is_exported_and_the_page_says_which_schedules_it_knows(
    glyphs: Callable[..., Built], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = glyphs(**SCALED)
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("UpBlock2D",) * 2}
    with lent_generator(3):
        unet = UNet2DConditionModel(**TEXTUAL | blocks | {"block_out_channels": (8, 16), "sample_size": 16})
        fill_randomly(unet, 0.05).save_pretrained(built.folder / "unet")
    import_diffusers(str(built.folder), tmp_path / "model", text_encoder=built.text)
    assert main(["export", str(tmp_path / "model"), "--out", str(tmp_path / "onnx")]) == 0, capsys.readouterr().err
    with pytest.raises(ZaoziError, match="not with 'scaled_linear'"):
        compact_model(str(tmp_path / "model"))


def test_nothing_of_a_pipeline_is_executed(imported: Path, glyphs: Callable[..., Built]) -> None:
    root = glyphs().folder.parent
    assert (root / "pipeline-1" / "pipeline.py").is_file()
    assert not (root / "PWNED").exists()


def changed(folder: Path, path: str, **values: Any) -> None:
    """Other values in a JSON file of a pipeline."""
    found = json.loads((folder / path).read_text())
    (folder / path).write_text(json.dumps(found | values))


def pickled(folder: Path) -> None:
    """Weights as older versions wrote them."""
    for path in (folder / "unet").glob("*.safetensors"):
        path.unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda f: shutil.rmtree(f / "unet"), "has no unet/config.json"),
        (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json cannot be read"),
        (pickled, "are pickled, which can run code"),
        (lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"{}"), "cannot be read"),
        (lambda f: changed(f, "unet/config.json", _class_name="UNet3DConditionModel"), "unknown U-Net"),
        (lambda f: changed(f, "unet/config.json", addition_embed_type="text_time"), "addition_embed_type is not"),
        (lambda f: changed(f, "unet/config.json", num_class_embeds=10), "num_class_embeds is not supported"),
        (lambda f: changed(f, "unet/config.json", out_channels=2), "from 1 to 2 channels"),
        (lambda f: changed(f, "unet/config.json", block_out_channels=[8, 16, 16, 32]), "cannot be read|lack|misfit"),
        (lambda f: changed(f, "unet/config.json", cross_attention_dim=32), "text states of 32 channels"),
        (lambda f: changed(f, "scheduler/scheduler_config.json", trained_betas=[0.1]), "trained_betas is not"),
        (lambda f: changed(f, "scheduler/scheduler_config.json", rescale_betas_zero_snr=True), "zero_snr is not"),
        (lambda f: changed(f, "scheduler/scheduler_config.json", beta_schedule="laplace"), "unknown beta_schedule"),
        (lambda f: changed(f, "scheduler/scheduler_config.json", _class_name="EDMEulerScheduler"), "has no betas"),
        (lambda f: changed(f, "scheduler/scheduler_config.json", beta_end=7), "above 0 and below 1"),
    ],
)
def test_pipelines_that_cannot_be_imported_are_refused_in_one_line(
    glyphs: Callable[..., Built],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    why: str,
) -> None:
    built = glyphs()
    damage(built.folder)
    capsys.readouterr()
    words = ["import", f"diffusers:{built.folder}", "--out", str(tmp_path / "model"), "--text-encoder", built.text]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert re.search(why, said), said
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("source", "options", "why"),
    [
        ("diffusers:someone/glyphs", (), "--allow-download to fetch it"),
        ("diffusers:/nowhere", (), "/nowhere is not a folder"),
        ("flax:someone/glyphs", (), "use diffusers: and a folder"),
        ("{built}", (), "--text-encoder t5:FOLDER_OR_NAME"),
        ("{built}", ("--text-encoder", "t5:someone/t5"), "--allow-download to fetch it"),
        ("{built}", ("--text-encoder", "minilm"), "use 't5:' or 'clip:'"),
    ],
)
def test_what_is_not_here_is_named_in_one_line(
    glyphs: Callable[..., Built],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    options: tuple[str, ...],
    why: str,
) -> None:
    words = ["import", source.format(built=f"diffusers:{glyphs().folder}"), "--out", str(tmp_path / "model"), *options]
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert why in said


def test_a_t5_with_only_a_sentencepiece_model_is_read(glyphs: Callable[..., Built], tmp_path: Path) -> None:
    """The segmentation with the highest score, by hand: 'a gold g' is -1.5, -1, and -2 - 3 for the space and the letter."""
    built = glyphs()
    t5_folder = tmp_path / "t5"
    shutil.copytree(built.text.removeprefix("t5:"), t5_folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (t5_folder / name).unlink()
    proto = sentencepiece_model_pb2_new.ModelProto()
    proto.trainer_spec.unk_id = 2
    scores = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, "▁": -2.0, "▁gold": -1.0, "▁a": -1.5, "g": -3.0, "old": -3.0}
    for piece, score in scores.items():
        proto.pieces.add(piece=piece, score=score)
    (t5_folder / "spiece.model").write_bytes(proto.SerializeToString())
    import_diffusers(str(built.folder), tmp_path / "model", text_encoder=f"t5:{t5_folder}")
    encoder = load_encoder("t5:text", base=tmp_path / "model")
    assert encoder.tokens("a gold g") == ["▁a", "▁gold", "▁", "g", "</s>"]


def test_a_clip_reads_what_transformers_reads(tmp_path: Path) -> None:
    parts = clip_pipeline(tmp_path / "pipeline")
    import_diffusers(str(tmp_path / "pipeline"), tmp_path / "model")
    encoder = load_encoder("clip:text", 7, base=tmp_path / "model")
    cond = encoder.encode(["gold", ""])
    words = parts["tokenizer"](["gold", ""], padding="max_length", max_length=7, truncation=True, return_tensors="pt")
    with torch.no_grad():
        wanted = parts["text_encoder"].eval()(words.input_ids).last_hidden_state
    assert cond.mask.all()
    assert torch.allclose(cond.tokens, wanted, atol=1e-5)
    with pytest.raises(ZaoziError, match=f"max_tokens 64 is out of range; use 2 to {LENGTH}"):
        load_encoder("clip:text", 64, base=tmp_path / "model")


@pytest.mark.parametrize("kind", ["t5", "clip"])
def test_an_imported_model_goes_back_to_diffusers_and_returns_unchanged(
    kind: str, imported: Path, tmp_path: Path
) -> None:
    model = imported
    if kind == "clip":
        clip_pipeline(tmp_path / "pipeline")
        import_diffusers(str(tmp_path / "pipeline"), model := tmp_path / "model")
    there, back = tmp_path / "there", tmp_path / "back"
    assert main(["export", str(model), "--to", "diffusers", "--out", str(there)]) == 0
    artist = TextToImage.from_pretrained(model)
    how = Sampling(steps=STEPS, guidance=Guidance(1.5), seed=7)
    here = np.stack([np.asarray(picture) for _, _, picture in artist.pictures(PROMPTS, how)])
    asked = {"prompt": PROMPTS, "num_inference_steps": STEPS, "guidance_scale": 1.5, "generator": 7}
    made = drawn_elsewhere({str(there): {"usual": (None, asked)}}, tmp_path)["usual"]
    assert np.abs(made.astype(int) - here.astype(int)).max() <= 2

    assert main(["import", f"diffusers:{there}", "--out", str(back), "--name", artist.model.config.name]) == 0
    again = TextToImage.from_pretrained(back)
    assert read_config(back) == read_config(model)
    assert again.encoder.fingerprint == artist.encoder.fingerprint
    pairs = zip(again.model.state_dict().items(), artist.model.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)
    assert [*again.pictures(PROMPTS, how)] == [*artist.pictures(PROMPTS, how)]
