"""The two networks: zero at first, sized by their recipe, told of text and properties, deaf to padding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import PROPERTIES, fill_randomly, random_cond
from zaozi.core.components import Conditions, NetworkConfig, named_sizes
from zaozi.core.errors import ZaoziError
from zaozi.core.types import Cond
from zaozi.model.denoiser import make_denoiser
from zaozi.model.info import gflops, sized
from zaozi.nn.attention import CrossAttention, attend, rotary_table, rotate
from zaozi.nn.dit import DiTConfig
from zaozi.nn.unet import UNetConfig

DIT = DiTConfig(width=32, depth=2, head_width=16, patch=4)
UNET = UNetConfig(width=16, depth=1, head_width=16, patch=2, multipliers=(1, 2), attention_levels=(1,))
KINDS = {"dit": DIT, "unet": UNET}


def build(config: NetworkConfig, random: bool = True, channels: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = config.build((channels, 16, 16), Conditions(384, PROPERTIES)).eval()
    return fill_randomly(network) if random else network


def inputs(count: int = 3, channels: int = 1, side: int = 16) -> tuple[torch.Tensor, torch.Tensor, Cond]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(count, channels, side, side, generator=g)
    return x, torch.linspace(0.1, 0.9, count), random_cond(count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "side"), [(1, 16), (3, 24)])
def test_output_is_exactly_zero_at_first(kind: str, channels: int, side: int) -> None:
    network = build(KINDS[kind], random=False, channels=channels)
    x, u, cond = inputs(2, channels, side)
    assert torch.equal(network(x, u, cond), torch.zeros_like(x))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_has_no_effect(kind: str) -> None:
    """The same text in a longer, padded batch, whatever lies in the padding."""
    network = build(KINDS[kind])
    x, u, cond = inputs()
    longer = torch.cat([cond.tokens, 100 * torch.ones(3, 4, 384)], dim=1)
    noisy = torch.where(cond.mask[..., None], cond.tokens, torch.full_like(cond.tokens, -50.0))
    mask = torch.cat([cond.mask, torch.zeros(3, 4, dtype=torch.bool)], dim=1)
    wanted = network(x, u, cond)
    assert torch.allclose(network(x, u, replace(cond, tokens=longer, mask=mask)), wanted, atol=1e-5)
    assert torch.allclose(network(x, u, replace(cond, tokens=noisy)), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_null_condition_ignores_what_was_there(kind: str) -> None:
    network = build(KINDS[kind])
    x, u, cond = inputs()
    other = random_cond(3, seed=8)
    assert torch.allclose(network(x, u, cond.null()), network(x, u, other.null()), atol=1e-6)
    assert not torch.allclose(network(x, u, cond), network(x, u, cond.null()), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("off", ["cross_attention", "pooled_text"])
@torch.no_grad()
def test_each_way_in_for_text_can_be_turned_off(kind: str, off: str) -> None:
    network = build(replace(KINDS[kind], **{off: False}))
    x, u, cond = inputs()
    other = random_cond(3, seed=5)
    if off == "pooled_text":
        changed, same = replace(cond, tokens=other.tokens), replace(cond, pooled=other.pooled)
    else:
        changed, same = replace(cond, pooled=other.pooled), replace(cond, tokens=other.tokens)
    assert torch.equal(network(x, u, cond), network(x, u, same))
    assert not torch.allclose(network(x, u, cond), network(x, u, changed), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_properties_start_silent_and_may_be_left_out(kind: str) -> None:
    silent = build(KINDS[kind], random=False)
    fill_randomly(silent.get_submodule("last"))
    network = build(KINDS[kind])
    x, u, cond = inputs()
    given = replace(cond, properties={"kind": torch.tensor([1, 2, 0]), "size": torch.tensor([3.0, 7.0, torch.nan])})
    absent = replace(cond, properties={"kind": torch.zeros(3, dtype=torch.long), "size": torch.full((3,), torch.nan)})
    assert torch.equal(silent(x, u, given), silent(x, u, cond))
    heard, not_heard = network(x, u, given), network(x, u, cond)
    assert torch.allclose(network(x, u, absent)[2], not_heard[2], atol=1e-6)
    assert torch.allclose(heard[2], not_heard[2], atol=1e-6)  # nothing was given in row 2
    assert not torch.allclose(heard[:2], not_heard[:2], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_used(kind: str) -> None:
    network = build(KINDS[kind])
    x, u, cond = inputs()
    cond = replace(
        cond.without_text(torch.tensor([True, False, False])),
        properties={"kind": torch.tensor([1, 2, 2]), "size": torch.tensor([3.0, 7.0, 1.0])},
    )
    network(x, u, cond).square().mean().backward()
    unused = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert unused == []


@pytest.mark.parametrize("kind", KINDS)
def test_sides_that_do_not_fit_are_refused(kind: str) -> None:
    x, u, cond = inputs(side=18)
    with pytest.raises(ZaoziError, match="divisible by 4"):
        build(KINDS[kind])(x, u, cond)


def test_attention_equals_torchs() -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=g) for n in (5, 7, 7))
    mask = torch.rand(2, 1, 1, 7, generator=g) > 0.3
    wanted = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert torch.allclose(attend(q, k, v, mask)[0], wanted, atol=1e-5)


def test_rotary_positions_depend_on_differences_alone() -> None:
    """The product of a rotated query and key is a function of (row, column) differences."""
    cos, sin = rotary_table(6, 16)
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=g)
    product = (rotate(q.expand(1, 1, 36, 16), cos, sin) @ rotate(k.expand(1, 1, 36, 16), cos, sin).mT)[0, 0]
    grid = product.reshape(6, 6, 6, 6)
    assert torch.allclose(grid[1, 2, 3, 1], grid[2, 4, 4, 3], atol=1e-5)
    assert not torch.allclose(grid[1, 2, 3, 1], grid[1, 2, 1, 3], atol=1e-3)


def test_cross_attention_weights_can_be_watched() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cross = CrossAttention(32, 384, 16)
    cross.keep_weights = True
    cond = random_cond(6)
    cross(torch.ones(6, 9, 32), cond.tokens, cond.mask)
    assert cross.weights is not None
    assert torch.allclose(cross.weights.sum(-1), torch.ones(6, 2, 9), atol=1e-5)
    hidden = ~cond.mask[:, None, None].expand(6, 2, 9, -1)
    assert hidden.any()
    assert cross.weights[..., 1:][hidden].abs().max() == 0


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ZaoziError, match="head_width 64 does not suit widths"):
        make_denoiser(replace(sized("dit-tiny").config, network=DiTConfig(width=96)))


def test_named_sizes_build_and_base_is_within_its_budget() -> None:
    for name in named_sizes():
        model = sized(name)
        assert model.shape == (1, 64, 64)
        assert gflops(model) <= 1.3, name
