"""The guide's figures: what they show is what the library computes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError
from zaozi.diffusion.schedules import schedule
from zaozi.guide.figures import FIGURES, chosen, draw_all, figure
from zaozi.guide.figures.atlas import agreement, nearest
from zaozi.guide.figures.forward import learned_score, score_of, shape
from zaozi.guide.figures.source import Source


def test_every_figure_has_a_function_and_a_number() -> None:
    assert sorted({int(name.split("-")[0]) for name in FIGURES}) == list(range(1, 20))
    assert all(callable(figure(name)) for name in FIGURES)
    assert chosen(["15"]) == ["15-guidance-and-steps", "15-radicals"]
    with pytest.raises(ZaoziError, match="unknown figure '20'"):
        chosen(["20"])


def test_figures_without_a_model(tmp_path: Path) -> None:
    for name, files in draw_all(Source(), ["1", "3", "11", "18"], tmp_path):
        assert [path.suffix for path in files] == [".png", ".svg", ".json"], name
    gaussian = json.loads((tmp_path / "01-gaussian.json").read_text())["data"]
    samples = np.array(gaussian["samples"])
    assert gaussian["fit"]["mean"] == pytest.approx(samples.mean(), rel=1e-3)
    joint = json.loads((tmp_path / "11-joint-density.json").read_text())["data"]
    step = joint["grid"][1] - joint["grid"][0]
    for slice_ in [*(s["density"] for s in joint["slices"]), joint["marginal_x"], joint["marginal_y"]]:
        assert sum(slice_) * step == pytest.approx(1.0, abs=1e-3)
    noise = json.loads((tmp_path / "18-independent-noise.json").read_text())["data"]
    covariance = np.array(noise["covariance_independent"])
    assert np.abs(covariance - np.eye(len(covariance))).max() < 0.1
    assert np.diag(np.array(noise["covariance_correlated"]), 1).min() > 0.5


def test_the_score_is_the_gradient_of_the_log_density() -> None:
    density, level = shape(Source(), 60), schedule("cosine").level(200.0)
    x = torch.tensor([[0.3, -0.4], [1.5, 1.5]], dtype=torch.float64).reshape(-1, 1, 1, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_density(x, level).sum(), x)
    assert torch.allclose(gradient.reshape(-1, 2), score_of(density, x.detach(), level), atol=1e-8)


def test_a_small_network_learns_the_score_where_it_was_trained() -> None:
    source = Source()
    network, density = learned_score(source, steps=1500), shape(source, 400)
    level = schedule("cosine").level(600.0)
    x = float(level.alpha) * source.points(300) + float(level.sigma) * source.noise((300, 2), 99).double()
    exact = score_of(density, x.reshape(-1, 1, 1, 2), level)
    learned = -network(x.float(), level.noise_share(300)).double() / float(level.sigma)
    assert float((exact - learned).square().mean().sqrt() / exact.square().mean().sqrt()) < 0.3


def test_nearest_is_exact_and_agreement_is_a_share() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    points = torch.from_numpy(rng.standard_normal((300, 5)))
    distance, rows = nearest(points, points, 3)
    assert torch.equal(rows[:, 0], torch.arange(300))
    assert torch.allclose(distance[:, 1], torch.cdist(points, points).sort(1).values[:, 1], atol=1e-6)
    plane = np.concatenate([rng.standard_normal((50, 2)), rng.standard_normal((50, 2)) + 100]).astype(np.float32)
    near, chance = agreement(["a"] * 50 + ["b"] * 50, plane)
    assert near == 1.0
    assert math.isclose(chance, 0.5)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "figures", str(tmp_path), "--only", "1", "--only", "17"]) == 0
    assert "2 figures" in capsys.readouterr().out
    network = json.loads((tmp_path / "17-network.json").read_text())["data"]
    assert sum(block["cross"] for block in network["blocks"]) == 4
    assert main(["guide", "figures", str(tmp_path), "--only", "gaussain"]) == 2
    assert "did you mean" in capsys.readouterr().err
