"""Measure zaozi beside its peers, and write docs/benchmarks.md and benchmarks/results.json (`make bench`).

python -m benchmarks            # at most 15 minutes on two cores
python -m benchmarks --quick    # about two minutes, to see that it works; its page goes to out/benchmarks
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.page import rendered
from benchmarks.turns import progress

ROOT = Path(__file__).parents[1]
WORK = ROOT / "out" / "benchmarks"
MINUTES, QUICK_MINUTES = 13.0, 1.7
"""Minutes of measuring over all devices. One piece of work may end later."""
NAV = "  - Benchmarks: benchmarks.md\n"
BEFORE_NAV = "  - What is promised: promises.md\n"


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and short: shows that everything runs")
    parser.add_argument("--minutes", type=float, default=0.0, help=f"of measuring; {MINUTES:g} by default")
    parser.add_argument("--device", choices=["cpu", "cuda"], help=argparse.SUPPRESS)  # set in the process that measures
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def measured(how: argparse.Namespace) -> dict[str, Any]:
    """Return the results of one device, in this process."""
    os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1", ZAOZI_HOME=str(WORK / "home"))
    from benchmarks.imports import allow_torchvision

    allow_torchvision()
    from benchmarks.measure import SIZES, measure

    size = SIZES["quick"] if how.quick else SIZES[how.device]
    if how.quick and how.device == "cuda":
        size = replace(size, batch=8)
    return measure(how.device, size, 60.0 * how.minutes, WORK)


def devices() -> list[str]:
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def all_devices(how: argparse.Namespace) -> dict[str, Any]:
    """Measure each device in a process of its own, since a process cannot use and not use a GPU."""
    import torch

    WORK.mkdir(parents=True, exist_ok=True)
    parts = []
    found = devices()
    minutes = (how.minutes or (QUICK_MINUTES if how.quick else MINUTES)) / len(found)
    for device in found:
        part = WORK / f"{device}.json"
        command = [sys.executable, "-m", "benchmarks", "--device", device, "--part", str(part)]
        command += ["--minutes", str(minutes), *(["--quick"] if how.quick else [])]
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **hidden})
        parts.append(json.loads(part.read_text(encoding="utf-8")))
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "devices": parts,
    }


def with_page(mkdocs: str) -> str:
    """Return mkdocs.yml with the page in its navigation."""
    return mkdocs if NAV in mkdocs else mkdocs.replace(BEFORE_NAV, NAV + BEFORE_NAV)


def main(given: list[str] | None = None) -> int:
    from zaozi.core.errors import ZaoziError
    from zaozi.core.files import write_json

    how = arguments(given)
    try:
        if how.device:
            write_json(how.part, measured(how))
            return 0
        results = all_devices(how)
    except ZaoziError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        return error.returncode
    page, data = (WORK, WORK) if how.quick else (ROOT / "docs", ROOT / "benchmarks")
    write_json(data / "results.json", results)
    (page / "benchmarks.md").write_text(rendered(results), encoding="utf-8")
    if not how.quick:
        nav = ROOT / "mkdocs.yml"
        nav.write_text(with_page(nav.read_text(encoding="utf-8")), encoding="utf-8")
    progress(f"wrote {page / 'benchmarks.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
