"""Cores, quotas and threads: what is counted, and that every switch of the process is put back."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from zaozi.core import machine
from zaozi.core.machine import limit_threads, usable_cores, using_environment, using_matmul_precision, using_threads


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine of eight cores with no cgroup and no variable, to be changed."""
    monkeypatch.setattr(machine, "_affinity", lambda: set(range(8)))
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(machine, "CPUS", tmp_path / "cpu")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return monkeypatch


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


V1 = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),  # whole cores
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),  # but one at least
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),  # not more than there are
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),  # a level above
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n", "a/cpu.max": "200000 100000\n"}, 1),
        ("0::/not/seen/from/inside\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/../../sibling\n", {"cpu.max": "200000 100000\n"}, 2),
        ("4:cpu,cpuacct:/a\n", {f"cpu,cpuacct/a/{V1[0]}": "400000\n", f"cpu,cpuacct/a/{V1[1]}": "100000\n"}, 4),
        ("4:cpu,cpuacct:/a\n", {f"cpu/{V1[0]}": "500000\n", f"cpu/{V1[1]}": "100000\n"}, 5),
        ("1:cpu:/\n", {f"cpu/{V1[0]}": "-1\n", f"cpu/{V1[1]}": "100000\n"}, 8),
        ("1:cpu:/\n0::/x\n", {f"cpu/{V1[0]}": "-1\n", f"cpu/{V1[1]}": "1\n", "unified/cpu.max": "2 1"}, 2),
        ("7:memory:/a\n", {"memory/a/cpu.max": "100000 100000"}, 8),
        ("0::/\n", {"cpu.max": "nonsense"}, 8),
        ("nonsense\n", {}, 8),
    ],
)
def test_cores_are_those_of_the_quota(
    on: pytest.MonkeyPatch, tmp_path: Path, own: str, files: dict[str, str], cores: int
) -> None:
    write(tmp_path, {"own": own} | {f"cgroup/{name}": text for name, text in files.items()})
    assert usable_cores() == cores


@pytest.mark.parametrize(
    ("said", "cores"), [("3", 3), ("16", 8), ("4,2", 4), ("1", 1), ("", 8), ("0", 8), ("many", 8), (" 2 ", 2)]
)
def test_cores_are_at_most_what_openmp_is_told(on: pytest.MonkeyPatch, said: str, cores: int) -> None:
    on.setenv("OMP_NUM_THREADS", said)
    assert usable_cores() == cores


def test_affinity_counts() -> None:
    """A real process on one core of this machine."""
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    code += "from zaozi.core.machine import usable_cores; print(usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("quota", "a_core", "said", "wanted"),
    [
        (3, 1, None, "3"),
        (8, 1, None, None),
        (5, 2, None, None),  # PyTorch takes the four physical cores by itself
        (3, 2, None, "3"),
        (3, 1, "7", "7"),
    ],
)
def test_a_command_tells_openmp_of_the_quota(
    on: pytest.MonkeyPatch, tmp_path: Path, quota: int, a_core: int, said: str | None, wanted: str | None
) -> None:
    files = {f"cpu/cpu{i}/topology/thread_siblings_list": f"{i - i % a_core}\n" for i in range(8)}
    write(tmp_path, files | {"own": "0::/\n", "cgroup/cpu.max": f"{quota}00000 100000\n"})
    with using_environment({"OMP_NUM_THREADS": ""}):  # put back what the command sets
        on.delenv("OMP_NUM_THREADS")
        if said:
            os.environ["OMP_NUM_THREADS"] = said
        limit_threads()
        assert os.environ.get("OMP_NUM_THREADS") == wanted
    assert "OMP_NUM_THREADS" not in os.environ


def test_threads_are_put_back_and_never_exceed_the_cores(on: pytest.MonkeyPatch) -> None:
    on.setattr(machine, "_affinity", lambda: {0, 1})
    before = torch.get_num_threads()
    for asked, found in ((2, 2), (1, 1), (64, 2), (0, 1)):
        with suppress(KeyError), using_threads(asked):
            assert torch.get_num_threads() == found
            raise KeyError
        assert torch.get_num_threads() == before


def test_other_switches_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAOZI_THERE", "a")
    monkeypatch.delenv("ZAOZI_NEW", raising=False)
    with suppress(KeyError), using_environment({"ZAOZI_THERE": "b", "ZAOZI_NEW": "c"}):
        assert (os.environ["ZAOZI_THERE"], os.environ["ZAOZI_NEW"]) == ("b", "c")
        raise KeyError
    assert (os.environ["ZAOZI_THERE"], os.environ.get("ZAOZI_NEW")) == ("a", None)
    with suppress(KeyError), using_matmul_precision("high"):
        assert torch.get_float32_matmul_precision() == "high"
        raise KeyError
    assert torch.get_float32_matmul_precision() == "highest"
