"""Two sides in turns: A B A B ..., so that what slows the machine for a while slows both."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Clock = Callable[[], float]


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    name: str
    piece: Callable[[], float]
    """Do the smallest piece of work (an update, a batch of drawings), and return the pictures that it counts for."""
    settle: Callable[[], None] = lambda: None
    """Wait for the device."""


@dataclass(frozen=True)
class Pair:
    """Pictures per second of both sides, by turn."""

    a: tuple[float, ...]
    b: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """median(a) / median(b): above 1 if A is faster."""
        return median(self.a) / median(self.b)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio of a turn of A to the turn of B after it."""
        ratios = [a / b for a, b in zip(self.a, self.b, strict=True)]
        return min(ratios), max(ratios)

    def as_record(self) -> dict[str, Any]:
        low, high = self.spread
        return {
            "a": {"median": median(self.a), "turns": list(self.a)},
            "b": {"median": median(self.b), "turns": list(self.b)},
            "ratio": self.ratio,
            "lowest": low,
            "highest": high,
        }


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass
class Budget:
    """Divide the time that is left among the turns that are left. A turn lasts at least one piece of work."""

    seconds: float
    pairs: int
    """Pairs still to be measured."""
    turns: int = 3
    """Turns of each side; 3 or more."""
    longest: float = 5.0
    """Seconds of the longest turn."""
    late: float = 60.0
    """Seconds by which the last pair may end late; it is dropped if it takes longer."""
    clock: Clock = time.perf_counter
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.clock()

    @property
    def left(self) -> float:
        return self.seconds - (self.clock() - self.start)

    def turn(self) -> float:
        """Return the seconds of each turn of the next pair; one further turn of each side is for its warm-up."""
        return max(0.0, min(self.longest, self.left / max(1, self.pairs) / (2 * (self.turns + 1))))


def rate(side: Side, seconds: float, clock: Clock) -> float:
    """Return the pictures per second of one turn, which ends with the first piece after `seconds`."""
    pictures, start = 0.0, clock()
    while True:
        pictures += side.piece()
        side.settle()
        if (spent := clock() - start) >= seconds:
            return pictures / max(spent, 1e-9)


def alternate(a: Side, b: Side, budget: Budget, *, say: Callable[[str], None] = progress) -> Pair | None:
    """Measure both sides in turns, A first, after one piece of each as warm-up; None if the time runs out."""
    seconds = budget.turn()
    budget.pairs -= 1
    if budget.left <= 0:
        return None
    for side in (a, b):
        side.piece()
        side.settle()
    rates: dict[str, list[float]] = {"a": [], "b": []}
    for turn in range(1, budget.turns + 1):
        for which, side in (("a", a), ("b", b)):
            if budget.left < -budget.late:
                return None
            rates[which].append(rate(side, seconds, budget.clock))
            say(
                f"turn {turn} of {budget.turns}, {side.name}: {rates[which][-1]:.3g}/s ({max(budget.left, 0):.0f} s left)"
            )
    return Pair(tuple(rates["a"]), tuple(rates["b"]))
