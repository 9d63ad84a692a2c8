"""Put the page that web/ builds into the package: src/zaozi/guide/site/, the large runtime files compressed.

make guide
"""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST, SITE = ROOT / "web" / "dist", ROOT / "src" / "zaozi" / "guide" / "site"


def pack() -> None:
    """Copy every file of dist/; .wasm files as .wasm.xz, which `zaozi guide build` opens again."""
    shutil.rmtree(SITE, ignore_errors=True)
    for file in sorted(p for p in DIST.rglob("*") if p.is_file()):
        to = SITE / file.relative_to(DIST)
        to.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".wasm":
            to.with_name(to.name + ".xz").write_bytes(lzma.compress(file.read_bytes(), preset=9))
        else:
            shutil.copyfile(file, to)
    size = sum(p.stat().st_size for p in SITE.rglob("*") if p.is_file())
    print(f"{SITE}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    pack()
