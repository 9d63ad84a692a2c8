"""The order of training: a permutation an epoch, made a few rows at a time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2, chisquare

from zaozi.data import pairs
from zaozi.data.pairs import SHUFFLED_WHOLE, Order, balance_weights, training_rows

KEYS = st.integers(0, 2**63)
HELD = [HealthCheck.function_scoped_fixture]  # `way` holds for all examples


@pytest.fixture(params=["whole", "some"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to make a permutation, on any count."""
    monkeypatch.setattr(pairs, "SHUFFLED_WHOLE", 2**62 if request.param == "whole" else 0)
    return request.param


def permutation(count: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    return pairs._permuted(np.arange(count, dtype=np.uint64), count, keys)


@given(st.integers(1, 5000), st.lists(st.integers(0, 2**64 - 1), min_size=8, max_size=8))
@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=HELD)
def test_every_key_gives_a_permutation_of_every_count(count: int, keys: list[int]) -> None:
    assert sorted(permutation(count, np.array(keys, np.uint64))) == list(range(count))


@pytest.mark.parametrize("count", [SHUFFLED_WHOLE, SHUFFLED_WHOLE + 1, 181**2, 256**2 - 1, 256**2, 256**2 + 1, 300_007])
def test_every_epoch_is_a_permutation(count: int) -> None:
    order = Order(count, 3)
    epochs = [order.rows(epoch * count, count) for epoch in range(2)]
    assert all(np.array_equal(np.sort(rows), np.arange(count)) for rows in epochs)
    assert np.mean(epochs[0] == epochs[1]) < 1e-3
    assert np.mean(epochs[0] == Order(count, 4).rows(0, count)) < 1e-3
    assert np.mean(np.abs(np.diff(epochs[0])) == 1) < 1e-3, "neighbours are torn apart"


@given(
    count=st.integers(1, 70),
    seed=KEYS,
    start=st.integers(0, 10**12),
    number=st.integers(0, 300),
    cut=st.integers(0, 300),
)
@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=HELD)
def test_rows_are_a_function_of_their_place(way: str, count: int, seed: int, start: int, number: int, cut: int) -> None:
    cut = min(cut, number)
    rows = Order(count, seed).rows(start, number)
    order = Order(count, seed)
    later, earlier = order.rows(start + cut, number - cut), order.rows(start, cut)
    assert list(rows) == [*earlier, *later]
    assert list(training_rows(count, start, number, seed)) == list(rows)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), st.floats(0, 1), KEYS)
@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=HELD)
def test_weighted_rows_come_floor_or_ceil_of_their_weight(
    way: str, classes: list[str], power: float, seed: int
) -> None:
    weights = balance_weights(classes, power)
    count = len(weights)
    found = np.bincount(Order(count, seed, weights).rows(5 * count, count), minlength=count)
    assert (np.floor(weights - 1e-9) <= found).all()
    assert (found <= np.ceil(weights + 1e-9)).all()


def test_weights_are_kept_on_average(way: str) -> None:
    weights = balance_weights(["common"] * 90 + ["rare"] * 10, 0.5)
    rows = Order(100, 5, weights).rows(0, 100 * 300)
    assert np.allclose(np.bincount(rows, minlength=100) / 300, weights, atol=0.1)


def test_all_orders_of_a_few_rows_are_alike_frequent(way: str) -> None:
    """Chi-square over the 24 orders of four rows, and over where each of eleven rows comes."""
    order, epochs = Order(4, 1), 5_000
    whole = order.rows(0, 4 * epochs).reshape(epochs, 4)
    _, found = np.unique(whole @ [64, 16, 4, 1], return_counts=True)
    assert len(found) == 24
    assert chisquare(found).pvalue > 1e-3
    places = np.zeros((11, 11))
    for rows in Order(11, 2).rows(0, 11 * 1000).reshape(-1, 11):
        places[rows, np.arange(11)] += 1
    statistic = ((places - places.mean()) ** 2 / places.mean()).sum()
    assert chi2.sf(statistic, 100) > 1e-3


def test_pairs_of_neighbours_are_as_if_drawn_at_random() -> None:
    """Of a large count: where rows that were neighbours go, each and together, in a 20 x 20 grid."""
    count = 100_000
    rows = Order(count, 7).rows(0, count)
    cells = rows * 20 // count
    found = np.bincount(cells[:-1] * 20 + cells[1:], minlength=400)
    assert chisquare(found).pvalue > 1e-3
    first = np.bincount((Order(count, 7).rows(count, 20_000) * 100 // count), minlength=100)
    assert chisquare(first).pvalue > 1e-3


def test_a_step_costs_the_same_however_many_rows_there_are() -> None:
    """Ten million rows, balanced: a step of 128 takes at most a few milliseconds, where a whole permutation takes a second."""
    count = 10_000_000
    order = Order(count, 0, np.ones(count))
    took = []
    for step in range(5):
        start = time.process_time()
        rows = order.rows(step * 128, 128)
        took.append(time.process_time() - start)
        assert len(set(rows.tolist())) == 128
    assert min(took) < 0.02


def test_the_last_order_is_known_again_by_its_weights() -> None:
    one, other = np.array([0.5, 1.5]), np.array([1.5, 0.5])
    for weights in (one, other, one, None):
        assert list(training_rows(2, 0, 2000, 9, weights)) == list(Order(2, 9, weights).rows(0, 2000))
