"""Put the page that web/ builds into the package: src/zaozi/guide/site/, the large runtime files compressed.

make guide     the page; its figures and the data of its map stay as they are
make figures   those, drawn anew with the model that ships

The licences of all that the page is built from go with it: assets/licenses.txt, and ort/ThirdPartyNotices.txt for what
ONNX Runtime itself is built from.
"""

from __future__ import annotations

import json
import lzma
import shutil
import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[1]
WEB, SITE = ROOT / "web", ROOT / "src" / "zaozi" / "guide" / "site"
DIST = WEB / "dist"
DRAWN = ("figures", "data", "share.png")
"""What of the site is drawn, not built."""
FONTS = """Fonts

The page's fonts (KaTeX_*, Copyright (c) 2013-2020 Khan Academy and other contributors, and 2009-2010 Design Science, Inc.)
and those in data/ (data/*.woff: some glyphs of Noto Sans CJK TC Regular, Copyright 2014, 2015 Adobe
Systems Incorporated, http://www.adobe.com/) are licensed under the SIL Open Font License, Version 1.1:

"""
DATA = """Data

The definitions and properties of characters in data/*.json are taken from the Unihan database and the Unicode Character
Database 14.0, Copyright 1991-2021 Unicode, Inc., in another form and with words of our own beside them:

"""


def pack() -> None:
    """Copy every file of dist/; .wasm files as .wasm.xz, of which `serve` and `build` make the .wasm.gz that the page fetches."""
    for old in SITE.iterdir() if SITE.is_dir() else ():
        if old.name not in DRAWN:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    for file in sorted(p for p in DIST.rglob("*") if p.is_file()):
        to = SITE / file.relative_to(DIST)
        to.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".wasm":
            to.with_name(to.name + ".xz").write_bytes(lzma.compress(file.read_bytes(), preset=9))
        else:
            shutil.copyfile(file, to)
    (SITE / "assets" / "licenses.txt").write_text(licences(), encoding="utf-8")
    (SITE / "ort" / "ThirdPartyNotices.txt").write_bytes(_of_runtime("ThirdPartyNotices.txt").encode())
    tell()


def pack_figures() -> None:
    """Draw figures/ and data/ anew, where they are not in the cache, and copy them."""
    from zaozi.guide.figures.source import Source
    from zaozi.guide.redraw import drawn_folder

    drawn = drawn_folder(Source(), lambda done, total, left: print(f"{done} of {total}, {left:.0f} s left", flush=True))
    for name in DRAWN:
        new, old = drawn / name, SITE / name
        if new.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            shutil.copytree(new, old)
        elif new.is_file():
            shutil.copyfile(new, old)
    tell()


def tell() -> None:
    """Print how large the site is."""
    size = sum(p.stat().st_size for p in SITE.rglob("*") if p.is_file())
    print(f"{SITE}: {size / 1e6:.1f} MB")


def licences() -> str:
    """The licence of every npm package that the page is built from, of its fonts and of its data."""
    lock = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    used = {path: entry for path, entry in lock.items() if path and not entry.get("dev")}
    parts = [
        f"{path.rpartition('node_modules/')[2]} {entry['version']} ({entry['license']})\n\n{_licence(WEB / path)}"
        for path, entry in sorted(used.items())
        if "@types/" not in path and "undici-types" not in path  # for the type checker alone
    ]
    parts.append(FONTS + (WEB / "licenses" / "OFL-1.1.txt").read_text(encoding="utf-8"))
    parts.append(DATA + (WEB / "licenses" / "Unicode.txt").read_text(encoding="utf-8"))
    rule = "\n\n" + "-" * 80 + "\n\n"
    return rule.join(part.strip() for part in parts) + "\n"


def _licence(folder: Path) -> str:
    """The text that a package brings, or what its package.json says of its author."""
    if folder.name.startswith("onnxruntime-"):
        return _of_runtime("LICENSE")
    found = sorted(p for p in folder.iterdir() if p.name.lower().startswith(("license", "licence")))
    if found:
        return found[0].read_text(encoding="utf-8")
    author = json.loads((folder / "package.json").read_text(encoding="utf-8")).get("author", "its authors")
    return f"Copyright {author if isinstance(author, str) else author['name']}"


def _of_runtime(name: str) -> str:
    """A text that ONNX Runtime's npm package leaves out and its Python package has."""
    return files("onnxruntime").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


if __name__ == "__main__":
    pack_figures() if "--figures" in sys.argv[1:] else pack()
