"""Evaluation on data of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import draw_folder
from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import Recipe
from zaozi.data.folder import Square, build_folder
from zaozi.evaluate import own
from zaozi.evaluate.own import ROWS, OwnJudge, as_markdown
from zaozi.train.loop import train as train_run
from zaozi.train.prepare import prepare


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two hundred discs and boxes, of which some thirty are held out; a judge that is trained in a second."""
    monkeypatch.setattr(own, "STEPS", 60)
    monkeypatch.setenv("ZAOZI_HOME", str(tmp_path / "home"))
    build_folder(draw_folder(tmp_path / "p", 200), tmp_path / "many", Square(32), processes=1)
    return tmp_path / "many"


def test_real_pictures_are_nearer_than_noise_and_copies_are_found(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = OwnJudge(many)
    rows = np.arange(len(judge.texts))
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, judge.pictures.shape, dtype=np.uint8)
    for_noise = judge.figures(noise, rows)
    assert for_noise["distance"]["drawn"].value > 3 * for_noise["distance"]["real"].value
    assert for_noise["two_sample"]["drawn"].low > 0.8
    assert for_noise["copies"]["drawn"].value == 0
    copies = judge.figures(judge.train.pictures[rows], rows)
    assert copies["copies"]["drawn"].value == 1
    assert copies["distance"]["drawn"].value < for_noise["distance"]["drawn"].value / 3
    real = judge.figures(judge.pictures, rows)
    assert real["distance"]["drawn"].value == pytest.approx(0, abs=1e-3)
    assert real["retrieval"]["drawn"] == real["retrieval"]["real"]

    def untrained(work: Path) -> None:
        raise AssertionError("the judge is cached")

    monkeypatch.setattr(OwnJudge, "_train", untrained)
    assert np.allclose(OwnJudge(many).real, judge.real)


def test_evaluate_writes_a_report_of_data_without_glyphs(
    many: Path, tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_run(prepare(tiny_recipe, say=lambda _: None))
    command = [
        "evaluate",
        str(run),
        "--data",
        str(many),
        "--samples",
        "16",
        "--steps",
        "2",
        "--out",
        str(tmp_path / "e"),
    ]
    assert main(command) == 0
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    assert report["figures"].keys() == ROWS.keys()
    assert report["how"]["steps"] == 2
    assert len(report["model"]["weights"]) == 64
    text = (tmp_path / "e" / "report.md").read_text()
    assert text == as_markdown(report)
    assert text in capsys.readouterr().out
    assert Image.open(tmp_path / "e" / "pictures.png").width > 8 * 128
    assert main([*command, "--only", "copies"]) == 2
    assert "for glyphs" in capsys.readouterr().err


def test_too_few_held_out_pictures_are_one_line(tiny_data: Path) -> None:
    with pytest.raises(ZaoziError, match="held-out pictures, too few to measure by"):
        OwnJudge(tiny_data)
