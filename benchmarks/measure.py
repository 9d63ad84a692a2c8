"""Every comparison on one device, in one process."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks import ours
from benchmarks.contestant import WITHIN, Contestant, How, Setup
from benchmarks.peers import PEERS, builders
from benchmarks.turns import Budget, Side, alternate, progress
from zaozi import TextToImage
from zaozi.core.errors import ZaoziError
from zaozi.core.machine import machine, usable_cores, using_threads


@dataclass(frozen=True)
class Size:
    """How much is done at once."""

    batch: int
    draws: int
    own: int
    cut: int
    longest: float
    compiled: bool = True


SIZES = {
    "cpu": Size(batch=32, draws=4, own=4, cut=40, longest=5.0),
    "cuda": Size(batch=128, draws=16, own=16, cut=100, longest=3.0),
    "quick": Size(batch=2, draws=1, own=1, cut=4, longest=0.2, compiled=False),
}


@dataclass
class Report:
    """What has been measured so far, as it is written to results.json."""

    budget: Budget
    training: list[dict[str, Any]] = field(default_factory=list)
    sampling: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)

    def compare(self, rows: list[dict[str, Any]], a: Side, b: Side, about: dict[str, Any]) -> None:
        """Measure a pair in turns. A side that fails is listed as missing with what it says."""
        try:
            pair = alternate(a, b, self.budget)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # what a peer may raise
            self.lack(b.name, str(error))
            return
        if pair is None:
            self.lack(b.name, "the time ran out")
        else:
            rows.append({**about, **pair.as_record()})

    def lack(self, name: str, reason: str) -> None:
        reason = " ".join(reason.split())[:200]
        progress(f"not measured: {name}: {reason}")
        if (entry := {"name": name, "reason": reason}) not in self.missing:
            self.missing.append(entry)


def measure(device: str, size: Size, seconds: float, folder: Path) -> dict[str, Any]:
    """Return the results on 'cpu' or 'cuda' within `seconds`; zaozi's files go to `folder`. Raises `ZaoziError`."""
    report = Report(Budget(seconds, pairs=1, longest=size.longest))
    folder.mkdir(parents=True, exist_ok=True)
    with using_threads(usable_cores()), TemporaryDirectory(dir=folder) as runs, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        progress(f"{device}: preparing zaozi")
        said: list[str] = []
        prepared = []
        for compiled in (False, True) if size.compiled else (False,):
            run = ours.prepared(
                folder / "data", Path(runs), size.batch, device=device, compiled=compiled, say=said.append
            )
            prepared.append(run)
        if failed := [line for line in said if "without torch.compile" in line]:
            report.lack("zaozi, compiled", failed[0])
            prepared = prepared[:1]
        where = prepared[0].workers.device
        batches, pictures = ours.prefetched(prepared[0])
        setup = Setup(where, batches, pictures, size.draws, size.own, size.cut)
        model = TextToImage.from_pretrained("base", device=where.type)
        zaozi = [ours.contestant(run, setup, model) for run in prepared]
        equal, own = peers(setup, zaozi[0], report)
        for side in zaozi[1:]:
            progress(f"{device}: compiling zaozi")
            side.update(0)
        compare(report, where, zaozi, equal, own)
    return {
        "device": device,
        "machine": machine(device),
        "cores": usable_cores(),
        "threads": usable_cores(),
        "turns": report.budget.turns,
        "contestants": [described(c) for c in (*zaozi, *equal, *own)],
        "training": report.training,
        "sampling": report.sampling,
        "missing": report.missing,
    }


def peers(setup: Setup, zaozi: Contestant, report: Report) -> tuple[list[Contestant], list[Contestant]]:
    """Build the peers at equal cost and at their own width. Raises `ZaoziError` if equal cost is not equal."""
    equal: list[Contestant] = []
    own: list[Contestant] = []
    for name, package in PEERS.items():
        progress(f"{setup.device.type}: building {name}")
        try:
            at_equal_cost, at_own_width = builders(name)
            equal += at_equal_cost(setup)
            own += at_own_width(setup)
        except (ImportError, OSError, RuntimeError, TypeError, AttributeError, ZaoziError) as error:
            report.lack(package, str(error))
    check_equal(zaozi, equal)
    return equal, own


def check_equal(zaozi: Contestant, peers: Sequence[Contestant]) -> None:
    """Raises `ZaoziError` if a call of a peer's network does not cost as much as one of zaozi's."""
    for peer in peers:
        share = peer.cost.flops / zaozi.cost.flops
        if abs(share - 1.0) > WITHIN:
            raise ZaoziError(
                f"a call of {peer.name} costs {share:.2f} of one of zaozi's network; choose other widths in benchmarks/peers"
            )


def compare(
    report: Report, device: torch.device, zaozi: list[Contestant], equal: list[Contestant], own: list[Contestant]
) -> None:
    """Training and sampling at equal cost, then as each side usually does, whose turns fit into the time that is left. At the
    peers' own widths, where an update takes seconds, they meet the last of zaozi's sides only, the compiled one if there is one.
    """
    usual = [("usual", peer) for peer in (*equal, *own) if peer.draw is not None]
    same = [("equal", peer) for peer in equal if peer.draw is not None]
    drawings: list[tuple[How, Contestant]] = [*same, *usual]  # type: ignore[list-item]
    report.budget.pairs = len(zaozi) * len(equal) + len(own) + len(drawings)

    def trained(some: list[Contestant], sides: list[Contestant], cost: str) -> None:
        for peer in some:
            for side in sides:
                a, b = side.training(device), peer.training(device)
                report.compare(report.training, a, b, {"cost": cost, "zaozi": side.name, "peer": peer.name})

    trained(equal, zaozi, "equal")
    calls = {how: zaozi[0].calls(how) for how in sorted({how for how, _ in drawings})}
    for how, peer in drawings:
        a, b = zaozi[0].drawing(device, how), peer.drawing(device, how)
        about: dict[str, Any] = {"how": how, "zaozi": zaozi[0].name, "peer": peer.name}
        if report.budget.left > 0:
            about["calls"] = {"zaozi": round(calls[how], 3), "peer": round(peer.calls(how), 3)}
        which = 0 if how == "usual" else 1
        about["samplers"] = {"zaozi": zaozi[0].sampler[which], "peer": peer.sampler[which]}
        report.compare(report.sampling, a, b, about)
    trained(own, zaozi[-1:], "own")


def described(side: Contestant) -> dict[str, Any]:
    """Return what the tables say about a side."""
    return {
        "name": side.name,
        "version": side.version,
        "precision": side.precision,
        "batch": side.batch,
        "ema": side.ema,
        **asdict(side.cost),
    }
