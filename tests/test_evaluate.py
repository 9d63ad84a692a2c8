"""Every measure on cases whose answer is known: the same, blurred, noise, swapped halves, planted copies, shuffled captions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.linalg import sqrtm

from conftest import fill_randomly
from zaozi import ZaoziError
from zaozi.cli.main import main
from zaozi.core.noise import lent_generator
from zaozi.core.recipe import DataConfig, DiffusionConfig, ModelConfig, Recipe, TextConfig, TrainConfig
from zaozi.core.sampling import Guidance, Sampling
from zaozi.data.glyphs import build_glyphs
from zaozi.data.pairs import load_pairs
from zaozi.data.shards import normalised
from zaozi.data.unihan import characters, radical, radical_forms, radical_senses, senses
from zaozi.evaluate import reference
from zaozi.evaluate.compare import best
from zaozi.evaluate.control import Readout, _beside, measure_composed, measure_properties, questions
from zaozi.evaluate.copies import nearest_features, nearest_pixels, thumbnails
from zaozi.evaluate.distances import diversity, frechet, kid, prdc
from zaozi.evaluate.drawing import ParallelSampler, calls, rows_per_picture
from zaozi.evaluate.ink import half_grey, specks
from zaozi.evaluate.intervals import mean_figure, share_figure, statistic_figure
from zaozi.evaluate.measure import Judge, spread
from zaozi.evaluate.measures import all_rows
from zaozi.evaluate.measures.quarters import adherence_quarters
from zaozi.evaluate.prompts import PROMPTS, flat
from zaozi.evaluate.publish import BEGIN, END, between_marks, read_report, readme_with
from zaozi.evaluate.reference import Reference, ReferenceConfig, load_reference, parts_of, reserved
from zaozi.evaluate.report import Drawn, completed, versions
from zaozi.evaluate.speedrun import as_row, speedrun
from zaozi.evaluate.sweep import settings
from zaozi.evaluate.table import as_markdown, find, headlines, table
from zaozi.evaluate.towers import Towers, encode_all, load_towers, retrieval
from zaozi.model.checkpoint import SHIPPED, WEIGHTS, save_model
from zaozi.model.denoiser import make_denoiser
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.nn.dit import DiTConfig

Rng = np.random.Generator


@pytest.fixture
def rng() -> Rng:
    return np.random.Generator(np.random.Philox(3))


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand of the real glyphs."""
    folder = tmp_path_factory.mktemp("glyphs") / "data"
    build_glyphs(folder, limit=2000)
    return folder


@pytest.fixture(scope="module")
def judge(glyphs: Path) -> Judge:
    return Judge(glyphs)


def blurred(pictures: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    return np.stack(
        [np.asarray(Image.fromarray(p[0]).filter(ImageFilter.GaussianBlur(radius)))[None] for p in pictures]
    )


def noise(rng: Rng, count: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (count, 1, 128, 128)).astype(np.uint8)


# -- intervals ------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_that_of_the_normal_law(rng: Rng) -> None:
    x = rng.normal(2.0, 1.0, 4000)
    figure = mean_figure(x)
    assert figure.value == pytest.approx(x.mean())
    half = 1.96 * x.std() / np.sqrt(len(x))
    assert figure.high - figure.value == pytest.approx(half, rel=0.15)
    assert figure.value - figure.low == pytest.approx(half, rel=0.15)
    assert mean_figure(x) == figure, "the same seed gives the same interval"


def test_groups_count_alike_and_widen_the_interval(rng: Rng) -> None:
    groups = np.repeat(np.arange(20), 50)
    x = rng.normal(0, 1, 20)[groups] + 0.01 * rng.normal(0, 1, 1000)
    grouped, single = mean_figure(x, groups), mean_figure(x)
    assert grouped.high - grouped.low > 3 * (single.high - single.low)
    assert mean_figure([1.0, 1.0, 1.0, 0.0], [0, 0, 0, 1]).value == 0.5
    assert mean_figure([1.0, 1.0, 1.0, 0.0], [0, 0, 0, 1], by_row=True).value == 0.75
    rows = mean_figure(x, groups, by_row=True)
    assert rows.value == pytest.approx(single.value)
    assert rows.high - rows.low > 1.5 * (single.high - single.low), "glyphs of one group are alike"


def test_shares_of_none_or_all_are_not_certain() -> None:
    none, every = share_figure(np.zeros(30), np.arange(30)), share_figure(np.ones(30), np.arange(30) // 3)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 30)), "Clopper and Pearson"
    assert (every.value, every.high) == (1.0, 1.0)
    assert every.low == pytest.approx(0.025 ** (1 / 10)), "ten groups"


def test_the_bootstrap_of_a_distance_is_freed_of_its_own_bias(rng: Rng) -> None:
    a, b = rng.normal(0, 1, (400, 8)), rng.normal(0, 1, (400, 8))
    figure = statistic_figure(frechet, a, b)
    assert figure.low < figure.value < figure.high
    assert statistic_figure(frechet, a, a).value == pytest.approx(0, abs=1e-9)


# -- distances ------------------------------------------------------------------------------------------------------


def test_frechet_is_the_closed_form(rng: Rng) -> None:
    a, b = rng.normal(0, 1, (500, 6)), rng.normal(0, 1, (700, 6)) @ rng.normal(0, 1, (6, 6)) + 1.0
    mean, (s, t) = a.mean(0) - b.mean(0), (np.cov(x, rowvar=False) for x in (a, b))
    assert frechet(a, b) == pytest.approx(mean @ mean + np.trace(s + t - 2 * sqrtm(s @ t).real), rel=1e-9)
    assert frechet(a, a + 3.0) == pytest.approx(6 * 9.0), "a shift costs its square"
    assert frechet(a, a[::-1]) == pytest.approx(0, abs=1e-9)


def test_kid_is_the_unbiased_estimate(rng: Rng) -> None:
    a, b = rng.normal(0, 1, (30, 4)), rng.normal(0.3, 1, (20, 4))

    def k(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return float((x @ y / 4 + 1) ** 3)

    within = [np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]) for x in (a, b)]
    between = np.mean([k(x, y) for x in a for y in b])
    assert kid(a, b) == pytest.approx(sum(within) - 2 * between)
    same = [kid(rng.normal(0, 1, (200, 4)), rng.normal(0, 1, (200, 4))) for _ in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(40), "no bias where the laws are the same"


def test_precision_recall_density_coverage(rng: Rng) -> None:
    real = rng.normal(0, 1, (600, 8))
    same = {k: v.mean() for k, v in prdc(real, rng.normal(0, 1, (600, 8))).items()}
    assert same["precision"] > 0.9
    assert same["recall"] > 0.9
    assert same["density"] == pytest.approx(1.0, abs=0.1)
    assert same["coverage"] > 0.9
    far = {k: v.mean() for k, v in prdc(real, real + 100.0).items()}
    assert far == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}
    half = prdc(real, np.concatenate([real[:300], real[:300] + 100.0]))
    assert half["precision"].mean() == 0.5, "half of the drawn ones are right"
    one = prdc(real, np.repeat(real[:1], 600, 0) + 1e-6 * rng.normal(0, 1, (600, 8)))
    assert one["precision"].mean() == 1.0
    assert one["coverage"].mean() < 0.05, "one glyph again and again covers nothing"


def test_diversity_is_the_mean_distance_within_a_group() -> None:
    x = np.array([[0.0], [1.0], [2.0], [50.0], [50.0], [9.0]])
    assert diversity(x, np.array([1, 1, 1, 2, 2, 3])) == pytest.approx({1: 4 / 3, 2: 0.0})


# -- copies and ink -------------------------------------------------------------------------------------------------


def test_planted_copies_are_found_moved_or_not(glyphs: Path) -> None:
    pictures = np.array(load_pairs(glyphs, "train").pictures[:400])
    known = thumbnails(pictures)
    moved = np.roll(pictures[:40], (8, -4), (2, 3))
    value, place = nearest_pixels(thumbnails(moved), known)
    assert (place.numpy() == np.arange(40)).all()
    assert float(value.max()) < 0.25
    others, _ = nearest_pixels(known[:40], known[40:])
    assert float(others.median()) > 0.6
    exact, where = nearest_features(np.eye(3), np.eye(3)[::-1].copy())
    assert np.allclose(exact, 0)
    assert where.tolist() == [2, 1, 0]


def test_ink(rng: Rng, glyphs: Path) -> None:
    pictures = np.array(load_pairs(glyphs, "train").pictures[:50])
    smeared = blurred(pictures, 4)
    assert half_grey(smeared).mean() > 2 * half_grey(pictures).mean()
    assert specks(pictures)[0].mean() < 0.2
    assert specks(noise(rng, 4))[0].min() > 50
    picture = Image.new("L", (128, 128), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((10, 10, 60, 20), fill=0)
    pen.rectangle((80, 80, 90, 120), fill=0)
    pen.point((5, 120), fill=0)
    small, parts = specks(np.asarray(picture)[None, None])
    assert (small[0], parts[0]) == (1, 3)
    assert half_grey(np.asarray(picture)[None, None])[0] == 0


# -- the list, the judges -------------------------------------------------------------------------------------------


def test_no_prompt_of_the_list_is_a_definition() -> None:
    captions = {
        normalised(s).strip(" .")
        for row in characters()
        for s in [row.definition, *row.definition.split(";"), *senses(row.definition)]
    }
    hints = {normalised(s) for number in range(1, 215) for s in radical_senses(number)}
    prompts, radicals = flat()
    assert not (captions | hints) & {normalised(p) for p in prompts}
    assert len(set(prompts)) == len(prompts) == len(radicals)
    assert {len(w) for w in PROMPTS.values()} == {3}


def test_the_list_has_the_sixty_most_frequent_radicals() -> None:
    counts: dict[int, int] = {}
    for row in characters():
        counts[row.radical] = counts.get(row.radical, 0) + 1
    frequent = sorted(counts, key=lambda r: -counts[r])[:60]
    assert not set(frequent) - set(PROMPTS), [radical(r) for r in set(frequent) - set(PROMPTS)]


def test_parts_are_radicals_in_any_form() -> None:
    assert radical(167) == "金"
    forms = radical_forms()
    assert forms["釒"] == forms["钅"] == (167,)
    assert set(forms["阝"]) == {163, 170}
    assert {"金", "艮"} <= parts_of("銀", ("金", "艮"), 167)
    assert {"水", "靑"} <= parts_of("清", ("氵", "青"), 85)


def test_the_reference_network_is_as_good_as_it_says(judge: Judge, glyphs: Path) -> None:
    network, test = judge.network, load_pairs(glyphs, "test")
    right = (judge.held_out.seen.radical == judge.held_out.radicals).mean()
    assert network.config.radical_accuracy > 0.9
    assert right > network.config.radical_accuracy - 0.05
    assert network.config.held_out == 2104
    assert (SHIPPED.parent / "evaluate" / "weights" / reference.WEIGHTS).stat().st_size < 4e6
    assert len(test) > 100
    train = load_pairs(glyphs, "train")
    assert 0.1 < reserved(train).mean() < 0.2


def test_adherence_of_real_blurred_noise_and_swapped_halves(judge: Judge, rng: Rng) -> None:
    listed = np.flatnonzero(np.isin(judge.held_out.radicals, list(PROMPTS)))
    real = judge.held_out.take(listed)
    ceiling = judge.adherence(real)
    assert ceiling["primary"].value > 0.85
    assert ceiling["anywhere"].value >= ceiling["primary"].value
    assert judge.real_adherence() == ceiling
    slight = judge.adherence(judge.look(blurred(real.pictures, 1), real.texts, real.radicals))["primary"].value
    assert slight > ceiling["primary"].value - 0.1, "a slight blur leaves the radical readable"
    nothing = judge.adherence(judge.look(noise(rng, len(real)), real.texts, real.radicals))["primary"]
    assert nothing.value < 0.1
    shuffled = judge.look(real.pictures, real.texts, real.radicals[rng.permutation(len(real))])
    assert judge.adherence(shuffled)["primary"].value < 0.2, "other prompts' glyphs do not do"

    left = np.array([r in (85, 64, 75, 167, 9, 120, 149) for r in real.radicals])
    rows = np.flatnonzero(left)
    swapped = real.pictures[rows].copy()
    swapped[..., 52:] = real.pictures[np.roll(rows, 1)][..., 52:]
    halves = judge.look(swapped, [real.texts[r] for r in rows], real.radicals[rows])
    assert judge.adherence(halves)["primary"].value > 0.5, "the left half still carries the radical"
    like = np.flatnonzero(np.isin(judge.train.radicals, real.radicals[rows]))
    others = judge.train.take(spread(like, len(rows)))
    own = frechet(real.seen.features[rows], others.seen.features)
    assert frechet(halves.seen.features, others.seen.features) > own, "no real glyph looks so"
    assert judge.retrieval(halves).value < judge.retrieval(real.take(rows)).value
    assert judge.copies(halves)["pixels"].value < 0.1


def test_distances_of_real_blurred_and_noise(judge: Judge, rng: Rng) -> None:
    real = judge.held_out.take(judge.held_out_rows(60, crossed=False))
    spare = np.flatnonzero(judge.spare & ~judge.train_crossed)
    floor = spread(spare, len(real))
    others = judge.train.take(np.setdiff1d(spare, floor)[: len(real)])
    assert len(others) == len(real), "real glyphs that are neither those compared with nor those of the floor"
    found = {
        name: judge.distance(judge.look(pictures, real.texts, real.radicals), real)
        for name, pictures in (
            ("real", others.pictures),
            ("blurred", blurred(others.pictures, 5)),
            ("noise", noise(rng, len(real))),
        )
    }
    over = {name: figures["over_floor"]["frechet"] for name, figures in found.items()}
    assert over["real"].value == pytest.approx(1.0, abs=0.15)
    assert over["real"].low < 1.0 < over["real"].high
    assert over["real"].value < over["blurred"].low < over["blurred"].high < over["noise"].value
    kid = {name: figures["drawn"]["kid"].value for name, figures in found.items()}
    assert kid["real"] < kid["blurred"] < kid["noise"]
    for name in ("precision", "recall", "coverage"):
        value = {key: figures["drawn"][name].value for key, figures in found.items()}
        assert value["real"] > 0.8
        assert value["noise"] == 0.0
        assert name == "precision" or value["blurred"] < 0.8 * value["real"], (
            "blurred ones crowd together, among real ones"
        )
    assert judge.floor(len(real)).value == pytest.approx(found["real"]["real"]["frechet"].value)


def test_floors_and_retrieval_rest_on_what_they_should(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = judge.held_out_rows(10_000, crossed=False)
    kept = judge.tested(judge.held_out.take(rows))
    assert len(kept) == int((rows < judge.tests).sum()) < len(rows), "validation glyphs are left out"
    assert kept.texts == [judge.held_out.texts[r] for r in rows if r < judge.tests]
    assert np.isnan(judge.retrieval(kept, crossed=True).value), "fewer than a hundred captions only point elsewhere"
    few = judge.unseen(20)
    monkeypatch.setattr(judge, "unseen", lambda count, **_: few[:count])
    monkeypatch.setattr(judge, "_floors", {})
    real = judge.held_out.take(judge.held_out_rows(200, crossed=False)).seen.features
    spread_out = frechet(few, real[spread(np.arange(len(real)), len(few))])
    assert judge.floor(200).value == pytest.approx(spread_out)


def test_nothing_of_nothing(judge: Judge) -> None:
    none = judge.held_out.take([])
    assert judge.distance(none, none) == {}
    assert np.isnan(judge.retrieval(none).value)
    assert np.isnan(judge.agreement(none).value)


def test_relative_adherence_is_one_for_real_glyphs_and_less_for_others(judge: Judge, rng: Rng) -> None:
    real = judge.held_out.take(np.flatnonzero(np.isin(judge.held_out.radicals, list(PROMPTS))))
    same = judge.relative_adherence(real)
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)
    half = replace(real, radicals=np.where(rng.random(len(real)) < 0.5, real.radicals, np.roll(real.radicals, 7)))
    found = judge.relative_adherence(half)
    assert found.low < found.value < found.high < 0.9


def test_lookup_knows_the_training_captions(judge: Judge) -> None:
    found = judge.lookup_adherence()
    assert 0.2 < found["primary"].value < 0.95
    assert found["anywhere"].value >= found["primary"].value
    assert found["primary"].n == 192
    told = judge.lookup_adherence(hints=True)
    assert told["primary"].value > found["primary"].value, "what radicals mean is among the hints"
    row = int(np.flatnonzero(judge.train.radicals == 195)[0])
    one = encode_all(judge.encoder, [judge.train.texts[row]]) @ encode_all(judge.encoder, judge.train.texts).T
    assert judge.train.texts[int(one.argmax())] == judge.train.texts[row], "a caption's nearest is itself"


def test_copies_planted_among_new_glyphs(judge: Judge) -> None:
    new = judge.held_out.take(judge.held_out_rows(60, crossed=False))
    clean, planted = judge.copies(new), judge.copies(judge.train.take(np.arange(0, 600, 10)))
    assert clean["pixels"].value < 0.1
    fresh = judge.copies(judge.held_out.take([int(np.argmax(judge.nearest(judge.held_out)["pixels"][0]))]))["pixels"]
    assert (fresh.value, fresh.low) == (0.0, 0.0)
    assert fresh.high == pytest.approx(0.975), "one glyph that is none proves little"
    assert planted["pixels"].value == planted["features"].value == 1.0
    assert judge.copies(judge.held_out)["pixels"].value == pytest.approx(0.01, abs=0.006)


def test_retrieval_is_perfect_for_planted_pairs_and_chance_for_shuffled_ones() -> None:
    with lent_generator(0):
        towers = Towers(16, 16).eval()
    towers.glyph, towers.text = torch.nn.Sequential(torch.nn.Identity()), torch.nn.Sequential(torch.nn.Identity())
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 16, generator=g)
    texts = [f"caption {i}" for i in range(400)]
    assert retrieval(towers, x, x, texts, x, texts).mean() == 1.0
    dealt = x[torch.randperm(400, generator=g)]
    assert retrieval(towers, x, dealt, texts, dealt, texts).mean() < 0.04
    twins = [f"caption {i // 2}" for i in range(400)]
    same = x[torch.arange(400) // 2 * 2]
    assert retrieval(towers, x, same, twins, same, twins)[::2].mean() == 1.0, "twins do not compete"
    near = x[:5] + 0.5 * torch.randn(5, 16, generator=g)
    assert retrieval(towers, x[:5], near, texts[:5], near, texts[:5]).mean() == 1.0
    crowd = x[torch.arange(395) % 5]
    assert retrieval(towers, x[:5], near, texts[:5], crowd, texts[5:]).mean() == 0.0, "rivals are not only one another"


def test_real_glyphs_find_their_captions_better_than_chance(judge: Judge) -> None:
    real = judge.held_out.take(judge.held_out_rows(200, crossed=False))
    found = judge.retrieval(real)
    assert found.low > 0.05
    order = np.random.Generator(np.random.Philox(0)).permutation(len(real))
    shuffled = judge.look(real.pictures, [real.texts[i] for i in order], real.radicals)
    assert judge.retrieval(shuffled).value < 0.05


def test_quarters_of_radicals_are_by_frequency(judge: Judge) -> None:
    real = judge.held_out_with(list(PROMPTS))
    sets = Drawn(listed=real, held_out=real, crossed=real, trained=real, real=real, real_crossed=real)
    found = adherence_quarters.compute(judge, sets)
    assert found["drawn"] == found["real"]
    quarters, whole = found["real"].values(), judge.real_adherence()["primary"]
    assert sum(f.n for f in quarters) == whole.n
    assert min(f.value for f in quarters) <= whole.value <= max(f.value for f in quarters)
    assert found["real"]["most_frequent"].n > 2 * found["real"]["rarest"].n


def test_diversity_and_legibility_of_real_glyphs(judge: Judge) -> None:
    real = judge.held_out.take(judge.held_out_rows(150, crossed=False))
    same = judge.look(np.repeat(real.pictures[:10], 3, 0), real.texts[:10] * 3, np.repeat(np.arange(10), 3))
    assert judge.diversity(same)["drawn"].value == pytest.approx(0, abs=0.05)
    figures = judge.legibility(real.pictures)
    assert figures["specks"].value < 0.2
    assert figures["half_grey"].value < 0.3


# -- commands -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scribbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 32x32 pictures that was never trained."""
    folder = tmp_path_factory.mktemp("scribbler") / "model"
    network = DiTConfig(width=32, depth=1, head_width=16, patch=8)
    model = make_denoiser(
        ModelConfig("scribbler", 32, 1, network, PixelsConfig(), DiffusionConfig(), TextConfig(max_tokens=16))
    )
    fill_randomly(model.network)
    save_model(folder, model)
    return folder


def test_evaluate_and_publish(
    scribbler: Path, small_glyphs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(small_glyphs), "--samples", "24", "--steps", "1", "--out", str(tmp_path)]
    assert main(["evaluate", str(scribbler), *options, "--guidance.low", "0.1"]) == 0
    said = capsys.readouterr().out
    assert "232 glyphs, 1 steps" in said
    assert "radical asked for is the primary one" in said
    report = read_report(tmp_path / "report.json")
    assert report["how"]["glyphs"] == {
        "listed": 192, "held_out": 24, "crossed": 4, "trained": 12, "real": 24, "real_crossed": 4
    }  # fmt: skip
    assert report["how"]["precision"] in ("bf16", "fp32")
    assert report["how"]["guide"]["low"] == 0.1
    figure = find(report["figures"], "adherence.primary")
    assert figure is not None
    assert figure.n == 192
    assert figure.low <= figure.value <= figure.high
    html = (tmp_path / "report.html").read_text()
    assert "<img" in html
    assert "://" not in html, "the page needs nothing beside it"
    assert Image.open(tmp_path / "list.png").width > 500

    readme = tmp_path / "README.md"
    readme.write_text(f"# a\n\n{BEGIN}\nold\n{END}\n\nrest\n")
    assert main(["evaluate", "publish", str(tmp_path / "report.json"), str(scribbler), "--readme", str(readme)]) == 0
    assert readme.read_text() == f"# a\n\n{BEGIN}\n{headlines(report)}\n{END}\n\nrest\n"
    card = (scribbler / "card.md").read_text()
    assert as_markdown(report) in card
    assert "misses.png" in card
    assert (scribbler / "misses.png").is_file()
    assert json.loads((scribbler / "report.json").read_text()) == report
    assert (
        main(["evaluate", "publish", str(scribbler / "report.json"), str(scribbler)]) == 0
    )  # once more, from where it lies
    assert (scribbler / "misses.png").is_file()

    report["model"]["weights"] = "0" * 64
    (tmp_path / "other.json").write_text(json.dumps(report))
    assert main(["evaluate", "publish", str(tmp_path / "other.json"), str(scribbler)]) == 2
    assert "measured other weights" in capsys.readouterr().err


def test_sweep(scribbler: Path, small_glyphs: Path, tmp_path: Path) -> None:
    options = ["--data", str(small_glyphs), "--samples", "32", "--out", str(tmp_path)]
    assert (
        main(["evaluate", "sweep", str(scribbler), *options, "--guidance", "1", "--steps", "1", "--samplers", "ddim"])
        == 0
    )
    rows = json.loads((tmp_path / "sweep.json").read_text())
    assert [(r["steps"], r["guidance"]) for r in rows] == [(20, 1.0), (1, 5.0)]
    assert Image.open(tmp_path / "sweep.png").width > 500
    assert len(settings((1, 5), (20,), ("ddim",))) == 2, "no setting is measured twice"


def test_compare(scribbler: Path, small_glyphs: Path, tmp_path: Path) -> None:
    options = ["--data", str(small_glyphs), "--samples", "32", "--out", str(tmp_path)]
    assert main(["compare", str(scribbler), *options, "--steps", "1,3", "--samplers", "heun,ddim"]) == 0
    rows = json.loads((tmp_path / "compare.json").read_text())
    assert [(r["sampler"], r["calls"]) for r in rows] == [("heun", 1), ("heun", 5), ("ddim", 1), ("ddim", 3)]
    assert "Within 5 calls" in (tmp_path / "compare.md").read_text()
    assert Image.open(tmp_path / "compare.png").height > 200
    itself = [
        "--weak",
        str(scribbler),
        "--guidance.low",
        "0.2",
        "--steps",
        "2",
        "--samplers",
        "ddim",
        "--precision",
        "fp32",
    ]
    assert main(["compare", str(scribbler), *options, *itself, "--guidance", "1"]) == 0
    plain = json.loads((tmp_path / "compare.json").read_text())
    assert main(["compare", str(scribbler), *options, *itself, "--guidance", "9"]) == 0
    assert json.loads((tmp_path / "compare.json").read_text()) == plain, "guided away from itself it stays where it is"
    assert [calls(name, 20) for name in ("ddpm", "heun", "dpmpp-sde", "unipc")] == [20, 39, 20, 20]
    for guidance, rows in ((Guidance(4.0), 31), (Guidance(4.0, low=0.0), 40), (Guidance(1.0), 20), (Guidance(0.0), 20)):
        assert rows_per_picture(Sampling(20, "ddim", guidance)) == rows


def test_two_processes_draw_what_one_draws(scribbler: Path, small_glyphs: Path, tmp_path: Path) -> None:
    options = ["--data", str(small_glyphs), "--samples", "16", "--steps", "1", "--precision", "fp32"]
    assert main(["evaluate", str(scribbler), *options, "--out", str(tmp_path / "one")]) == 0
    port = str(29600 + os.getpid() % 300)
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port, "-m", "zaozi"]
    subprocess.run(
        [sys.executable, *command, "evaluate", str(scribbler), *options, "--out", str(tmp_path / "two")],
        check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    one, two = (json.loads((tmp_path / name / "report.json").read_text())["figures"] for name in ("one", "two"))
    assert one["adherence"] == two["adherence"]
    assert one["distance"]["drawn"]["kid"]["value"] == pytest.approx(two["distance"]["drawn"]["kid"]["value"], abs=1e-3)


def test_speedrun(small_glyphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zaozi.train.prepare.find_dataset", lambda _: small_glyphs)
    recipe = Recipe(
        name="dash",
        network=DiTConfig(width=32, depth=1, head_width=16, patch=8),
        train=TrainConfig(batch_size=8, sample_every=0, validate_every=0, self_check=False, precision="fp32"),
    )
    home, kernels = os.environ["ZAOZI_HOME"], os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    record = speedrun(recipe, tmp_path / "run", minutes=0.5, rounds=1)
    assert (os.environ["ZAOZI_HOME"], os.environ.get("TORCHINDUCTOR_CACHE_DIR")) == (home, kernels)
    assert record["minutes"] == pytest.approx(0.5, abs=0.2)
    assert not record["reached"]
    assert record["adherence"]["n"] == 192
    assert json.loads((tmp_path / "run" / "speedrun.json").read_text()) == record
    log = (Path(__file__).parents[1] / "LOG.md").read_text(encoding="utf-8")
    head = next(line for line in log.splitlines() if line.startswith("| date | recipe |"))
    assert as_row(record).count("|") == head.count("|"), "the line fits the table of records"
    assert f"|  | {record['minutes']:.1f} |  | " in as_row(record)
    with pytest.raises(ZaoziError, match="starts from nothing"):
        speedrun(recipe, tmp_path / "run", minutes=1.0)
    with pytest.raises(ZaoziError, match="out of the recipe"):
        speedrun(replace(recipe, data=DataConfig(path="x")), tmp_path / "other", minutes=1.0)


def test_judges_can_be_trained(glyphs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "judges"
    assert main(["evaluate", "train-reference", "--data", str(glyphs), "--epochs", "1", "--out", str(out)]) == 0
    assert main(["evaluate", "train-clip", "--data", str(glyphs), "--epochs", "1", "--reference", str(out)]) == 0
    assert "held-out glyphs: radical" in capsys.readouterr().out
    assert main(["evaluate", "train-clip", "--data", str(glyphs), "--epochs", "0", "--reference", str(out)]) == 2
    assert "use 1 or more" in capsys.readouterr().err
    network, towers = load_reference(out), load_towers(out)
    assert network.config.held_out == len(load_pairs(glyphs, "test"))
    assert 0 <= towers.accuracy <= 1
    assert Judge(glyphs, out).network.config == network.config


def test_mistakes_are_named(
    scribbler: Path, small_glyphs: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for args, wanted in (
        (["evaluate", str(scribbler), "--data", str(tiny_data)], "held-out pictures, too few to measure by"),
        (["evaluate", "base", "--data", str(small_glyphs)], "pictures of 32 pixels, the model draws 128"),
        (["evaluate", str(scribbler), "--data", str(small_glyphs), "--batch-size", "0"], "batch size 0"),
        (["evaluate", str(scribbler), "--data", str(small_glyphs), "--sampler", "dpmpp2m"], "dpmpp-2m"),
        (["evaluate", str(scribbler), "--data", str(small_glyphs), "--samples", "3"], "use 16 or more"),
        (["evaluate", str(scribbler), "--data", str(small_glyphs), "--eta", "2"], "use it with ddim"),
        (
            ["evaluate", "train-reference", "--data", str(small_glyphs), "--out", str(small_glyphs)],
            "which another command wrote",
        ),
        (["speedrun", "--rounds", "0"], "rounds 0 is out of range"),
        (["model", "error", str(scribbler), "--data", str(tiny_data), "--pairs", "0"], "0 pairs are out of range"),
        (["evaluate", str(scribbler), "--data", str(small_glyphs), "--reference", str(tmp_path)], "train-reference"),
        (["evaluate", "train-reference", "--data", str(small_glyphs), "--epochs", "0"], "use 1 or more"),
        (["evaluate", "publish", str(tmp_path / "no.json"), str(scribbler)], "is not a report"),
    ):
        assert main(args) == 2
        said = capsys.readouterr().err
        assert wanted in said, said
        assert said.count("\n") == 1
    plain_file = tmp_path / "plain"
    plain_file.touch()
    for args in (["evaluate", str(scribbler)], ["evaluate", "control", str(scribbler)]):
        assert main([*args, "--data", str(small_glyphs), "--out", str(plain_file)]) == 2
        assert "is a file; give a folder" in capsys.readouterr().err, "said before anything is drawn"
    with pytest.raises(ZaoziError, match="needs one line"):
        between_marks("no marks", "quality", "")


def test_an_untrained_reference_is_at_chance() -> None:
    with lent_generator(0):
        network = Reference(ReferenceConfig((1, 2, 3, 4), ("a", "b"), ("x",)))
    x = torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert network.eval()(x)[0].softmax(1).max() < 0.9


@pytest.mark.skipif(not (SHIPPED / "base" / "report.json").is_file(), reason="base has no report yet")
def test_the_readme_shows_the_report_of_the_weights_that_ship() -> None:
    from zaozi.core.files import sha256

    report = read_report(SHIPPED / "base" / "report.json")
    assert report["model"]["weights"] == sha256(SHIPPED / "base" / WEIGHTS)
    assert report["how"]["samples"] >= 2000
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert readme_with(readme, report, SHIPPED / "base") == readme
    card = (SHIPPED / "base" / "card.md").read_text(encoding="utf-8")
    assert as_markdown(report) in card
    held = [row for row in all_rows() if row.drawn.partition(".")[0] in versions(report)]
    assert all(find(report["figures"], row.drawn) for row in held)
    assert len(table(report)) == 1 + len(held)


# -- control --------------------------------------------------------------------------------------------------------


def test_a_readout_finds_a_linear_truth(rng: Rng) -> None:
    x, weights = rng.standard_normal((500, 12)), rng.standard_normal((12, 3))
    truth = x @ weights + np.array([1.0, -2.0, 3.0])
    assert np.abs(Readout(x, truth, ridge=1e-9)(x) - truth).max() < 1e-6


def test_the_judge_reads_properties_of_real_glyphs(judge: Judge) -> None:
    """Real glyphs score as held-out ones do with their own values, and near chance with values dealt anew."""
    real = judge.train
    columns = load_pairs(judge.data, "train").columns
    order = np.random.Generator(np.random.Philox(1)).permutation(len(real))
    for q, column, kind in zip(
        questions(judge), ("structure", "radical", "strokes", "pinyin_final"), (str, int, float, str), strict=True
    ):
        known = np.array([bool(v) for v in columns[column]])
        rows = np.flatnonzero(known)
        own = np.array([kind(columns[column][r]) for r in rows])
        right = q.score(real.seen.take(rows), own).mean()
        dealt = q.score(real.seen.take(rows), own[order[order < len(rows)]]).mean()
        if q.share:
            assert right > dealt + 0.05, q.name
            assert q.real(q.values).value > dealt, q.name
        else:
            assert right < 2 < dealt, q.name
    by_name = {q.name: q.real(q.values).value for q in questions(judge)}
    radical = next(q for q in questions(judge) if q.name == "radical")
    assert radical.real(radical.values[:3]).n < radical.real(radical.values).n, "only glyphs with what is asked"
    assert by_name["structure"] > 0.9
    assert by_name["radical"] > 0.85
    assert by_name["strokes off by"] < 2


def test_evaluate_control(glyph_model: str, small_glyphs: Path, tmp_path: Path) -> None:
    options = ["--data", str(small_glyphs), "--samples", "24", "--out", str(tmp_path)]
    assert main(["evaluate", "control", glyph_model, *options]) == 0
    found = json.loads((tmp_path / "control.json").read_text())
    assert set(found["properties"]) >= {"structure", "radical", "strokes off by"}
    assert found["properties"]["structure"]["alone"]["n"] == 24
    assert "| composed |" in (tmp_path / "control.md").read_text()


def test_every_glyph_can_be_asked_for_its_own_property(glyph_model: str) -> None:
    studio, how = ParallelSampler(Path(glyph_model)), Sampling(1, batch_size=32)
    mixed = studio.draw(["fire"] * 2, how, properties={"structure": ["left-right", "single"], "strokes": [5.0, 20.0]})
    for value, strokes, row in (("left-right", 5.0, 0), ("single", 20.0, 1)):
        alone = studio.draw(["fire"] * 2, how, properties={"structure": [value] * 2, "strokes": [strokes] * 2})
        assert mixed is not None
        assert alone is not None
        assert np.abs(mixed[row].astype(int) - alone[row]).max() <= 1
    assert np.abs(mixed[0].astype(int) - mixed[1]).max() > 5
    composed = studio.draw([{"fire": 1.0, "water": 1.0}, {"fire": 1.0}], how)
    assert composed is not None
    assert composed.shape == (2, 1, 32, 32)


def test_a_radical_is_asked_for_beside_texts_that_mean_another(judge: Judge, glyph_model: str) -> None:
    studio, means = ParallelSampler(Path(glyph_model)), dict(zip(*flat(), strict=True))
    asked: list[tuple[str, object]] = []

    def draw(
        prompts: list[str], how: Sampling, *, properties: dict[str, list[object]], **_: object
    ) -> NDArray[np.uint8]:
        asked.extend(zip(prompts, properties.get("radical", []), strict=False))
        return noise(np.random.Generator(np.random.Philox(0)), len(prompts))

    studio.draw = draw  # type: ignore[assignment, method-assign]
    studio.seconds_per_glyph = lambda how: 0.0  # type: ignore[method-assign]
    found = measure_properties(studio, judge, Sampling(1), 200, say=lambda _: None)
    assert found is not None
    assert set(found["radical"]) == {"alone", "alone by chance", "beside", "beside by chance", "real"}
    beside = [(text, number) for text, number in asked if text]
    assert len(beside) == 200
    assert all(str(means[text]) != number for text, number in beside)
    prompts, radicals = flat()
    wanted = np.array([radicals[(i + 17) % len(radicals)] for i in range(100)])
    assert all(means[text] != number for text, number in zip(_beside(wanted, 100), wanted, strict=True))
    assert _beside(None, 2) == prompts[17:19]


def test_both_radicals_are_looked_for_in_both_ways(judge: Judge, glyph_model: str) -> None:
    studio = ParallelSampler(Path(glyph_model))
    asked: list[object] = []

    def draw(prompts: list[object], how: Sampling, **_: object) -> NDArray[np.uint8]:
        asked.extend(prompts)
        return noise(np.random.Generator(np.random.Philox(0)), len(prompts))

    studio.draw = draw  # type: ignore[assignment, method-assign]
    found = measure_composed(studio, judge, Sampling(1), 2)
    assert found is not None
    assert {name: f.n for name, f in found.items()} == {"one text": 24, "composed": 24}
    assert found["composed"].value < 0.1
    assert asked[0] == "fire and sickness"
    assert asked[24] == {"fire": 1.0, "sickness": 1.0}


def test_settings_that_tie_are_not_ranked() -> None:
    def row(sampler: str, calls: int, adherence: float, frechet: float) -> dict[str, object]:
        def around(value: float, by: float) -> dict[str, float]:
            return {"value": value, "low": value - by, "high": value + by, "n": 100}

        found = {"adherence": around(adherence, 0.05), "frechet": around(frechet, 5.0)}
        return {"sampler": sampler, "steps": calls, "calls": calls, **found}

    rows = [
        row("ddim", 5, 0.8, 20.0),
        row("euler", 4, 0.6, 20.0),
        row("unipc", 10, 0.82, 12.0),
        row("ddpm", 10, 0.8, 40.0),
    ]
    assert best(rows) == [
        "Within 5 calls: ddim in 5 steps, the cheapest of the 1 (of 2) settings that tie for the best.",
        "Within 10 calls: ddim in 5 steps, the cheapest of the 2 (of 4) settings that tie for the best.",
        "Within 20 calls: ddim in 5 steps, the cheapest of the 2 (of 4) settings that tie for the best.",
    ]


def test_a_report_says_which_measures_it_holds(glyph_model: str, small_glyphs: Path, tmp_path: Path) -> None:
    """A measure that is added later is computed alone; the figures of the others stay."""
    options = ["--data", str(small_glyphs), "--samples", "16", "--steps", "1", "--out", str(tmp_path)]
    assert main(["evaluate", glyph_model, *options, "--only", "legibility"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["measures"] == {"legibility": 1}
    assert [row[0] for row in table(report)[1:]] == [
        "half-grey share of the ink",
        "specks per glyph",
        "separate parts per glyph",
    ]
    assert main(["evaluate", glyph_model, *options, "--only", "diversity", "--only", "legibility"]) == 0
    both = json.loads((tmp_path / "report.json").read_text())
    assert both["measures"] == {"diversity": 1, "legibility": 1}
    assert both["figures"]["legibility"] == report["figures"]["legibility"]
    with pytest.raises(ZaoziError, match="the earlier report differs in 'how'"):
        completed(both, report | {"how": {}})
    empty = report | {"measures": {"distance": 1}, "figures": {"distance": {}}}
    assert completed(empty, report)["figures"] == report["figures"] | {"distance": {}}, "too few glyphs give no figure"
    old = {key: value for key, value in report.items() if key != "measures"}
    assert versions(old) == {"legibility": 1}


def test_an_unknown_measure_is_named(glyph_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", glyph_model, "--only", "legibilty"]) == 2
    assert "unknown measure 'legibilty'; did you mean 'legibility'?" in capsys.readouterr().err
