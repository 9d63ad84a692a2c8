"""The hardware: cores and threads, a description of the machine, and its power use."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WATTS_A_CORE, WATTS_A_GPU = 15.0, 700.0
"""Assumed power for energy estimates: a busy server core with its share of memory, and a datacentre GPU."""
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
CPUS = Path("/sys/devices/system/cpu")
GPUS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Device files of GPUs: NVIDIA's, that of Windows in its Linux subsystem, and AMD's."""


def usable_cores() -> int:
    """Return the number of threads or processes that this process should compute with, 1 or more.

    The minimum of: the cores allowed by the scheduler (affinity), the whole cores in its cgroup's CPU quota
    (`docker run --cpus`, a pod's `limits.cpu`), and OMP_NUM_THREADS if it is set.
    """
    cores = min(len(_affinity()), _quota())
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list has one number per nesting level
    if first.isdecimal() and int(first) > 0:
        cores = min(cores, int(first))
    return max(1, int(cores))


def compute_threads() -> int:
    """Return the number of threads that PyTorch would compute with: one per physical core, at most `usable_cores`."""
    affinity = _affinity()
    return max(1, min(len({_siblings(cpu) for cpu in affinity}), usable_cores()))


def has_gpu() -> bool:
    """Whether a GPU seems to be here, without asking PyTorch: by its device file, or on Windows by its library."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(
        Path(file).exists() for file in (*GPUS, Path(os.environ.get("SYSTEMROOT", "/")) / "System32" / "nvcuda.dll")
    )


def limit_threads() -> None:
    """Set OMP_NUM_THREADS in this process to its cgroup's CPU quota, unless it is set. Call this before importing torch.

    OpenMP and PyTorch count cores but ignore quotas, and threads that share a quota wait for each other. Does nothing if
    the quota does not limit PyTorch's default (one thread per physical core).
    """
    affinity = _affinity()
    physical = min(len({_siblings(cpu) for cpu in affinity}), len(affinity))
    if "OMP_NUM_THREADS" not in os.environ and _quota() < physical:
        os.environ["OMP_NUM_THREADS"] = str(max(1, int(_quota())))


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Run PyTorch with `count` threads, at most `usable_cores`, and restore the number on exit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(count, usable_cores())))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def using_matmul_precision(name: str) -> Iterator[None]:
    """Set PyTorch's float32 matmul precision (`torch.set_float32_matmul_precision`), and restore it on exit."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def using_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set these environment variables, and restore them on exit."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def machine(device: str, processes: int = 1) -> str:
    """Describe a run's processes on 'cuda', 'mps' or 'cpu': '1 x NVIDIA H200', '2 cores of Intel(R) Xeon(R) Processor'."""
    if device == "cuda":
        import torch

        return f"{processes} x {torch.cuda.get_device_name()}"
    if device == "mps":
        return f"the GPU of {platform.processor() or platform.machine()}"
    return f"{usable_cores()} cores of {processor()}"


def processor() -> str:
    """Return the processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def watt_hours(words: str, seconds: float) -> float:
    """Estimate the energy of a run on a machine (described as by `machine`); a rough value."""
    count = int(first) if (first := words.split(" ", 1)[0]).isdigit() else 1
    watts = count * (WATTS_A_CORE if " cores of " in words else WATTS_A_GPU)
    return watts * seconds / 3600


def _affinity() -> set[int]:
    """Return the processors available to this process."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _siblings(cpu: int) -> str:
    """Return an identifier shared by the hardware threads of one physical core."""
    try:
        return (CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def _quota() -> float:
    """Return the CPU quota of this process's cgroup in cores, the minimum of its levels; infinite if there is no limit.

    Supports version 2 (`cpu.max`: "QUOTA PERIOD" or "max PERIOD") and version 1 (`cpu.cfs_quota_us`, -1 for none, and
    `cpu.cfs_period_us`), as described in the Linux kernel's documentation of cgroups.
    """
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return math.inf
    least = math.inf
    for line in lines:  # "0::/path" (version 2) or "4:cpu,cpuacct:/path" (version 1)
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (CGROUPS / controllers, CGROUPS / ("cpu" if controllers else "unified")):
            level = mount / path.lstrip("/")
            for folder in (level, *level.parents):
                if mount in (folder, *folder.parents):
                    least = min(least, _limit(folder))
    return least


def _limit(folder: Path) -> float:
    """Return the cores that one cgroup level allows."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            if int(quota) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # missing, or "max"
            continue
    return math.inf
