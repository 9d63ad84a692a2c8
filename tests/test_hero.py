"""The first screen's recording: what it holds is what the model draws."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zaozi.data.font import covered
from zaozi.guide import hero
from zaozi.guide.figures.source import Source
from zaozi.pipeline import draw


@pytest.fixture(scope="module")
def source(glyph_model: str) -> Source:
    return Source(glyph_model)


@torch.inference_mode()
def test_the_recording_is_what_the_model_draws(source: Source, tmp_path: Path) -> None:
    hero.write_hero(
        source, tmp_path, lambda picture: {"ink": float((picture < 0).mean()), "near": [{"character": "鈿"}]}
    )
    kept = json.loads((tmp_path / "data" / "hero.json").read_text())
    assert (kept["prompt"], kept["steps"], kept["seeds"]) == (hero.PROMPT, hero.HOW.steps, list(hero.SEEDS))
    assert kept["seed"] in kept["seeds"]
    model = source.artist.model
    count, side, size = len(kept["seeds"]), model.shape[1], model.config.size
    values = np.frombuffer(gzip.decompress(base64.b64decode(kept["pictures"])), np.uint8)
    changes = values[: count * hero.HOW.steps * side * side].reshape(count, hero.HOW.steps, side, side)
    guesses = changes.cumsum(1).astype(np.uint8)
    finished = values[changes.size :].reshape(count, size, size)
    cond = source.artist.encode([hero.PROMPT])
    for k in (0, count - 1):
        seen: list[torch.Tensor] = []
        made = draw(
            model, cond, replace(hero.HOW, seed=kept["seeds"][k]), pictures=[0],
            on_step=lambda t, x, x0, eps, to=seen: to.append(x0.clone()),
        )  # fmt: skip
        recorded = guesses[k] * (2.0 / hero.TONES) - 1.0
        assert np.abs(recorded - torch.cat(seen)[:, 0].clamp(-1, 1).numpy()).max() <= 1.01 / hero.TONES
        assert np.abs(finished[k] * (2.0 / 63) - 1.0 - made[0, 0].clamp(-1, 1).numpy()).max() <= 1.01 / 63
        assert kept["explanations"][k]["ink"] == pytest.approx(float((made < 0).float().mean()))
    assert ord("鈿") in covered(tmp_path / "data" / "hero.woff")
    assert hero.signs({"a": ["金 metal", {"b": "鈿"}], "c": 1.0, "d": None}) == {"金", "鈿"}


def test_the_pictures_for_links_and_for_reading_along(source: Source, tmp_path: Path) -> None:
    assert hero.share_picture(source).size == (1200, 630)
    hero.moving_picture(source, tmp_path / "hero.webp", side=16)
    with Image.open(tmp_path / "hero.webp") as film:
        assert film.size == (48, 48)
        assert 2 < film.n_frames <= hero.HOW.steps + 1  # type: ignore[attr-defined]  # equal ones become one


def test_a_model_whose_pictures_cannot_be_explained_is_recorded_all_the_same(source: Source, tmp_path: Path) -> None:
    explain = hero.explainer(source)
    assert explain is None
    hero.write_hero(source, tmp_path, explain)
    assert json.loads((tmp_path / "data" / "hero.json").read_text())["explanations"] is None


def test_the_shipped_recording_is_small() -> None:
    shipped = Path(hero.__file__).parent / "site" / "data" / "hero.json"
    assert not shipped.exists() or shipped.stat().st_size <= 300_000
