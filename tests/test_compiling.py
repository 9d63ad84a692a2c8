"""torch.compile in training: its kernels are right on this processor, and a compiler that is wrong or missing is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from zaozi.core.errors import ZaoziError
from zaozi.train.compiling import compile_options

CPU = torch.device("cpu")


COMPARE = """
import torch
from zaozi.train.compiling import compile_options
from zaozi.nn.attention import SelfAttention, rotary_table

options = compile_options(torch.device("cpu"))
torch.manual_seed(0)
layer, rotary = SelfAttention(128, 64), rotary_table(8, 64)
torch.nn.init.normal_(layer.out.weight, std=0.05)
x = torch.randn(2, 64, 128)


def gradients(f):
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        y = f(x, rotary)
    y.float().square().mean().backward()
    return torch.cat([p.grad.flatten() for p in layer.parameters()])


plain, compiled = gradients(layer), gradients(torch.compile(layer, options=options))
print(float((compiled - plain).norm() / plain.norm()))
"""


def test_compiled_attention_has_the_gradients_of_plain_attention(tmp_path: Path) -> None:
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}  # compiled anew
    command = [sys.executable, "-c", COMPARE]  # a process of its own, because compiling changes the environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.05


def test_a_wrong_or_missing_compiler_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda f, options: lambda *args: f(*args) * torch.nan)
    with pytest.raises(ZaoziError, match="wrong results"):
        compile_options(CPU)

    def missing(f: object, options: object) -> Any:
        raise RuntimeError("no C++ compiler\nsee there")

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(ZaoziError, match=r"no C\+\+ compiler$"):
        compile_options(CPU)
