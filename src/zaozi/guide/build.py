"""Build the visual guide as static files: the page, its figures, the data of its interactive parts, and its model."""

from __future__ import annotations

import gzip
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

from zaozi.core.errors import ZaoziError
from zaozi.core.outputs import Output
from zaozi.core.progress import progress
from zaozi.guide.shipped import COMPRESSED, LEAST, SITE, shows


def site_output(out: Path, *, overwrite: bool = False) -> Output:
    """Return the output folder of the site."""
    return Output(out, "guide", overwrite=overwrite)


def build(
    out: Path,
    model: str = "base",
    *,
    data: Path | None = None,
    seed: int = 0,
    quick: str = "auto",
    figures: bool = True,
    redraw: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the whole site into `out`: index.html, assets/, ort/, figures/, data/ and model/, text files also as NAME.gz.

    The bundled figures and data are used; with `redraw`, or for another model, they are drawn from `data` and `seed`. They
    and the exported model are cached. A distilled model gets the bundled figures, since it does not take guidance. `quick` is a
    student for sketches, as for `quick.find_student`. Raises `ZaoziError` if the package contains no page, `out` contains
    something else, or the student does not go with the model.
    """
    check_page()
    output = site_output(out, overwrite=overwrite)
    output.check()

    from zaozi.guide.quick import AUTO, find_student
    from zaozi.model.checkpoint import WEIGHTS, find_model, read_distilled

    folder = find_model(model)
    distilled = read_distilled(folder).steps > 0
    chosen = () if quick == AUTO else (quick,)
    if chosen:
        find_student(model, quick)
    parts: list[tuple[str, Callable[[Path], None]]] = [
        ("page", lambda work: _copy(SITE, work, "" if figures else "figures", "" if figures else "data")),
        ("model", lambda work: _copy(browser_model(model, *chosen), work / "model")),
        ("compression", compress),
    ]
    if figures and not distilled and (redraw or not shows(folder / WEIGHTS)):
        parts.insert(1, ("figures", lambda work: _copy(_drawn(model, data, seed), work)))
    with output.write() as work:
        for name, make in (bar := progress(parts, desc="guide", unit="part")):
            bar.set_postfix_str(name)
            make(work)


def check_page() -> None:
    """Raises `ZaoziError` if the package contains no page."""
    if not (SITE / "index.html").is_file():
        raise ZaoziError("this copy of zaozi contains no page; run: make guide")


def browser_model(model: str, quick: str = "auto") -> Path:
    """Return the cache folder with the model files for the browser, a student's included; they are created if missing."""
    from zaozi.guide.quick import page_model

    return page_model(model, quick)


def compress(folder: Path) -> None:
    """Compress the text files of a site to NAME.gz, next to NAME for servers that use them, and instead of NAME.xz."""
    for file in [p for p in folder.rglob("*") if p.is_file()]:
        if file.suffix == ".xz":
            content = lzma.decompress(file.read_bytes())
            file.unlink()
            file = file.with_suffix("")
        elif file.suffix in COMPRESSED and file.suffix != ".onnx" and file.stat().st_size >= LEAST:
            content = file.read_bytes()
        else:
            continue
        twin = file.with_name(file.name + ".gz")
        if not twin.exists():
            twin.write_bytes(gzip.compress(content, 9, mtime=0))


def _drawn(model: str, data: Path | None, seed: int) -> Path:
    from zaozi.guide.figures.source import Source
    from zaozi.guide.redraw import drawn_folder

    return drawn_folder(Source(model, data, seed))


def _copy(source: Path, to: Path, *without: str) -> None:
    """Copy the files of a folder, except hidden ones and the named folders; existing files are replaced."""

    def left_out(_: str, names: list[str]) -> set[str]:
        return {name for name in names if name.startswith(".") or name in without}

    shutil.copytree(source, to, ignore=left_out, dirs_exist_ok=True)
