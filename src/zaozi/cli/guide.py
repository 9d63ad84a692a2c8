"""`zaozi guide ...` (figures, page and server of the visual guide) and `zaozi export`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from zaozi.core.machine import using_environment
from zaozi.core.progress import progress
from zaozi.guide.build import Pictures

if TYPE_CHECKING:
    from zaozi.pipeline import TextToImage

PATIENT = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
"""PyTorch threads sleep instead of spinning while they wait. Spinning costs several times as much when another process is
busy, such as a browser next to the server.
"""


def figures(
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")] = Path("out/figures"),
    /,
    only: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    model: str = "base",
    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
    seed: int = 0,
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Draw the guide's figures: OUT/NAME.png, OUT/NAME.svg, and OUT/NAME.json with the underlying data.

    Args:
        out: The output folder.
        only: Name or number of a figure; can be repeated.
        model: Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the hub.
        data: The glyph dataset; built if missing.
        seed: Random seed.
        overwrite: Overwrite existing files of these names that zaozi did not write; by default this is an error.
    """
    from zaozi.guide.figures import chosen, draw_all, figures_output

    names = chosen(only)
    output = figures_output(out, names, overwrite=overwrite)
    output.check()
    with (
        using_environment(PATIENT),
        output.write() as work,
        progress(total=len(names), desc="figures", unit="figure") as bar,
    ):
        from zaozi.guide.figures.source import Source  # also imports PyTorch, which reads its environment once

        for name, _ in draw_all(Source(model, data, seed), names, work):
            bar.update()
            bar.set_postfix_str(name)
    print(f"{len(names)} figures: {out}")


def before(
    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")],
    /,
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
    max_minutes: float | None = None,
    steps: int | None = None,
    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Train what came before diffusion on the glyphs, for comparison: a variational autoencoder or a generative adversarial
    network, without captions. Writes generator.safetensors and before.json.

    Args:
        recipe: vae, gan, or a TOML file.
        out: The output folder; by default runs/vae or runs/gan.
        max_minutes: Time limit in minutes; by default that of the recipe, an hour.
        steps: Largest number of steps; by default there is no limit but the time.
        data: The glyph dataset; built if missing.
        overwrite: Overwrite existing files of these names that zaozi did not write; by default this is an error.
    """
    from zaozi.core.config import from_dict, to_dict
    from zaozi.core.recipe import DataConfig
    from zaozi.data.pairs import find_dataset, load_pairs
    from zaozi.guide.before import BeforeRecipe, before_output, read_before, small_glyphs, train_before

    given = {"max_minutes": max_minutes, "steps": steps}
    how = from_dict(BeforeRecipe, to_dict(read_before(recipe)) | {k: v for k, v in given.items() if v is not None})
    folder = out or Path("runs") / how.kind
    output = before_output(folder, overwrite=overwrite)
    output.check()
    pairs = load_pairs(find_dataset(DataConfig(path=str(data) if data else "")), "train")
    done = train_before(how, small_glyphs(pairs), output)
    print(f"{folder}: {done:,} steps of {how.batch_size} glyphs")


def export(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "base",
    /,
    to: Literal["onnx", "diffusers"] = "onnx",
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Export a model: for other engines and the browser as ONNX files (about 30 seconds), or as a pipeline of diffusers.

    ONNX: denoiser, decoder to pixels, text encoder and stages, opset 20, with weights in half precision and float32 arithmetic;
    model.json describes how to call them. diffusers: a folder for `DiffusionPipeline.from_pretrained`, with the code it needs.

    Args:
        model: Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the hub.
        to: The format.
        out: The output folder; by default out/onnx or out/diffusers.
        overwrite: Overwrite existing files of these names that zaozi did not write; by default this is an error.
    """
    from zaozi.export.diffusers import diffusers_output, export_diffusers
    from zaozi.export.onnx import export_onnx, onnx_output
    from zaozi.pipeline import TextToImage

    planned, write = (onnx_output, export_onnx) if to == "onnx" else (diffusers_output, export_diffusers)
    folder = out or Path("out") / to
    planned(folder, overwrite=overwrite).check()
    write(TextToImage.from_pretrained(model, device="cpu"), folder, overwrite=overwrite)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    print(f"{folder}: {size:.0f} MB, " + ("ONNX files" if to == "onnx" else "a pipeline of diffusers"))


def build(
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")] = Path("out/guide"),
    /,
    model: str = "base",
    quick: str = "auto",
    pictures: Annotated[Pictures, tyro.conf.arg(name="")] = Pictures(),
    url: str = "",
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Build the visual guide as static files: the page, its figures, and the model that runs in the browser.

    Any web server can serve the folder. The page uses several threads only if the server sends the COOP and COEP
    headers, as zaozi guide serve does.

    Args:
        out: The output folder.
        model: Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the hub. Figures
            are redrawn unless this is base or a distilled model.
        quick: A student of the model, as its name or folder, whose one-step drawings the page shows while a prompt is typed;
            auto: the packaged one, if it was distilled from the model; none: no student. It is loaded after the first drawing.
        pictures: The figures.
        url: The address at which the site will be, such as https://guide.example/zaozi/: for link previews, which need the full
            address of their picture, and for search engines (sitemap.xml). Everything else works at any address.
        overwrite: Overwrite existing files of these names that zaozi did not write; by default this is an error.
    """
    from zaozi.guide.build import build

    with using_environment(PATIENT):
        build(out, model, quick=quick, pictures=pictures, url=url, overwrite=overwrite)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out / 'index.html'}: {size / 1e6:.0f} MB; next, zaozi guide serve {out}")


@dataclass(frozen=True)
class Serving:
    """Serve the guide on this machine, with the headers for browser threads, and an API that draws with PyTorch."""

    site: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="DIR")] = None
    """A folder from zaozi guide build; by default the page included with zaozi."""
    model: str = "base"
    """Model for the page and the API. Figures are redrawn unless this is base or a distilled model; until then those of
    base are shown."""
    redraw: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also redraw the figures for base; takes a few minutes, and the results are cached."""
    host: str = "127.0.0.1"
    """Address to listen on; the default accepts only local connections. Any other address requires a token for the API."""
    port: int = 8000
    """Port to listen on."""
    browser: bool = True
    """Open the page in a local browser, if there is one and the output is a terminal."""
    api: bool = True
    """Also serve POST /api/generate, /api/health and /api/metrics."""
    room: int = 16
    """Maximum number of concurrent drawings; further requests are asked to retry."""
    seconds: float = 60.0
    """Time limit for one drawing in seconds, including waiting."""
    allowed_host: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Another host name of the server, without the port; can be repeated."""
    token: str | None = None
    """API token, 16 or more letters, digits, - and _; random by default, and not required on the loopback address."""


def serve(s: Serving) -> None:
    """Run the server until Ctrl-C. Raises `ZaoziError`."""
    from zaozi.core.errors import ZaoziError
    from zaozi.guide.build import browser_model, check_page
    from zaozi.guide.shipped import SITE
    from zaozi.serve import Later, Limits, Redraw, access, bind, make_app, serve

    if s.room < 1 or not 0 < s.seconds < float("inf") or not 0 < s.port < 65536:
        raise ZaoziError(
            f"room {s.room}, seconds {s.seconds:g} or port {s.port} is out of range; use 1 or more, up to port 65535"
        )
    listeners = bind(s.host, s.port)
    allowed = access(s.host, listeners, api=s.api, names=s.allowed_host, token=s.token)
    site = s.site
    if site is None:
        check_page()
    elif not (site / "index.html").is_file():
        raise ZaoziError(f"{site} holds no page; write one with: zaozi guide build {site}")
    elif s.redraw:
        raise ZaoziError(f"--redraw is for the page that comes with zaozi; use: zaozi guide build {site} --redraw")

    def load() -> TextToImage:
        from zaozi.pipeline import TextToImage

        return TextToImage.from_pretrained(s.model)

    artist = Later(load, "loading the model") if s.api else None
    page_model = Later(lambda: browser_model(s.model), "making the page's model")
    where = f"http://{f'[{s.host}]' if ':' in s.host else s.host}:{s.port}/"
    url = f"{where}?token={allowed.token}" if allowed.token else where
    with using_environment(PATIENT):  # for this process and the one that draws figures
        drawing = Redraw(s.model) if site is None and _to_be_drawn(s) else None
        app = make_app(artist, site or SITE, Limits(s.room, s.seconds), allowed, model=page_model, redraw=drawing)

        def begin() -> None:
            if s.browser and sys.stdout.isatty():
                _open(url)
            for task in (artist, drawing):
                if task:
                    task.start()

        serve(app, listeners, url, then=begin)


def _to_be_drawn(s: Serving) -> bool:
    """Whether figures are drawn for this model; answered for base without loading PyTorch. Not for a distilled model, which does
    not take the guidance that figures show."""
    from zaozi.guide.shipped import BASE, shows

    if s.model == "base" and not Path(s.model).exists():
        return s.redraw or not shows(BASE)
    from zaozi.model.checkpoint import WEIGHTS, find_model, read_distilled

    folder = find_model(s.model)
    return not read_distilled(folder).steps and (s.redraw or not shows(folder / WEIGHTS))


def _open(url: str) -> None:
    """Open a page in a local browser. Does nothing without a display: text browsers would take over the terminal."""
    import threading
    import webbrowser

    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
