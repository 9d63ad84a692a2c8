"""Outlines against what they should go round: circles, squares, and the font's own curves at eight times the size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from fontTools.pens.areaPen import AreaPen
from fontTools.pens.boundsPen import BoundsPen
from fontTools.svgLib.path import SVGPath
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError
from zaozi.data.font import default_font, glyph
from zaozi.media.outlines import ASCENT, FIRST, LAST, area, contours, svg, write_font


def disc(radius: float, side: int = 64, hole: float = 0.0) -> Image.Image:
    """A ring, antialiased by drawing it sixteen times larger."""
    large = Image.new("L", (side * 16, side * 16), 255)
    pen, middle = ImageDraw.Draw(large), side * 8
    for r, ink in ((radius, 0), (hole, 255)):
        if r:
            pen.ellipse([middle - 16 * r, middle - 16 * r, middle + 16 * r - 1, middle + 16 * r - 1], fill=ink)
    return large.resize((side, side), Image.Resampling.BOX)


def pixels(font: Path, character: str, size: int) -> np.ndarray:
    picture = Image.new("L", (size, size), 255)
    face = ImageFont.truetype(str(font), size, layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(picture).text((0, round(ASCENT * size)), character, fill=0, font=face, anchor="ls")
    return np.asarray(picture) < 128


def test_a_ring_has_two_lines_that_run_opposite_ways() -> None:
    outer, inner = sorted(contours(disc(20, hole=10)), key=lambda points: -abs(area(points)))
    assert area(outer) * area(inner) < 0
    assert abs(area(outer)) == pytest.approx(math.pi * 400, rel=0.01)
    assert abs(area(inner)) == pytest.approx(math.pi * 100, rel=0.02)
    assert np.abs(np.hypot(*(outer - 32).T) - 20).max() < 0.2


def test_a_circle_is_round_between_its_corners() -> None:
    pen = AreaPen()
    SVGPath.fromstring(svg(disc(20), em=64).encode()).draw(pen)
    assert abs(pen.value) == pytest.approx(math.pi * 400, rel=0.005)


def test_a_square_keeps_its_place_and_its_straight_sides() -> None:
    picture = Image.new("L", (32, 32), 255)
    picture.paste(0, (8, 4, 24, 20))
    pen = BoundsPen(None)
    SVGPath.fromstring(svg(picture, em=320).encode()).draw(pen)
    assert pen.bounds == pytest.approx((80, 40, 240, 200), abs=1)


def test_white_paper_and_specks_have_no_outline() -> None:
    picture = Image.new("L", (32, 32), 255)
    picture.putpixel((5, 5), 0)
    assert contours(picture) == []
    assert 'd=""' in svg(picture)


def test_a_font_of_real_glyphs_is_the_font_they_came_from(tmp_path: Path) -> None:
    characters = "金明龍永國口"
    write_font([glyph(c, default_font(), 128) for c in characters], "My Glyphs", tmp_path / "a.ttf")
    for i, character in enumerate(characters):
        ours, real = (
            pixels(tmp_path / "a.ttf", chr(FIRST + i), 1024),
            np.asarray(glyph(character, default_font(), 1024)) < 128,
        )
        assert (ours & real).sum() / (ours | real).sum() > 0.93, character
    font = TTFont(tmp_path / "a.ttf")
    assert font["name"].getDebugName(1) == "My Glyphs"
    assert font["name"].getDebugName(6) == "MyGlyphs-Regular"
    assert font.getBestCmap() == {FIRST + i: f"uni{FIRST + i:04X}" for i in range(len(characters))}
    assert {width for width, _ in font["hmtx"].metrics.values()} == {1000}


def test_a_font_holds_only_so_many(tmp_path: Path) -> None:
    with pytest.raises(ZaoziError, match="6401 characters are too many; a font holds 6400"):
        write_font([Image.new("L", (8, 8), 255)] * (LAST + 2 - FIRST), "x", tmp_path / "a.ttf")


def test_fonts_and_outlines_from_the_command_line(
    glyph_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("fire\n\nwater\n")
    options = ["--model", glyph_model, "--steps", "1", "--count", "2"]
    assert (
        main(["font", "out/mine.ttf", "--prompts", "words.txt", "--prompt", "gold", "--family", "Mine", *options]) == 0
    )
    assert "6 characters: out/mine.ttf, out/mine.png, out/mine.tsv" in capsys.readouterr().out
    lines = Path("out/mine.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "U+E000\t\ue000\tgold"
    assert [line.split("\t")[2] for line in lines] == ["gold", "gold", "fire", "fire", "water", "water"]
    assert len(TTFont("out/mine.ttf").getBestCmap()) == 6
    with Image.open("out/mine.png") as proof:
        assert np.asarray(proof.convert("L")).min() < 100

    assert main(["generate", "gold", "--svg", *options, "--out", "o"]) == 0
    assert json.loads(Path("o/run.json").read_text())["files"][:2] == ["000-gold/0.png", "000-gold/0.svg"]
    assert Path("o/000-gold/1.svg").read_text().startswith("<svg ")
    assert main(["generate", "gold", *options, "--out", "o"]) == 0
    assert not Path("o/000-gold/1.svg").exists()

    for command, says in (
        (["font", "a.otf", "--prompt", "gold"], "a font's name ends in .ttf"),
        (["font", "a.ttf"], "give a file of them with --prompts"),
        (["font", "a.ttf", "--prompt", "gold", "--count", "6401"], "6401 characters are too many"),
    ):
        assert main(command) == 2
        assert says in capsys.readouterr().err
