"""What the page's TypeScript is held to is what this library says today."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from golden import GOLDEN, golden


def flat(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {k: v for name, part in value.items() for k, v in flat(part, f"{path}/{name}").items()}
    if isinstance(value, list):
        return {k: v for i, part in enumerate(value) for k, v in flat(part, f"{path}/{i}").items()}
    return {path: value}


def test_golden_values_are_up_to_date() -> None:
    found, kept = flat(json.loads(json.dumps(golden()))), flat(json.loads(GOLDEN.read_text()))
    assert found.keys() == kept.keys()
    for name, value in kept.items():
        assert found[name] == (pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value), name
