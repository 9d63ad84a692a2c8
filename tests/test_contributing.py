"""The worked examples of CONTRIBUTING.md: each is put where it says, found there, and used."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zaozi
from conftest import draw_folder, with_train
from zaozi import TextToImage
from zaozi.cli.main import main
from zaozi.core.components import encoders, networks, optimisers, properties, samplers, spaces
from zaozi.core.config import from_dict
from zaozi.core.recipe import DataConfig, Recipe, TextConfig
from zaozi.data.folder import Square, build_folder
from zaozi.evaluate.measures import measures
from zaozi.guide.figures import figure, figures
from zaozi.model.checkpoint import load_model
from zaozi.text.encoders import load_encoder
from zaozi.train.loop import train
from zaozi.train.prepare import prepare

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
REGISTRIES: tuple[Any, ...] = (encoders, figures, measures, networks, optimisers, properties, samplers, spaces)


def files(title: str) -> dict[str, str]:
    """The files that an example adds or changes, by path."""
    section = PAGE.split(f"### {title}\n")[1].split("\n##")[0]
    return dict(re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', section, flags=re.DOTALL))


Adds = Callable[[str], None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Adds]:
    """Puts the Python files of an example where their packages look for files, for one test."""
    new: list[str] = []
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_known", dict(registry))

    def put(title: str) -> None:
        for name, text in files(title).items():
            if not name.endswith(".py"):
                continue
            place = tmp_path / name
            place.parent.mkdir(parents=True)
            place.write_text(text)
            package = ".".join(Path(name).parts[1:-1])
            found = importlib.import_module(package)
            monkeypatch.setattr(found, "__path__", [*found.__path__, str(place.parent)])
            new.append(f"{package}.{place.stem}")
        for registry in REGISTRIES:
            monkeypatch.setattr(registry, "_loaded", False)

    yield put
    for name in new:
        sys.modules.pop(name, None)
        parent, _, last = name.rpartition(".")
        vars(sys.modules[parent]).pop(last, None)


def trained(recipe: Recipe) -> TextToImage:
    """Draws with what a recipe gives."""
    folder = train(prepare(recipe, say=lambda _: None))
    return TextToImage.from_pretrained(folder)


def sections(recipe: Recipe, **changes: dict[str, Any]) -> Recipe:
    """The recipe with sections read anew."""
    return replace(
        recipe, **{name: getattr(from_dict(Recipe, {name: values}), name) for name, values in changes.items()}
    )


@pytest.mark.parametrize(
    ("title", "count"),
    [
        ("Add a sampler", 2),
        ("Add a network", 1),
        ("Add a space", 1),
        ("Add a kind of property", 1),
        ("Add a text encoder", 1),
        ("Add a measure", 1),
        ("Add a figure", 2),
    ],
)
def test_an_example_touches_so_many_files(title: str, count: int) -> None:
    """A sampler has its twin for the page, a figure its place in it."""
    found = files(title)
    assert len(found) == count
    assert sum(name.endswith(".py") for name in found) == 1
    for name in found:
        assert (ROOT / name).exists() == (not name.endswith(".py")), name
        assert (ROOT / name).parent.is_dir()


def test_a_sampler(add: Adds, glyph_artist: TextToImage, glyph_model: str, tmp_path: Path) -> None:
    add("Add a sampler")
    one, other = glyph_artist("gold", num_steps=3, sampler="restart", count=2)
    assert np.abs(np.asarray(one, float) - np.asarray(other, float)).max() > 1
    arguments = ["generate", "gold", "--sampler", "restart", "--model", glyph_model, "--steps", "2"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0


def test_a_network(add: Adds, tiny_recipe: Recipe) -> None:
    add("Add a network")
    artist = trained(sections(tiny_recipe, network={"kind": "convs", "width": 8}))
    assert type(artist.model.network).__name__ == "Convs"
    assert artist("gold", num_steps=2)[0].size == (32, 32)


def test_a_network_is_chosen_on_the_command_line(add: Adds, tmp_path: Path, tiny_recipe: Recipe) -> None:
    add("Add a network")
    (tmp_path / "a.toml").write_text("[train]\nsample_every = 0\nself_check = false\nbatch_size = 4\n")
    options = ["--network.kind", "convs", "--network.width=8", "--steps", "1", "--data.path", tiny_recipe.data.path]
    assert main(["train", str(tmp_path / "a.toml"), *options, "--out", str(tmp_path / "run")]) == 0
    config = json.loads((tmp_path / "run" / "step-00000001" / "config.json").read_text())
    assert config["network"] == {"kind": "convs", "width": 8}


def test_a_space(add: Adds, tiny_recipe: Recipe) -> None:
    add("Add a space")
    run = prepare(sections(tiny_recipe, space={"kind": "quarter"}), say=lambda _: None)
    assert run.training.model.shape == (1, 8, 8)
    assert run.batches.latents is not None
    assert TextToImage.from_pretrained(train(run))("gold", num_steps=2)[0].size == (32, 32)


def test_a_kind_of_property(add: Adds, tiny_recipe: Recipe, tmp_path: Path) -> None:
    add("Add a kind of property")
    for text in draw_folder(tmp_path / "pictures").glob("*.txt"):
        text.unlink()
    lines = [f"{i:02d}.png,a shape,{15 * i}" for i in range(24)]
    (tmp_path / "pictures" / "metadata.csv").write_text("\n".join(["file_name,text,turn", *lines]))
    build_folder(tmp_path / "pictures", tmp_path / "data", Square(32), processes=1)
    recipe = replace(tiny_recipe, data=DataConfig(path=str(tmp_path / "data")))
    artist = trained(sections(recipe, properties=[{"column": "turn", "kind": "angle"}]))  # type: ignore[arg-type]
    part = artist.model.network.properties.parts["of_turn"]
    with torch.no_grad():
        part.project.weight.fill_(0.5)
    assert torch.allclose(part(torch.tensor([0.0])), part(torch.tensor([360.0])), atol=1e-5)
    assert part(torch.tensor([torch.nan])).abs().max() == 0
    assert artist("gold", num_steps=2, properties={"turn": 90})
    with pytest.raises(zaozi.ZaoziError, match="turn 'far' is not an angle; give degrees"):
        artist("gold", num_steps=2, properties={"turn": "far"})


def test_a_text_encoder(add: Adds, tiny_recipe: Recipe) -> None:
    add("Add a text encoder")
    encoder = load_encoder("letters", 8)
    cond = encoder.encode(["gold", "dig"])
    assert cond.tokens.shape == (2, 4, 32)
    assert torch.equal(cond.tokens[0, 3], cond.tokens[1, 0]), "both are a d"
    artist = trained(replace(tiny_recipe, text=TextConfig("letters", 8)))
    assert artist.model.config.text.width == 32
    assert artist("gold", num_steps=2)


def test_a_measure(add: Adds, glyph_model: str, small_glyphs: Path, tmp_path: Path) -> None:
    add("Add a measure")
    options = ["--data", str(small_glyphs), "--samples", "16", "--steps", "1", "--out", str(tmp_path / "out")]
    assert main(["evaluate", glyph_model, *options, "--only", "ink"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["measures"] == {"ink": 1}
    assert 0 < report["figures"]["ink"]["real"]["value"] < 1
    assert "ink, share of the picture" in (tmp_path / "out" / "report.html").read_text()


def test_a_figure(add: Adds, tmp_path: Path, glyph_model: str) -> None:
    add("Add a figure")
    assert callable(figure("99"))
    assert main(["guide", "figures", str(tmp_path / "out"), "--only", "99", "--model", glyph_model]) == 0
    assert (tmp_path / "out" / "99-dice.png").stat().st_size > 1000


def test_a_callback_of_training(tiny_recipe: Recipe) -> None:
    from zaozi.train.callbacks import Callback, usual

    seen: list[int] = []

    class Mine(Callback):
        def after_step(self, run: Any) -> None:
            seen.append(run.step)

    run = prepare(with_train(tiny_recipe, steps=3), say=lambda _: None)
    assert load_model(train(run, [*usual(), Mine()]))
    assert seen == [1, 2, 3]
