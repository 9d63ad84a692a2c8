"""Spaces: what they keep of pictures, and that training, drawing and export work in each."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image

from conftest import fill_randomly, with_train
from zaozi import TextToImage
from zaozi.cli.main import main
from zaozi.core.components import SpaceConfig, spaces
from zaozi.core.config import to_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.noise import lent_generator, training_generator
from zaozi.core.recipe import Recipe, TrainConfig
from zaozi.data.pairs import load_pairs
from zaozi.evaluate.two_sample import two_sample
from zaozi.export.onnx import export_onnx
from zaozi.model.adversary import Adversary
from zaozi.model.checkpoint import load_model, newest, read_tensors
from zaozi.model.space import crops, psnr, statistics
from zaozi.model.spaces.autoencoder import AutoencoderConfig
from zaozi.model.spaces.diffusers import DiffusersConfig
from zaozi.model.spaces.halved import HalvedConfig
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.train.loop import train as train_run
from zaozi.train.prepare import fit_space, prepare
from zaozi.train.redraw import redrawn
from zaozi.train.run import Workers

SMALL = AutoencoderConfig(factor=4, latent_channels=3, width=8, blocks=1, steps=4, adversarial=0.1)


def train(recipe: Recipe, *, resume: bool = False) -> dict[str, torch.Tensor]:
    """The weights after a run."""
    folder = train_run(prepare(recipe, resume=resume, say=lambda _: None))
    return read_tensors(folder / "model.safetensors")


def kl(folder: Path, channels: int = 3) -> Path:
    """A tiny AutoencoderKL with shift and scaling factors, saved as diffusers does."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = diffusers.AutoencoderKL(
            in_channels=channels, out_channels=channels, block_out_channels=(8, 8, 8), norm_num_groups=4, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            scaling_factor=0.4, shift_factor=0.1,
        )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def tiny(folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1), latent_channels=4, scaling_factor=0.7,
        )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def dc(folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = diffusers.AutoencoderDC(
            latent_channels=4, encoder_block_types="ResBlock", decoder_block_types="ResBlock",
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()),
            scaling_factor=0.3,
        )  # fmt: skip
    model.save_pretrained(folder)
    return folder


# -- the autoencoder ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "size"), [(2, 16), (4, 32), (8, 32), (16, 64)])
def test_an_autoencoder_has_the_shape_it_says(factor: int, size: int) -> None:
    config = AutoencoderConfig(factor=factor, latent_channels=5, width=4, blocks=1)
    with lent_generator(0):
        space = config.build(3)
    x = torch.linspace(-1, 1, 2 * 3 * size * size).reshape(2, 3, size, size)
    assert space.encode(x).shape[1:] == config.shape(size, 3) == (5, size // factor, size // factor)
    assert space.decode(space.encode(x)).shape == x.shape


@pytest.mark.parametrize(
    ("config", "size", "says"),
    [
        (AutoencoderConfig(factor=6), 36, "not a power of two"),
        (AutoencoderConfig(factor=8), 36, "do not divide by space.factor 8"),
        (HalvedConfig(), 33, "cannot be halved"),
    ],
)
def test_pictures_that_do_not_fit_are_one_line(config: SpaceConfig, size: int, says: str) -> None:
    with pytest.raises(ZaoziError, match=says):
        config.shape(size, 1)


def test_fitting_keeps_more_of_the_pictures_and_standardises_the_latents(tiny_data: Path) -> None:
    pairs = load_pairs(tiny_data, "train")
    config = AutoencoderConfig(factor=4, latent_channels=4, width=16, blocks=1, steps=150, adversarial=0.0)
    with lent_generator(0):
        space = config.build(1)
    fill_randomly(space, 0.01)
    before = psnr(space, pairs)
    losses: list[float] = []
    line = space.fit(pairs, seed=0, watch=lambda _, loss: losses.append(loss))
    assert len(losses) == 150
    assert psnr(space, pairs) > before + 6
    assert f"PSNR {psnr(space, pairs):.1f} dB" in line
    mean, std = statistics(space.encode, pairs)
    assert mean.abs().max() < 1e-3
    assert (std - 1).abs().max() < 1e-3
    assert not any(p.requires_grad for p in space.parameters())


@pytest.mark.parametrize("adversarial", [0.0, 0.05])
def test_updates_are_seen_in_half_precision(
    tiny_data: Path, adversarial: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch keeps converted weights for as long as its context lasts, and does not notice updates."""
    pairs = load_pairs(tiny_data, "train")
    with lent_generator(0):
        space = AutoencoderConfig(width=8, blocks=1, steps=60, adversarial=adversarial).build(1)
    errors: list[float] = []
    fit = space.fit
    monkeypatch.setattr(space, "fit", lambda data, **options: fit(data, watch=lambda _, error: errors.append(error)))
    recipe = Recipe(train=TrainConfig(precision="bf16"))
    fit_space(space, pairs, recipe, Workers(Accelerator(cpu=True), 1, print))
    assert np.mean(errors[-5:]) < 0.7 * np.mean(errors[:5])


def test_statistics_are_those_of_all_values_of_a_channel(tiny_data: Path) -> None:
    pairs = load_pairs(tiny_data, "train")
    mean, std = statistics(lambda x: torch.cat([x, 3 * x + 1], 1), pairs)
    x = pairs.batch(np.arange(len(pairs)))
    assert mean.ravel().tolist() == pytest.approx([float(x.mean()), float(3 * x.mean() + 1)], abs=1e-5)
    assert std.ravel().tolist() == pytest.approx([float(x.std()), float(3 * x.std())], rel=1e-3)


def test_crops_lie_on_the_grid(tiny_data: Path) -> None:
    pairs = load_pairs(tiny_data, "train")
    for step in range(5):
        made = crops(pairs, training_generator(step), count=3, side=20, multiple=8)
        assert made.shape == (3, 1, 16, 16)
    assert crops(pairs, training_generator(0), count=2, side=64, multiple=8).shape == (2, 1, 32, 32)


def test_an_adversary_learns_to_tell_and_a_decoder_to_escape() -> None:
    """Black against white: the discriminator prefers white, so the decoder's loss falls as its picture becomes lighter."""
    adversary = Adversary(1)
    real, made = torch.ones(4, 1, 32, 32), -torch.ones(4, 1, 32, 32)
    for _ in range(40):
        adversary.step(made, real)
    at_black, at_grey, at_white = (float(adversary.loss(v * torch.ones_like(real), real)) for v in (-1.0, 0.0, 1.0))
    assert at_black > at_grey > at_white
    assert at_white == pytest.approx(np.log(2), abs=1e-5), "the same as real"


@pytest.mark.parametrize("space", [SMALL, HalvedConfig(width=8, blocks=2, steps=4, adversarial=0.1)])
def test_a_run_in_a_space_resumes_bit_for_bit_and_draws(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: SpaceConfig
) -> None:
    network = replace(tiny_recipe.network, patch=2)  # type: ignore[call-arg]
    recipe = with_train(replace(tiny_recipe, space=space, network=network), steps=6, save_every=3)
    whole = train(recipe)
    stopped = with_train(recipe, out=str(tmp_path / "stopped"))
    shutil.copytree(recipe.train.out, stopped.train.out)
    shutil.rmtree(tmp_path / "stopped" / "step-00000006")
    train(stopped, resume=True)
    again = read_tensors(tmp_path / "stopped" / "step-00000006" / "model.safetensors")
    assert again.keys() == whole.keys()
    assert all(torch.equal(v, whole[k]) for k, v in again.items())
    folder = newest(Path(recipe.train.out))
    assert folder is not None
    artist = TextToImage.from_pretrained(folder)
    (picture,) = artist("a disc", num_steps=3)
    assert picture.size == (32, 32)
    disc = Image.new("L", (32, 32), "white")
    again = artist("a disc", num_steps=4, init=disc, strength=0.5)
    kept = artist("a disc", num_steps=4, init=disc, mask=disc)
    assert again[0].size == (32, 32)
    assert np.array_equal(np.asarray(kept[0]), np.asarray(disc)), "all of it is kept"
    seen: list[torch.Size] = []
    artist("a disc", num_steps=2, on_step=lambda t, x, x0, eps: seen.append(x0.shape))
    assert seen == [torch.Size([1, *artist.model.shape])] * 2
    film = tmp_path / "o.gif"
    command = [
        "generate",
        "a disc",
        "--model",
        str(folder),
        "--steps",
        "3",
        "--count",
        "1",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*command, "--video", str(film)]) == 0
    assert Image.open(film).size == (256, 256)
    export_onnx(artist, tmp_path / "onnx")  # raises if a part is off by 1e-3
    card = json.loads((tmp_path / "onnx" / "model.json").read_text())
    assert card["shape"] == list(artist.model.shape)
    assert (card["bounds"] is None) == (space is SMALL)
    assert ("space.onnx" in card["files"]) == (space is SMALL), "to start from a picture in latents"


def test_latents_are_encoded_once_and_a_changed_space_again(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAOZI_HOME", str(tmp_path / "home"))
    recipe = replace(tiny_recipe, space=SMALL)
    run = prepare(recipe, say=lambda _: None)
    assert run.batches.latents is not None
    assert run.batches.latents.shape[1:] == (3, 8, 8)
    x0 = run.batches.space.encode(run.batches.pairs.batch([3]))
    assert torch.allclose(torch.from_numpy(run.batches.latents[[3]].copy()), x0, atol=1e-5)
    prepare(with_train(recipe, out=str(tmp_path / "b"), seed=1), say=lambda _: None)
    assert len(list((tmp_path / "home" / "latents").iterdir())) == 2


def test_a_space_is_fitted_alone_and_used_by_training(
    tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(tiny_recipe, space=SMALL)
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'[data]\npath = "{recipe.data.path}"\n[space]\nkind = "autoencoder"\nfactor = 4\nlatent_channels = 3\nwidth = 8\n'
        "blocks = 1\nsteps = 4\nadversarial = 0.1\n[network]\nwidth = 32\ndepth = 2\nhead_width = 16\npatch = 2\n"
        '[train]\nbatch_size = 8\nprecision = "fp32"\nsample_every = 0\nself_check = false\n'
    )
    assert main(["space", "fit", str(path), "--out", str(tmp_path / "space")]) == 0
    said = capsys.readouterr().out
    assert "psnr:" in said
    assert "told_apart:" in said
    assert Image.open(tmp_path / "space" / "space.png").height > 64
    fitted = read_tensors(tmp_path / "space" / "space.safetensors")
    told = ["--train.space-from", str(tmp_path / "space"), "--steps", "1"]
    assert main(["train", str(path), *told, "--out", str(tmp_path / "run")]) == 0
    folder = newest(tmp_path / "run")
    assert folder is not None
    model = read_tensors(folder / "model.safetensors")
    assert all(torch.equal(v, model[f"space.{k}"]) for k, v in fitted.items())
    assert main(["train", str(path), *told, "--space.width", "4", "--out", str(tmp_path / "other")]) == 2
    assert "has other settings" in capsys.readouterr().err
    assert (
        main(["train", str(path), "--train.space-from", str(folder), "--steps", "1", "--out", str(tmp_path / "c")]) == 0
    )
    (tmp_path / "space" / "space.safetensors").write_bytes(b"x")
    assert main(["train", str(path), *told, "--out", str(tmp_path / "d")]) == 2


def test_a_model_with_another_space_gives_its_network(tiny_recipe: Recipe, tmp_path: Path) -> None:
    first = train(tiny_recipe)
    said: list[str] = []
    wider = replace(tiny_recipe, space=HalvedConfig(width=8, blocks=1, steps=3))
    recipe = with_train(wider, init_from=tiny_recipe.train.out, out=str(tmp_path / "b"))
    run = prepare(recipe, say=said.append)
    assert any("has another space" in line for line in said)
    own = run.training.model.state_dict()
    assert all(torch.equal(own[k], v) for k, v in first.items() if k.startswith("network."))
    assert own["space.net.0.weight"].shape == (8, 1, 3, 3)


# -- autoencoders of diffusers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [kl, tiny, dc])
def test_an_autoencoder_of_diffusers_encodes_and_decodes_as_there(
    tmp_path: Path, tiny_data: Path, make: object
) -> None:
    folder = make(tmp_path / "vae")  # type: ignore[operator]
    config = DiffusersConfig(path=str(folder)).filled()
    shutil.move(folder, tmp_path / "moved")
    with lent_generator(0):
        space = DiffusersConfig(path=str(tmp_path / "moved"), settings=config.settings).build(3)
        space.network.load_state_dict(type(space.network).from_pretrained(tmp_path / "moved").state_dict())
    own = space.network.config
    x = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    with torch.no_grad():
        said = space.network.encode(x)
        z = said.latent_dist.mode() if make is kl else said.latents if make is tiny else said.latent
        wanted = (z - (own.get("shift_factor") or 0.0)) * own.scaling_factor
        back = space.network.decode(z).sample.clamp(-1, 1)
        assert torch.allclose(space.encode(x), wanted, atol=1e-5)
        assert torch.allclose(space.decode(space.encode(x)), back, atol=1e-5)
    assert tuple(space.encode(x).shape[1:]) == config.shape(32, 3)


def test_a_model_in_diffusers_latents_needs_its_own_folder_only(tiny_recipe: Recipe, tmp_path: Path) -> None:
    folder = kl(tmp_path / "vae")
    network = replace(tiny_recipe.network, patch=2)  # type: ignore[call-arg]
    recipe = replace(tiny_recipe, space=DiffusersConfig(path=str(folder)), network=network)
    run = prepare(recipe, say=lambda _: None)
    mean, std = statistics(run.batches.space.encode, run.batches.pairs)
    assert mean.abs().max() < 1e-3
    assert (std - 1).abs().max() < 1e-3
    made = train_run(run)
    shutil.rmtree(folder)
    model = load_model(made)
    assert model.shape == (4, 8, 8)
    (picture,) = TextToImage.from_pretrained(made)("a disc", num_steps=2)
    assert picture.mode == "L", "grey pictures through three channels"


def test_mistakes_with_autoencoders_of_diffusers_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ZaoziError, match=r"space\.path is missing"):
        DiffusersConfig().filled()
    with pytest.raises(ZaoziError, match="has no autoencoder"):
        DiffusersConfig(path=str(tmp_path / "none")).filled()
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ZaoziError, match="unknown autoencoder 'UNet2DModel'"):
        DiffusersConfig(path=str(tmp_path)).shape(32, 3)
    with pytest.raises(ZaoziError, match="not JSON"):
        DiffusersConfig(settings="{").shape(32, 3)
    with pytest.raises(ZaoziError, match="do not divide by the autoencoder's factor 4"):
        DiffusersConfig(path=str(kl(tmp_path / "vae"))).shape(34, 3)
    with lent_generator(0), pytest.raises(ZaoziError, match="reads 2 channels, the pictures have 3"):
        DiffusersConfig(path=str(kl(tmp_path / "two", 2))).build(3)


def test_every_space_has_defaults_that_survive_a_file() -> None:
    for name in spaces:
        values = json.loads(json.dumps(to_dict(spaces[name]())))
        assert values["kind"] == name
        assert spaces[name](**values) == spaces[name]()


# -- the two-sample test --------------------------------------------------------------------------------------------


def test_a_discriminator_that_sees_originals_finds_a_small_difference() -> None:
    generator = training_generator(0)
    with lent_generator(0):
        adversary = Adversary(1)
    ranked: list[float] = []
    for _ in range(60):
        real = F.interpolate(torch.randn(8, 1, 8, 8, generator=generator), scale_factor=4.0)
        made = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2.0, mode="bilinear")
        adversary.step(made, real)
        with torch.no_grad():
            ranked.append(float((adversary.network(real) > adversary.network(made)).float().mean()))
    assert np.mean(ranked[-10:]) > 0.9
    assert adversary.loss(made, real) > np.log(2) > adversary.loss(real, made), "the decoder wants to look real"
    assert all(weight.requires_grad for weight in adversary.network.parameters())


def test_faint_grey_snaps_to_white_and_black() -> None:
    with lent_generator(0):
        plain, clear = (HalvedConfig(width=8, snap=snap).build(1) for snap in (0.0, 0.125))
    clear.load_state_dict(plain.state_dict())
    x0 = torch.tensor([1.0, 0.9, 0.875, 0.8125, 0.75, 0.5, 0.0, -0.3, -0.8125, -0.95, -1.2]).reshape(1, 1, 1, -1)
    wanted = torch.tensor([1.0, 1.0, 1.0, 0.875, 0.75, 0.5, 0.0, -0.3, -0.875, -1.0, -1.0]).reshape(1, 1, 1, -1)
    assert torch.equal(clear.decode(x0), plain.decode(wanted))
    assert torch.equal(plain.decode(x0), plain.enlarge(x0.clamp(-1, 1)).clamp(-1, 1))
    assert torch.equal(PixelsConfig(snap=0.125).build(1).decode(x0), wanted)
    assert torch.equal(PixelsConfig().build(1).decode(x0), x0.clamp(-1, 1))


def test_a_decoder_learns_from_what_a_model_draws(
    tiny_recipe: Recipe, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = load_pairs(tiny_data, "train")
    folder = train_run(prepare(tiny_recipe, say=lambda _: None))
    how = HalvedConfig(width=8, blocks=1, steps=4, crops=4, adversarial=0.1)
    recipe = with_train(replace(tiny_recipe, space=how), drawn_by=str(folder))
    x0 = redrawn(str(folder), recipe, pairs, count=40)
    assert x0.shape == (min(40, len(pairs)), 1, 16, 16)
    with lent_generator(0):
        space, other, third = how.build(1), how.build(1), SMALL.build(1)
    halves = space.encode(pairs.batch(pairs.some(40)))
    assert torch.equal(x0, redrawn(str(folder), recipe, pairs, count=40))
    assert 0 < (x0 - halves).abs().mean() < (x0.flip(0) - halves).abs().mean(), "each is like its picture"

    seen: list[torch.Tensor] = []
    enlarge = space.enlarge
    monkeypatch.setattr(space, "enlarge", lambda small: (seen.append(small), enlarge(small))[1])
    space.fit(pairs, drawn=x0)
    assert len(seen) == 8, "real and drawn ones at each step"
    assert all(any(torch.equal(one, some.clamp(-1, 1)) for some in x0) for one in seen[1])

    workers = Workers(Accelerator(cpu=True), 1, lambda _: None)
    with pytest.raises(ZaoziError, match="'autoencoder' does not learn from drawn pictures"):
        fit_space(third, pairs, replace(recipe, space=SMALL), workers)
    with pytest.raises(ZaoziError, match="draws in the space 'halved', not 'pixels'"):
        redrawn(str(folder), replace(recipe, space=PixelsConfig()), pairs)
    said: list[str] = []
    monkeypatch.setattr("zaozi.train.prepare.SAY_SECONDS", 0.0)
    assert fit_space(other, pairs, recipe, Workers(Accelerator(cpu=True), 1, said.append)) > 0
    assert said[0].startswith("space: step 1 of 4, error 0."), "where there is no bar"


def test_two_samples_of_one_distribution_cannot_be_told_apart_and_two_of_others_can() -> None:
    rng = np.random.Generator(np.random.Philox(1))

    def squares(count: int, ink: int) -> np.ndarray:
        made = np.full((count, 1, 32, 32), 255, np.uint8)
        for picture in made:
            y, x = rng.integers(0, 16, 2)
            picture[0, y : y + 12, x : x + 12] = ink
        return made

    same = two_sample(squares(150, 0), squares(150, 0))
    other = two_sample(squares(150, 60), squares(150, 0))
    assert same.n == other.n == 300
    assert same.low - 0.06 < 0.5 < same.high + 0.06
    assert other.low > 0.9
    assert two_sample(squares(150, 60), squares(150, 0), factor=2).value > 0.9
    assert np.isnan(two_sample(squares(2, 0), squares(9, 0)).value)
    a, b = squares(40, 0), squares(40, 20)
    assert two_sample(a, b) == two_sample(a, b), "seeds and sizes alone decide"
