"""Colour emoji from the package openmoji, and pictures padded to squares."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError
from zaozi.data.openmoji import LICENCE, build_openmoji, rasterised
from zaozi.data.pairs import load_pairs
from zaozi.data.pictures import fitted, padded
from zaozi.data.shards import read_manifest

SVG = (
    '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">'
    '<rect x="18" y="18" width="36" height="36" fill="{ink}"/></svg>'
)


def row(code: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "emoji": chr(int(code.split("-", maxsplit=1)[0], 16)), "hexcode": code, "group": "things", "subgroups": "squares",
        "annotation": name, "tags": "square, flat", "openmoji_tags": "flat, box", "skintone": "",
        "skintone_base_hexcode": "", **more,
    }  # fmt: skip


ROWS = [
    row("1F7E5", "red square"),
    *(row(f"1F7E6-{k:X}", f"blue square {k}") for k in range(20)),
    row("1F44B", "hand", group="people"),
    row("1F44B-1F3FF", "hand: dark", skintone=5, skintone_base_hexcode="1F44B", group="people"),
]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of drawings, as an unpacked folder."""
    folder = tmp_path / "package"
    (folder / "data").mkdir(parents=True)
    (folder / "color" / "svg").mkdir(parents=True)
    (folder / "data" / "openmoji.json").write_text(json.dumps(ROWS))
    for each in ROWS:
        ink = "#ff0000" if "red" in each["annotation"] else "#0000ff"
        (folder / "color" / "svg" / f"{each['hexcode']}.svg").write_text(SVG.format(ink=ink))
    return folder


def packed(folder: Path) -> Path:
    archive = folder.parent / "openmoji.tgz"
    with tarfile.open(archive, "w:gz") as made:
        made.add(folder, "package")
    return archive


def everything(data: Path) -> dict[str, str]:
    """The split of each caption."""
    return {text: split for split in ("train", "validation", "test") for text in load_pairs(data, split).texts}


def test_a_package_becomes_pairs(package: Path, tmp_path: Path) -> None:
    manifest = build_openmoji(package, tmp_path / "a", size=32, processes=1)
    assert manifest["counts"]["pairs"] == 22, "without skin tones"
    assert manifest["licence"] == LICENCE
    assert (manifest["size"], manifest["channels"]) == (32, 3)
    pairs = load_pairs(tmp_path / "a", everything(tmp_path / "a")["red square"])
    place = pairs.texts.index("red square")
    assert pairs.columns["hints"][place] == ["square", "flat", "box"]
    assert (pairs.columns["group"][place], pairs.columns["subgroup"][place]) == ("things", "squares")
    picture = pairs.pictures[place]
    assert picture[:, 16, 16].tolist() == [255, 0, 0]
    assert picture[:, 2, 2].tolist() == [255, 255, 255]
    build_openmoji(packed(package), tmp_path / "b", size=32, processes=1)
    for name in ("train", "validation", "test"):
        a, b = load_pairs(tmp_path / "a", name), load_pairs(tmp_path / "b", name)
        assert np.array_equal(a.pictures, b.pictures), "the archive gives what its folder gives"


def test_skin_tones_share_the_split_of_the_emoji_without(package: Path, tmp_path: Path) -> None:
    build_openmoji(package, tmp_path / "a", size=16, skin_tones=True, processes=1)
    splits = everything(tmp_path / "a")
    assert len(splits) == 23
    assert splits["hand"] == splits["hand: dark"]
    assert build_openmoji(package, tmp_path / "c", size=16, limit=5, processes=1)["counts"]["pairs"] == 5


@pytest.mark.parametrize(
    "inside",
    [
        '<image href="/etc/hostname" width="72" height="72"/>',
        '<svg:image xmlns:svg="http://www.w3.org/2000/svg" href="a.png" width="9" height="9"/>',
        '<filter id="f"><feImage href="a.png"/></filter>',
    ],
)
def test_drawings_that_could_load_other_files_are_refused(inside: str) -> None:
    with pytest.raises(ValueError, match="could load other files"):
        rasterised(f'<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">{inside}</svg>', 16)
    with pytest.raises(ValueError, match="could load other files"):
        rasterised(f"<!DOCTYPE svg [<!ENTITY a '{inside}'>]><svg viewBox='0 0 72 72'>&a;</svg>", 16)


def test_what_is_no_package_is_one_line(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def says(source: Path, *options: str) -> str:
        assert (
            main(["data", "build", "--openmoji", str(source), "--out", str(tmp_path / "x"), "--size", "16", *options])
            == 2
        )
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "cannot be read" in says(tmp_path / "none.tgz")
    (tmp_path / "text.tgz").write_text("text")
    assert "cannot be read" in says(tmp_path / "text.tgz")
    with tarfile.open(tmp_path / "empty.tgz", "w:gz") as made:
        made.addfile(tarfile.TarInfo("package/readme"), io.BytesIO())
    assert "has no data/openmoji.json" in says(tmp_path / "empty.tgz")
    for rows in (
        "[]",
        "{}",
        "nothing",
        json.dumps([row("1F600", "a", hexcode="../../x")]),
        json.dumps([{"hexcode": "1"}]),
    ):
        (package / "data" / "openmoji.json").write_text(rows)
        assert "is not OpenMoji's list" in says(package)
    (package / "data" / "openmoji.json").write_text(json.dumps([row("1F600", "gone")]))
    assert "1F600.svg cannot be read" in says(package)
    (package / "color" / "svg" / "1F600.svg").write_text("no drawing")
    assert "1F600.svg cannot be drawn" in says(package)
    assert "do not go together" in says(package, "--images", str(package))
    assert "--undefined is for the glyphs" in says(package, "--undefined")
    assert main(["data", "build", "--skin-tones"]) == 2
    assert main(["data", "build", "--fit", "pad"]) == 2
    with pytest.raises(ZaoziError, match="size 4 is out of range"):
        build_openmoji(package, tmp_path / "y", size=4)


@pytest.mark.parametrize("large", [False, True])
def test_a_padded_picture_keeps_its_whole_width(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr("zaozi.data.pictures.LARGE", 1000)
    wide = Image.new("RGB", (400, 200), "red")
    wide.paste("blue", (0, 0, 20, 200))
    made = np.asarray(padded(wide, 40, "RGB"))
    assert made.shape == (40, 40, 3)
    assert made[20, 0].tolist() == [0, 0, 255], "the left edge is still there"
    assert made[20, 39].tolist() == [255, 0, 0]
    assert made[2, 20].tolist() == [255, 255, 255], "with white above"
    assert np.asarray(fitted(wide, 40, "RGB"))[20, 0].tolist() == [255, 0, 0], "a crop cuts it off"


def test_fit_is_an_option_of_data_build(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (64, 32), "black").save(folder / "a.png")
    (folder / "a.txt").write_text("a black bar")
    assert (
        main(["data", "build", "--images", str(folder), "--out", str(tmp_path / "d"), "--size", "16", "--fit", "pad"])
        == 0
    )
    assert read_manifest(tmp_path / "d")["size"] == 16
    picture = load_pairs(tmp_path / "d", "train").pictures[0, 0]
    assert (picture[0, 0], picture[8, 8]) == (255, 0)
