"""Counter-based noise: a function of (seed, picture, draw)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from zaozi.core.errors import ZaoziError
from zaozi.core.noise import picture_noise, standard_normal, training_generator


def test_golden_values() -> None:
    """These values are a promise to every other language that draws the same pictures."""
    found = standard_normal(seed=0, picture=0, draw=0, count=4)
    again = standard_normal(seed=0, picture=0, draw=0, count=4)
    assert np.array_equal(found, again)
    words = np.random.Philox(key=np.array([0, 0], np.uint64), counter=np.array([0, 0, 0, 0], np.uint64)).random_raw(2)
    u1 = ((int(words[0]) >> 32) + 1) / 2**32
    u2 = (int(words[0]) & 0xFFFFFFFF) / 2**32
    wanted = np.sqrt(-2 * np.log(u1)) * np.array([np.cos(2 * np.pi * u2), np.sin(2 * np.pi * u2)])
    assert found[:2] == pytest.approx(wanted, abs=1e-6)
    assert found.tolist() == pytest.approx(GOLDEN, abs=1e-6)


GOLDEN = [2.9162033, 0.6468853, -1.2855403, -1.0902983]


def test_it_is_normal_and_uncorrelated() -> None:
    a = standard_normal(1, 2, 3, 40_000)
    assert stats.kstest(a, "norm").pvalue > 1e-3
    others = [standard_normal(*key, 40_000) for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4))]
    for b in others:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.02


def test_odd_counts_are_prefixes() -> None:
    assert np.array_equal(standard_normal(5, 0, 0, 7), standard_normal(5, 0, 0, 100)[:7])


def test_rows_do_not_depend_on_their_batch() -> None:
    together, alone = picture_noise(9, range(5), (1, 3, 3)), picture_noise(9, [3], (1, 3, 3))
    assert torch.equal(together(2)[3:4], alone(2))


@pytest.mark.parametrize("bad", [-1, 2**64])
def test_seeds_out_of_range_are_refused(bad: int) -> None:
    with pytest.raises(ZaoziError, match="out of range"):
        standard_normal(bad, 0, 0, 2)


def test_training_generators_differ_by_every_part_of_their_key() -> None:
    draws = [torch.rand(4, generator=training_generator(*key)) for key in ((0, 1), (1, 0), (0, 1, 0), (0, 2))]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
    assert torch.equal(draws[0], torch.rand(4, generator=training_generator(0, 1)))
