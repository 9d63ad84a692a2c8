"""Build the visual guide as static files: the page, its figures, the data of its interactive parts, and its model."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from zaozi.core.errors import ZaoziError
from zaozi.core.outputs import Output
from zaozi.core.progress import progress
from zaozi.guide.shipped import COMPRESSED, LEAST, PAGES, SITE, shows


def site_output(out: Path, *, overwrite: bool = False) -> Output:
    """Return the output folder of the site."""
    return Output(out, "guide", overwrite=overwrite)


@dataclass(frozen=True)
class Pictures:
    """The figures and the map of a page."""

    figures: bool = True
    """Include the figures and the map; without them the page has gaps."""
    redraw: bool = False
    """Also redraw the figures for base; takes a few minutes, and the results are cached."""
    data: Path | None = None
    """The glyph dataset for redrawn figures; built if missing."""
    seed: int = 0
    """Random seed for redrawn figures."""


def build(
    out: Path,
    model: str = "base",
    *,
    quick: str = "auto",
    pictures: Pictures = Pictures(),
    url: str = "",
    overwrite: bool = False,
) -> None:
    """Write the whole site into `out`: the pages, assets/, ort/, figures/, data/ and model/, text files also as NAME.gz.

    The bundled figures and data are used; with `redraw`, or for another model, they are drawn. They and the exported model are
    cached. A distilled model gets the bundled figures, since it does not take guidance. `quick` is a student for sketches, as
    for `quick.find_student`. `url` is the address at which the site will be, for search engines and link previews. Raises
    `ZaoziError` if the package contains no page, `out` contains something else, the student does not go with the model, or the
    address is not one of the web.
    """
    check_page()
    if url:
        url = web_address(url)
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
        ("page", lambda work: _copy(SITE, work, *(() if pictures.figures else ("figures", "data")))),
        ("model", lambda work: _copy(browser_model(model, *chosen), work / "model")),
        ("compression", compress),
    ]
    if url:
        parts.insert(1, ("address", lambda work: address_pages(work, url)))
    if pictures.figures and not distilled and (pictures.redraw or not shows(folder / WEIGHTS)):
        parts.insert(1, ("figures", lambda work: _copy(_drawn(model, pictures.data, pictures.seed), work)))
    with output.write() as work:
        for name, make in (bar := progress(parts, desc="guide", unit="part")):
            bar.set_postfix_str(name)
            make(work)


def web_address(url: str) -> str:
    """Return the address of a site, ending with a slash. Raises `ZaoziError` unless it is one of the web.

    >>> web_address("https://guide.example/zaozi")
    'https://guide.example/zaozi/'
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ZaoziError(f"'{url}' is not the address of a site; use one such as https://guide.example/zaozi/")
    return quote(url.rstrip("/") + "/", safe=":/%@~")


def address_pages(site: Path, url: str) -> None:
    """Write into the pages where they will be: the address of each, of the other languages and of the preview's picture; and
    sitemap.xml, which lists them.
    """
    found = {name: "" if name == PAGES[0] else name for name in PAGES if (site / name).is_file()}
    pages = {name: (site / name).read_text(encoding="utf-8") for name in found}
    languages = {name: re.findall(r'<html lang="([^"]+)"', text)[0] for name, text in pages.items()}
    others = "".join(
        f'    <link rel="alternate" hreflang="{languages[name]}" href="{url}{path}" />\n'
        for name, path in found.items()
    )
    for name, text in pages.items():
        here = (
            f'    <link rel="canonical" href="{url}{found[name]}" />\n{others}'
            f'    <meta property="og:url" content="{url}{found[name]}" />\n'
        )
        text = text.replace('property="og:image" content="', f'property="og:image" content="{url}', 1)
        (site / name).write_text(text.replace("  </head>", f"{here}  </head>", 1), encoding="utf-8")
    listed = "".join(f"  <url><loc>{url}{path}</loc></url>\n" for path in found.values())
    (site / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        f"{listed}</urlset>\n",
        encoding="utf-8",
    )


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
