"""The benchmarks alternate their turns, divide medians, keep to their time, and render docs/benchmarks.md from results.json."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.__main__ import NAV, with_page
from benchmarks.contestant import Contestant, cost_of
from benchmarks.measure import Report, check_equal, compare, described
from benchmarks.page import rendered
from benchmarks.peers import PEERS
from benchmarks.turns import Budget, Pair, Side, alternate

from zaozi.core.errors import ZaoziError

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"


class Time:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def worker(name: str, time: Time, log: list[str], seconds: list[float]) -> Side:
    """A side whose pieces of 6 pictures take these seconds, the last of them for ever."""

    def piece() -> float:
        log.append(name)
        time.now += seconds.pop(0) if len(seconds) > 1 else seconds[0]
        return 6.0

    return Side(name, piece)


def test_turns_alternate_after_a_warm_up_and_the_ratio_is_that_of_medians() -> None:
    time, log = Time(), list[str]()
    a = worker("A", time, log, [9.0, 1.0, 2.0, 6.0])  # warm-up, then 6, 3 and 1 pictures per second
    b = worker("B", time, log, [9.0, 3.0, 2.0, 6.0])  # 2, 3 and 1
    pair = alternate(a, b, Budget(1000.0, pairs=1, longest=0.5, clock=time), say=lambda line: None)
    assert log == ["A", "B"] * 4
    assert pair == Pair((6.0, 3.0, 1.0), (2.0, 3.0, 1.0))
    assert pair.ratio == 3.0 / 2.0  # the mean of the ratios would be 5/3
    assert pair.spread == (1.0, 3.0)


def test_a_turn_lasts_its_share_of_the_time_and_ends_with_a_piece() -> None:
    time, log = Time(), list[str]()
    sides = [worker(name, time, log, [1.0]) for name in "AB"]
    pair = alternate(sides[0], sides[1], Budget(48.0, pairs=2, longest=60.0, clock=time), say=lambda line: None)
    assert pair == Pair((6.0,) * 3, (6.0,) * 3)
    assert "".join(log) == "AB" + "AAABBB" * 3  # 48 s for 2 pairs of 2 x 4 turns: 3 s each


def test_pairs_for_which_no_time_is_left_are_not_measured_and_late_ones_are_dropped() -> None:
    for spent, done in ((10.0, ""), (9.0, "ABA")):  # pieces of 4 s, so the first turn of B would begin at 9 + 12 s
        time, log = Time(), list[str]()
        budget = Budget(10.0, pairs=1, late=10.0, longest=0.0, clock=time)
        time.now = spent
        sides = [worker(name, time, log, [4.0]) for name in "AB"]
        assert alternate(sides[0], sides[1], budget, say=lambda line: None) is None
        assert "".join(log) == done


def stand_in(name: str, width: int, *, draws: bool = True) -> Contestant:
    """A linear network that stands for zaozi or a peer, with real updates; draws 3 pictures with 4 calls each."""
    network, x = nn.Linear(width, width, bias=False), torch.ones(8, width)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)

    def update(number: int) -> float:
        network(x).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        return 8.0

    def draw(how: str) -> float:
        for _ in range(4):
            network.forward(x[:3])  # as some networks are called
        return 3.0

    cost = cost_of(network, 64, lambda: network(x[:1]))
    assert cost.flops == 2 * width * width
    assert cost.parameters == width * width
    said = ("usual", "equal") if draws else ("", "")
    return Contestant(name, "1", "fp32", network, cost, 8, update, draw if draws else None, sampler=said)


@pytest.fixture
def results() -> dict[str, Any]:
    """Two stand-ins beside 'zaozi', measured in turns."""
    report = Report(Budget(20.0, pairs=1, longest=0.01))
    with torch.random.fork_rng(devices=[]):
        zaozi, equal, own = (stand_in(n, w) for n, w in (("zaozi", 16), ("tiny", 16), ("wide", 64)))
    compare(report, torch.device("cpu"), [zaozi], [equal], [own])
    part = {
        "device": "cpu",
        "machine": "2 cores of a processor",
        "threads": 1,
        "contestants": [described(c) for c in (zaozi, equal, own)],
        "training": report.training,
        "sampling": report.sampling,
        "missing": report.missing,
    }
    return {"date": "2026-01-02", "torch": "2", "python": "3", "devices": [part]}


def test_stand_ins_are_compared_in_every_way_and_rendered(
    results: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    part = results["devices"][0]
    assert [(r["cost"], r["peer"]) for r in part["training"]] == [("equal", "tiny"), ("own", "wide")]
    assert [(r["how"], r["peer"]) for r in part["sampling"]] == [
        ("equal", "tiny"),
        ("usual", "tiny"),
        ("usual", "wide"),
    ]
    assert all(r["calls"] == {"zaozi": 4.0, "peer": 4.0} for r in part["sampling"])
    assert part["missing"] == []
    row = part["training"][0]
    row.update(a={"median": 1234.5}, b={"median": 98.76}, ratio=12.5, lowest=0.5, highest=20.25)
    text = rendered(json.loads(json.dumps(results)))
    assert "| zaozi | tiny | 64x64 | 0.00000051 | 0.000256 M | 1,234 | 98.8 | 12.5 (0.500 to 20.2) |" in text
    assert "Measured on 2026-01-02 with PyTorch 2" in text
    assert "## CPU: 2 cores of a processor, 1 thread\n" in text
    assert "`make bench`" in text


def test_a_peer_that_fails_is_listed_with_its_reason(results: dict[str, Any]) -> None:
    def broken(number: int) -> float:
        raise RuntimeError("no\nsuch operator")

    report = Report(Budget(20.0, pairs=1, longest=0.01))
    with torch.random.fork_rng(devices=[]):
        zaozi, peer = stand_in("zaozi", 16), replace(stand_in("tiny", 16, draws=False), update=broken)
    compare(report, torch.device("cpu"), [zaozi], [peer], [])
    assert (report.training, report.sampling) == ([], [])
    assert report.missing == [{"name": "training, tiny", "reason": "no such operator"}]


def test_equal_cost_is_within_five_percent() -> None:
    with torch.random.fork_rng(devices=[]):
        zaozi, peers = stand_in("zaozi", 100), [stand_in(str(width), width) for width in (98, 102, 103)]
    check_equal(zaozi, peers[:2])
    with pytest.raises(ZaoziError, match=r"103 costs 1\.06"):
        check_equal(zaozi, peers)


@pytest.mark.skipif(not (KEPT.is_file() or PAGE.is_file()), reason="not measured yet")
def test_the_page_is_that_of_its_results() -> None:
    """`make bench` writes both."""
    assert PAGE.read_text(encoding="utf-8") == rendered(json.loads(KEPT.read_text(encoding="utf-8")))
    assert NAV in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_the_page_joins_the_navigation_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert with_page(text).count(NAV) == 1
    assert with_page(with_page(text)) == with_page(text)


def test_requirements_are_exact_and_belong_to_the_pinned_torch() -> None:
    lines = (ROOT / "benchmarks" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    torch_pin = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    minor = int(torch_pin.split(".")[1])
    assert pins["torchvision"].startswith(f"0.{minor + 15}.")  # torchvision 0.(n + 15) belongs to torch 2.n
    assert all((ROOT / "benchmarks" / "peers" / f"{name}.py").is_file() for name in PEERS)
