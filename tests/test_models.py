"""Models as folders: which one a name means, and files that someone else made."""

from __future__ import annotations

import copy
import json
import math
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from conftest import PROPERTIES, fill_randomly, random_cond, with_train
from zaozi.cli.main import main
from zaozi.core.components import NetworkConfig
from zaozi.core.errors import ZaoziError
from zaozi.core.files import sha256
from zaozi.core.recipe import DiffusionConfig, ModelConfig, Recipe, TextConfig
from zaozi.core.sampling import Sampling
from zaozi.model.checkpoint import CONFIG, SHIPPED, WEIGHTS, find_model, load_model, newest, shipped
from zaozi.model.checkpoint import save_model as save_with_record
from zaozi.model.denoiser import Denoiser, make_denoiser
from zaozi.model.release import history, release_model, without_places
from zaozi.model.spaces.halved import HalvedConfig
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.nn.dit import DiTConfig
from zaozi.nn.properties.class_ import ClassProperty
from zaozi.nn.unet import UNetConfig
from zaozi.pipeline import TextToImage, draw
from zaozi.train.loop import train
from zaozi.train.prepare import prepare

UNET = UNetConfig(width=8, depth=1, head_width=8, patch=2, multipliers=(1, 2), attention_levels=(1,))
DIT = DiTConfig(width=16, depth=1, head_width=8, patch=4)


def tiny(network: NetworkConfig, space: str = "pixels") -> Denoiser:
    how = HalvedConfig(width=4) if space == "halved" else PixelsConfig()
    config = ModelConfig("tiny", 32, 1, network, how, DiffusionConfig(), TextConfig(max_tokens=16), PROPERTIES)
    model = make_denoiser(config)
    fill_randomly(model.network)
    return model


def save_model(folder: Path, model: Denoiser, *, half: bool = False) -> None:
    """A model as strangers make one: without a record, so that what is refused is refused for what it is."""
    save_with_record(folder, model, half=half)
    (folder / ".zaozi.json").unlink()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A transformer in half-size space and a U-Net on pixels."""
    out = tmp_path_factory.mktemp("models")
    save_model(out / "dit", tiny(DIT, "halved"))
    save_model(out / "unet", tiny(UNET))
    return [out / "dit", out / "unet"]


# -- which model a name means ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_run_is_drawn_with_by_its_folders_name_whatever_ships(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    assert find_model("base") == SHIPPED / "base", "an empty folder hides nothing"
    (tmp_path / "base" / CONFIG).write_text('{"name": "of another program"}')
    assert find_model("base") == SHIPPED / "base", "nor does one that holds no model"
    (tmp_path / "base" / CONFIG).unlink()
    train(prepare(with_train(tiny_recipe, out="base"), say=lambda _: None))
    with pytest.warns(UserWarning, match="'base' is the folder .*, not the model that ships"):
        assert find_model("base") == newest(Path("base"))
    assert main(["generate", "gold", "--count", "1", "--steps", "1", "--model", "base", "--out", "o"]) == 0
    assert capsys.readouterr().err.count("not the model that ships") == 1
    used = json.loads((tmp_path / "o" / "run.json").read_text())["sha256"]
    assert used == {str(tmp_path / "base" / "step-00000006"): sha256(Path("base", "step-00000006", WEIGHTS))}
    for name in ("dit-tiny", "base"):
        Path("base").rename("dit-tiny") if name == "dit-tiny" else Path("dit-tiny").rename("base")
        assert main(["model", "info", name]) == 0
        assert "pictures    32x32" in capsys.readouterr().out


def test_the_newest_checkpoint_in_a_released_models_folder_is_the_model(tiny_recipe: Recipe, tmp_path: Path) -> None:
    train(prepare(tiny_recipe, say=lambda _: None))
    mine = tmp_path / "mine"
    release_model(Path(tiny_recipe.train.out), mine, "mine")
    told = json.loads((mine / "recipe.json").read_text())
    assert told["train"]["out"] == Path(tiny_recipe.train.out).name, "no folder of this machine is published"
    assert str(tmp_path.parent) not in (mine / "recipe.json").read_text()
    assert find_model(str(mine)) == mine
    further = with_train(tiny_recipe, out=str(mine), init_from=str(mine), steps=3)
    assert find_model(str(mine)) == mine
    train(prepare(further, say=lambda _: None))
    assert find_model(str(mine)) == mine / "step-00000003"
    assert find_model(str(mine / "step-00000003")) == mine / "step-00000003"
    assert [run["steps"] for run in history(find_model(str(mine)))] == [6, 3]


def test_unknown_names_list_what_ships(tmp_path: Path) -> None:
    with pytest.raises(ZaoziError, match=r"unknown model 'bass'; did you mean 'base'"):
        find_model("bass")
    with pytest.raises(ZaoziError, match=r"holds no model .* one of: base"):
        find_model(str(tmp_path))
    with pytest.raises(ZaoziError, match="unknown model"):
        find_model("x" * 5000)
    assert "base" in shipped()


# -- files from others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("half", [False, True])
def test_weights_that_are_not_finite_are_named(folders: list[Path], tmp_path: Path, value: float, half: bool) -> None:
    model = load_model(folders[0])
    with torch.no_grad():
        model.network.blocks[0].up.weight[0, 0] = value
    save_model(tmp_path / "m", model, half=half)
    with pytest.raises(ZaoziError, match=r"weight 'network\.blocks\.0\.up\.weight' has values that are not finite"):
        load_model(tmp_path / "m")


def test_weights_beyond_single_precision_are_not_finite(folders: list[Path], tmp_path: Path) -> None:
    save_model(tmp_path / "m", load_model(folders[0]))
    weights = {k: v.double() for k, v in load_file(tmp_path / "m" / WEIGHTS).items()}
    save_file(weights, tmp_path / "m" / WEIGHTS)
    load_model(tmp_path / "m")
    weights["network.embed.bias"][0] = 1e300
    save_file(weights, tmp_path / "m" / WEIGHTS)
    with pytest.raises(ZaoziError, match=r"'network\.embed\.bias' has values that are not finite"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"depth": 10_000_000}},
        {"network": {"depth": 512}},
        {"network": {"width": 16_384, "head_width": 4}},
        {"network": {"width": 2**40}},
        {"text": {"width": 16_384}},
        {"network": {"patch": 512}},
        {"network": {"kind": "unet", "multipliers": [64] * 8, "attention_levels": [0], "patch": 1, "depth": 512}},
        {"network": {"kind": "unet", "multipliers": [1] * 10_000}},
        {"space": {"width": 4096}},
        {"size": 2**62},
        {"size": 1024, "network": {"patch": 1}},
        {"properties": [{"column": f"p{i}"} for i in range(1001)]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_small_config_cannot_ask_for_much(folders: list[Path], tmp_path: Path, change: dict[str, Any]) -> None:
    """Whatever it says, it is refused before memory is taken for it."""
    save_model(tmp_path / "m", load_model(folders[0]))
    config = json.loads((tmp_path / "m" / CONFIG).read_text())
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    (tmp_path / "m" / CONFIG).write_text(json.dumps(config))
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ZaoziError):
            load_model(tmp_path / "m")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 200e6
    assert time.process_time() - start < 10


def test_a_property_has_not_any_number_of_values() -> None:
    with pytest.raises(ZaoziError, match=r"the number of values, 1000001, is out of range; use 0 to 1000000"):
        ClassProperty("kind", values=("a",) * 1_000_001)


ODD = st.sampled_from(
    [
        *(-1, 0, 1, 2, 3, 7, 8, 16, 24, 64, 10**7, 2**63, 10**400, -0.5, 0.5, 1e-300, 1e300, math.nan, math.inf),
        *(True, False, None, "", "x", "é\ud83d", "unet", "dit", "halved", "pixels", "epsilon", "flow", "linear", "t5:"),
        *([], [1], [0, -1], [2.5], ["a", "b"], [[]], {}, {"x": 1}, [{"column": "kind", "kind": "number"}]),
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested lists and dictionaries."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, part in inside for place in places(part, (*path, key))]


@given(st.data())
@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_changed_config_draws_finite_pictures_or_is_refused(
    folders: list[Path], tmp_path: Path, data: st.DataObject
) -> None:
    folder = data.draw(st.sampled_from(folders))
    config = json.loads((folder / CONFIG).read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(places(config)))
        holder = config
        for key in way:
            holder = holder[key]
        kind = data.draw(st.sampled_from(["change", "change", "change", "remove", "add"]))
        if kind == "remove":
            del holder[last]
        elif kind == "add" and isinstance(holder, dict):
            holder["new"] = data.draw(ODD)
        else:
            holder[last] = data.draw(ODD)
    place = tmp_path / "m"
    place.mkdir(exist_ok=True)
    (place / CONFIG).write_text(json.dumps(config))
    (place / WEIGHTS).unlink(missing_ok=True)
    (place / WEIGHTS).symlink_to(folder / WEIGHTS)
    try:
        model = load_model(place)
        cond = random_cond(1)
        known = {p.column: p for p in model.config.properties}
        given_ = {name: torch.ones(1) if p.kind == "number" else torch.ones(1).long() for name, p in known.items()}
        given_ = {k: v for k, v in given_.items() if known[k].kind == "number" or known[k].values}
        x = draw(model, replace(cond, properties=given_), Sampling(2), pictures=[0])
        said = ""
    except ZaoziError as error:
        said = str(error)
    assert len(said) < 1000
    assert said.isprintable()
    if not said:
        assert bool(x.isfinite().all())
        assert x.shape == (1, model.config.channels, model.config.size, model.config.size)


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_for_a_file_are_refused(folders: list[Path], tmp_path: Path, junk: bytes, head: bool) -> None:
    place = tmp_path / "m"
    if not place.exists():
        save_model(place, load_model(folders[0]))
    whole = (folders[0] / WEIGHTS).read_bytes()
    (place / WEIGHTS).write_bytes(whole[: len(junk)] + junk if head else junk)
    with pytest.raises(ZaoziError):
        load_model(place)
    (place / CONFIG).write_bytes(junk)
    with pytest.raises(ZaoziError):
        load_model(place)
    (place / CONFIG).write_bytes((folders[0] / CONFIG).read_bytes())


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "1", '"x"', "null", "{}", '{"name": 1}', "\ufeff{}", '{"a": 1e999}']
)
def test_a_config_of_another_kind_is_named(folders: list[Path], tmp_path: Path, text: str) -> None:
    save_model(tmp_path / "m", load_model(folders[0]))
    (tmp_path / "m" / CONFIG).write_text(text)
    with pytest.raises(ZaoziError, match=r"config\.json"):
        load_model(tmp_path / "m")


def test_a_model_of_another_text_width_is_named(tmp_path: Path) -> None:
    config = tiny(DIT).config
    save_model(tmp_path / "m", make_denoiser(replace(config, text=replace(config.text, width=100))))
    with pytest.raises(ZaoziError, match="reads text states of 100 channels, minilm gives 384"):
        TextToImage.from_pretrained(tmp_path / "m")


@pytest.mark.parametrize("spoil", ["{", "[]", '{"step": 1}', '{"step": "x", "recipe": {}}', "[1]", "[" * 100_000])
@pytest.mark.parametrize("name", ["state.json", "history.json"])
def test_damaged_records_of_a_run_are_named(
    tiny_recipe: Recipe, folders: list[Path], tmp_path: Path, spoil: str, name: str
) -> None:
    save_model(tmp_path / "m", load_model(folders[0]))
    (tmp_path / "m" / name).write_text(spoil)
    if spoil == "[]" and name == "history.json":
        assert history(tmp_path / "m") == []
        return
    with pytest.raises(ZaoziError, match=name):
        history(tmp_path / "m")


def test_what_is_no_run_cannot_be_released(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ZaoziError, match=r"is not a checkpoint of a training run \(no state\.json\)"):
        release_model(folders[0], tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()


def test_a_config_is_not_changed_by_reading_it(folders: list[Path]) -> None:
    before = copy.deepcopy(load_model(folders[1]).config)
    assert load_model(folders[1]).config == before


def test_a_released_recipe_names_no_folders() -> None:
    values = {
        "a": "/home/me/runs/cats",
        "b": ["t5:/models/t5-small", "runs/cats", ""],
        "c": {"d": 3, "e": "scaled_linear:0.1:0.2:5"},
    }
    assert without_places(values) == {
        "a": "cats",
        "b": ["t5:t5-small", "runs/cats", ""],
        "c": {"d": 3, "e": "scaled_linear:0.1:0.2:5"},
    }
