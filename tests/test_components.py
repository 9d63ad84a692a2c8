"""Components: found by name in one file each, added by installed packages, and written with a version."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zaozi.core import registry, schema
from zaozi.core.components import encoders, networks, optimisers, predictions, properties, samplers, schedules, spaces
from zaozi.core.config import from_dict, to_dict
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import ModelConfig, Recipe
from zaozi.core.registry import Registry
from zaozi.model.spaces.halved import HalvedConfig
from zaozi.nn.dit import DiTConfig
from zaozi.nn.unet import UNetConfig
from zaozi.train.recipes import packaged_recipes, read_recipe

FROZEN = Path(__file__).parent / "data" / "base-config-1.json"


def test_a_component_is_found_by_its_name() -> None:
    assert set(networks) == {"diffusers", "dit", "unet"}
    assert set(spaces) == {"autoencoder", "diffusers", "halved", "pixels"}
    assert set(properties) == {"class", "number"}
    assert set(optimisers) == {"muon", "adamw"}
    assert set(schedules) == {"linear", "cosine", "linear_path", "scaled_linear", "sigmoid"}
    assert set(predictions) == {"epsilon", "sample", "v_prediction", "flow"}
    assert {"ddpm", "ddim", "heun", "unipc"} <= set(samplers)
    assert set(encoders) == {"clip", "minilm", "t5"}


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"network": {"kind": "gan"}}, r"'network.kind' is 'gan' \(known: dit, unet, diffusers\)"),
        ({"space": {"kind": "halfed"}}, r"'space.kind' is 'halfed'; did you mean 'halved'\?"),
        ({"optim": {"kind": 3}}, r"'optim.kind' is 3 \(known: adamw, muon\)"),
        ({"properties": [{"column": "a"}, {"column": "b", "kind": "x"}]}, r"'properties\[1\].kind' is 'x'"),
        ({"properties": [{"kind": "class"}]}, r"properties\[0\]: the key 'column' is missing"),
        (
            {"network": {"widht": 3}},
            r"unknown key 'network.widht'; did you mean 'network.width'\? \(known: kind, width",
        ),
        ({"network": {"kind": "unet", "cross_every": 3}}, r"unknown key 'network.cross_every'; did you mean"),
        ({"network": 3}, "'network' is a section; write it as"),
        ({"data": 3}, "'data' is a section; write it as"),
        ({"network": {"width": "many"}}, "'network.width' is 'many'; it must be int"),
        ({"network": {"width": True}}, "'network.width' is True; it must be int"),
        ({"network": {"width": 0}}, "^network.width 0 is out of range; use 1 to 16384"),
        ({"optim": {"lr": float("nan")}}, "^optim.lr nan is out of range; use 1e-12 or more"),
        ({"optim": {"lr": 10**400}}, "'optim.lr' is larger than any float"),
        ({"train": {"prompts": "gold"}}, "'train.prompts' is 'gold'; write a list"),
        ({"train": {"prompts": [1]}}, r"'train.prompts\[0\]' is 1; it must be str"),
        ({"train": {"prompts": []}}, "train.prompts is empty; give some"),
        ({"network": {"kind": "unet", "multipliers": [1, 65]}}, r"^network.multipliers\[1\] 65 is out of range"),
        ({"network": {"kind": "unet", "multipliers": []}}, "the number of network.multipliers, 0, is out of range"),
        ({"properties": [{"column": "a.b"}, {"column": "a_b"}]}, "differ only in"),
        ({"diffusion": {"weight": "snrr"}}, r"'diffusion.weight' is 'snrr'; did you mean 'snr'\?"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_in_a_recipe_is_one_line(values: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ZaoziError, match=wrong) as error:
        from_dict(Recipe, values)
    assert "\n" not in str(error.value)


def test_a_config_is_checked_when_it_is_built() -> None:
    with pytest.raises(ZaoziError, match=r"^network.width 0 is out of range; use 1 to 16384$"):
        DiTConfig(width=0)
    with pytest.raises(ZaoziError, match=r"^network.width 0 is out of range"):
        replace(DiTConfig(), width=0)
    with pytest.raises(ZaoziError, match="unknown key 'widht'; did you mean 'width'"):
        DiTConfig(widht=1)  # type: ignore[call-arg]


def test_a_recipe_is_read_as_it_was_written() -> None:
    for path in packaged_recipes().values():
        recipe = read_recipe(path)
        assert schema.read(Recipe, json.loads(json.dumps(schema.written(recipe)))) == recipe


def test_the_config_of_the_first_schema_still_loads() -> None:
    """A copy of the configuration that `base` was shipped with."""
    values = json.loads(FROZEN.read_text(encoding="utf-8"))
    config = schema.read(ModelConfig, values)
    assert config.network == DiTConfig(width=256, depth=8, head_width=64, patch=8, cross_every=2)
    assert config.space == HalvedConfig(width=32, steps=600)
    assert (config.text.width, config.text.max_tokens) == (384, 32)
    assert [p.kind for p in config.properties] == ["class", "number", "class", "class", "class", "class"]
    again = json.loads(json.dumps(schema.written(config)))
    assert again["schema"] == schema.SCHEMA
    assert schema.read(ModelConfig, again) == config
    with pytest.raises(ZaoziError, match=r"schema 99 is unknown here \(known: 1 to 2\); update zaozi"):
        schema.read(ModelConfig, values | {"schema": 99})
    with pytest.raises(ZaoziError, match=r"channels 1 and network.channels 3 must be the same"):
        schema.read(ModelConfig, values | {"network": values["network"] | {"channels": 3}})


def test_what_had_no_effect_is_dropped_from_an_old_recipe() -> None:
    made, said = schema.migrated(
        {
            "network": {"kind": "unet", "cross_every": 3, "width": 32},
            "optim": {"kind": "adamw", "muon_lr": 0.1},
            "properties": [{"column": "a", "mean": 3.0}],
        }
    )
    recipe = from_dict(Recipe, made)
    assert recipe.network == UNetConfig(width=32)
    assert recipe.optim.kind == "adamw"
    assert said[0] == "'network.cross_every' has no effect for 'unet'; remove it"
    assert len(said) == 3


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\n[network]\nsize = "dit-small"\n[train]\nsteps = 7\nema = 0.5\n')
    (tmp_path / "b.toml").write_text('extends = "a.toml"\nname = "b"\n[network]\ndepth = 3\n[train]\nsteps = 9\n')
    recipe = read_recipe(tmp_path / "b.toml")
    assert recipe.network == DiTConfig(width=192, depth=3)
    assert (recipe.name, recipe.train.steps, recipe.train.ema) == ("b", 9, 0.5)
    (tmp_path / "c.toml").write_text('extends = "b.toml"\n[network]\nkind = "unet"\nwidth = 64\n')
    assert read_recipe(tmp_path / "c.toml").network == UNetConfig(width=64)
    (tmp_path / "d.toml").write_text('extends = "base"\n[train]\nsteps = 9\n')
    assert to_dict(read_recipe(tmp_path / "d.toml").properties[0])["column"] == "structure"
    (tmp_path / "e.toml").write_text('extends = "e.toml"\n')
    with pytest.raises(ZaoziError, match=r"e.toml extends itself; remove 'extends'"):
        read_recipe(tmp_path / "e.toml")
    (tmp_path / "f.toml").write_text("extends = 3\n")
    with pytest.raises(ZaoziError, match="'extends' is 3; give the name of one recipe"):
        read_recipe(tmp_path / "f.toml")
    (tmp_path / "g.toml").write_text('extends = "nothing"\n')
    with pytest.raises(ZaoziError, match="unknown recipe 'nothing'"):
        read_recipe(tmp_path / "g.toml")


def test_two_components_of_one_name_are_an_error() -> None:
    one: Registry[Any] = Registry("thing", "zaozi.nn.properties")
    one.register("a")(test_a_component_is_found_by_its_name)
    one.register("a")(test_a_component_is_found_by_its_name)  # the same again, as a reloaded module does
    with pytest.raises(ZaoziError, match=r"two things are named 'a': .*found_by_its_name and .*an_error"):
        one.register("a")(test_two_components_of_one_name_are_an_error)
    with pytest.raises(ZaoziError, match="unknown thing 'b'"):
        one["b"]


PLUGIN = '''
from typing import Annotated, Literal

import torch

from zaozi.core.components import SpaceConfig, samplers, spaces
from zaozi.core.config import Range, config
from zaozi.model.spaces.pixels import Pixels


@spaces.add
@config("space")
class NegativeConfig(SpaceConfig):
    """Black for white."""

    kind: Literal["negative"] = "negative"
    gain: Annotated[float, Range(0, 1)] = 1.0

    def build(self, channels):
        return Negative()


class Negative(Pixels):
    def encode(self, pictures):
        return -pictures

    def decode(self, x0):
        return -super().decode(x0)


@samplers.register("lazy")
def lazy(denoise, x, levels, *, noise, on_step=None):
    return denoise(x, levels[0]).x0
'''


def test_an_installed_package_adds_components(tmp_path: Path) -> None:
    """A tiny package as pip lays one out, found through its entry point by another process."""
    (tmp_path / "negatives.py").write_text(PLUGIN)
    (tmp_path / "broken.py").write_text("raise RuntimeError('out of order')")
    for name, module in (("negatives", "negatives"), ("oddity", "broken")):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {module}\n")
    code = """
        import warnings
        warnings.simplefilter("always")
        from zaozi.core.config import from_dict
        from zaozi.core.components import samplers
        from zaozi.core.errors import ZaoziError
        from zaozi.core.recipe import DiffusionConfig, ModelConfig, Recipe, TextConfig
        from zaozi.model.denoiser import make_denoiser
        recipe = from_dict(Recipe, {"space": {"kind": "negative", "gain": 0.5}, "network": {"width": 64, "depth": 2}})
        config = ModelConfig("n", 32, 1, recipe.network, recipe.space, DiffusionConfig(), TextConfig())
        model = make_denoiser(config)
        print(type(model.space).__name__, recipe.space.gain, "lazy" in samplers)
        try:
            from_dict(Recipe, {"space": {"kind": "negative", "gain": 2}})
        except ZaoziError as error:
            print(error)
    """
    path = ":".join([str(tmp_path), str(Path(__file__).parents[1] / "src")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["Negative 0.5 True", "space.gain 2 is out of range; use 0 to 1"]
    assert "the components of the package oddity cannot be loaded (out of order)" in done.stderr
