"""People's picture files: formats, values, sizes."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image, features

from zaozi.core.errors import ZaoziError
from zaozi.data import pictures
from zaozi.data.pictures import fitted, formats, open_picture

quick = settings(derandomize=True, max_examples=40, deadline=None)
SIDE = 8


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: list[bytes], width: int, depth: int, colour: int, *chunks: bytes) -> bytes:
    """A PNG written by hand: Pillow writes no 16-bit colours and no keys below 8 bits."""
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", head), *chunks, chunk(b"IDAT", body), chunk(b"IEND", b"")])


def read(path: Path, data: bytes, mode: str = "L", size: int = SIDE) -> NDArray[np.uint8]:
    path.write_bytes(data)
    return np.asarray(fitted(open_picture(path, size), size, mode))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


grey16 = hnp.arrays(np.uint16, (SIDE, SIDE), elements=st.sampled_from([0, 1, 255, 256, 257, 515, 32768, 65280, 65535]))


@quick
@given(values=grey16, key=st.none() | st.sampled_from([0, 255, 256, 257, 65535]))
def test_sixteen_bit_greys_are_shares_of_65535_but_for_the_transparent_one(
    folder: Path, values: NDArray[np.uint16], key: int | None
) -> None:
    mark = [] if key is None else [chunk(b"tRNS", struct.pack(">H", key))]
    data = png([row.astype(">u2").tobytes() for row in values], SIDE, 16, 0, *mark)
    expected = np.where(values == key, 255, values * (255 / 65535)).astype(np.uint8)
    assert (read(folder / "a.png", data) == expected).all()
    if key is None:
        for suffix in ("tif", "jp2"):
            if suffix == "jp2" and not features.check("jpg_2000"):
                continue
            Image.fromarray(values).save(folder / f"a.{suffix}")
            assert (read(folder / "b.bin", (folder / f"a.{suffix}").read_bytes()) == expected).all()


@quick
@given(
    values=hnp.arrays(np.uint16, (SIDE, SIDE, 3), elements=st.sampled_from([0, 1, 255, 256, 257, 65535])),
    key=st.tuples(*[st.sampled_from([0, 1, 256, 257])] * 3),
)
def test_a_transparent_colour_of_sixteen_bits_is_compared_in_all_of_them(
    folder: Path, values: NDArray[np.uint16], key: tuple[int, int, int]
) -> None:
    values[0, 0] = key
    data = png([row.astype(">u2").tobytes() for row in values], SIDE, 16, 2, chunk(b"tRNS", struct.pack(">3H", *key)))
    clear = (values == np.array(key)).all(axis=-1, keepdims=True)
    assert (read(folder / "a.png", data, "RGB") == np.where(clear, 255, values >> 8)).all()


@quick
@given(data=st.data(), depth=st.sampled_from([1, 2, 4, 8]))
def test_greys_of_few_bits_keep_their_transparent_one(folder: Path, data: st.DataObject, depth: int) -> None:
    top = 2**depth - 1
    values = data.draw(hnp.arrays(np.uint8, (SIDE, SIDE), elements=st.integers(0, top)))
    key = data.draw(st.integers(0, top))
    bits = np.unpackbits(values[..., None], axis=-1)[..., 8 - depth :].reshape(SIDE, -1)
    rows = [row.tobytes() for row in np.packbits(bits, axis=-1)]
    found = read(folder / "a.png", png(rows, SIDE, depth, 0, chunk(b"tRNS", struct.pack(">H", key))))
    assert (found == np.where(values == key, 255, values.astype(int) * 255 // top)).all()


@quick
@given(data=st.data())
def test_palettes_keep_colours_and_transparency(folder: Path, data: st.DataObject) -> None:
    palette = data.draw(hnp.arrays(np.uint8, (16, 3)))
    alpha = data.draw(hnp.arrays(np.uint8, 16, elements=st.sampled_from([0, 255])))
    values = data.draw(hnp.arrays(np.uint8, (SIDE, SIDE), elements=st.integers(0, 15)))
    parts = chunk(b"PLTE", palette.tobytes()), chunk(b"tRNS", alpha.tobytes())
    found = read(folder / "a.png", png([row.tobytes() for row in values], SIDE, 8, 3, *parts), "RGB")
    assert (found == np.where(alpha[values][..., None] == 0, 255, palette[values])).all()


@quick
@given(
    values=hnp.arrays(np.float32, (SIDE, SIDE), elements=st.floats(-2, 2, width=32) | st.just(np.float32("nan"))),
    top=st.sampled_from([1, 255, 65535, 1e6]),
)
def test_floats_are_shares_of_white_and_what_is_no_number_is_paper(
    folder: Path, values: NDArray[np.float32], top: float
) -> None:
    values = (values.clip(max=1) * np.float32(top)).astype(np.float32)
    values[0, 0] = top
    values[0, 1] = -np.inf
    expected = np.where(np.isnan(values), 255, (np.nan_to_num(values.astype(float)).clip(0, top) * (255 / top)))
    Image.fromarray(values).save(folder / "a.tif")
    for picture in (Image.fromarray(values), open_picture(folder / "a.tif")):
        assert (np.asarray(fitted(picture, SIDE, "L")) == expected.astype(np.uint8)).all()


@quick
@given(values=hnp.arrays(np.uint8, (SIDE, SIDE, 4)), mode=st.sampled_from(["RGBA", "LA", "PA", "RGBa", "La"]))
def test_transparent_parts_show_the_paper(values: NDArray[np.uint8], mode: str) -> None:
    values[..., 3] = np.where(values[..., 3] < 128, 0, 255)
    picture = Image.fromarray(values).convert("LA" if mode == "La" else "RGBA").convert(mode)
    shown = np.asarray(picture.convert("LA" if "L" in mode else "RGBA").convert("RGBA"))
    for paper, level in (("white", 255), ("black", 0)):
        expected = np.where(shown[..., 3:] == 0, level, shown[..., :3])
        assert (np.asarray(fitted(picture, SIDE, "RGB", paper=paper)) == expected).all()


def test_other_orders_and_scales_of_sixteen_bits(folder: Path) -> None:
    ramp = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    expected = (ramp * (255 / 65535)).astype(np.uint8)
    dark = np.full((SIDE, SIDE), 200, np.uint16)
    for mode, order in (("I;16", "<u2"), ("I;16B", ">u2")):
        raw = Image.frombytes(mode, (SIDE, SIDE), ramp.astype(order).tobytes())
        assert (np.asarray(fitted(raw, SIDE, "L")) == expected).all()
    assert np.asarray(fitted(Image.fromarray(dark), SIDE, "L")).max() == 0, "16 bits are not stretched"
    pgm = b"P5 %d %d 65535\n" % (SIDE, SIDE)
    assert (read(folder / "a.pgm", pgm + ramp.astype(">u2").tobytes()) == expected).all()
    assert read(folder / "b.pgm", pgm + dark.astype(">u2").tobytes()).max() == 0
    Image.fromarray(ramp).save(folder / "inverse.tif", tiffinfo={262: 0})  # white is zero
    found = read(folder / "b.tif", (folder / "inverse.tif").read_bytes()).astype(int)
    assert (np.abs(found - (255.0 - expected)) <= 1).all()
    wide = Image.fromarray(ramp.astype(np.int32) * 1000)
    assert (np.abs(np.asarray(fitted(wide, SIDE, "L")).astype(int) - expected) <= 1).all()


def test_printers_and_films_colours(folder: Path) -> None:
    red = Image.new("RGB", (SIDE, SIDE), "red")
    for mode, suffix, tolerance in (("CMYK", "tif", 0), ("CMYK", "jpg", 3), ("YCbCr", "tif", 2), ("YCbCr", "jpg", 2)):
        red.convert(mode).save(folder / f"a.{suffix}", quality=100)
        found = read(folder / f"a.{suffix}", (folder / f"a.{suffix}").read_bytes(), "RGB")
        assert np.abs(found.astype(int) - [255, 0, 0]).max() <= tolerance, (mode, suffix)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "RGBA"])
def test_pictures_stand_as_their_exif_says(folder: Path, mode: str) -> None:
    upright = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) * 3
    picture = (
        Image.fromarray(upright.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(upright).convert(mode)
    )
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    turned.save(folder / "a.png", exif=exif)
    assert (np.asarray(fitted(open_picture(folder / "a.png"), SIDE, "L")) == upright).all()


def test_of_an_animation_the_first_frame_counts(folder: Path) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue", "lime")]
    for suffix in ("gif", "png", "webp", "tif"):
        path = folder / f"film.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert np.abs(np.asarray(fitted(open_picture(path), SIDE, "RGB")).astype(int) - [255, 0, 0]).max() <= 1, suffix


def test_every_raster_format_of_this_pillow_is_read_whatever_the_name(folder: Path) -> None:
    wanted = Image.new("RGB", (SIDE, SIDE), (250, 200, 20))
    for suffix, name in formats().items():
        if name not in Image.SAVE or name == "HEIF":
            continue
        data = io.BytesIO()
        try:
            wanted.save(data, name, **({"quality": 100} if name in ("JPEG", "WEBP", "AVIF") else {}))
        except (OSError, KeyError):  # a codec that this Pillow lacks
            continue
        for spelled in {suffix, suffix.upper()} | ({".png"} if name in pictures.SIGNED else set()):
            path = folder / f"one.two{spelled}"
            path.write_bytes(data.getvalue())
            found = np.asarray(fitted(open_picture(path), SIDE, "RGB")).astype(int)
            assert np.abs(found - [250, 200, 20]).max() < 6, (name, spelled)


@pytest.mark.parametrize("name", ["a.png", "a.eps", "a.pdf", "a.wmf", "a.tga"])
def test_no_picture_starts_another_program(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", never)
    (folder / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    with pytest.raises(ZaoziError, match=r"cannot be read as a picture|not in a format that is read"):
        open_picture(folder / name)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", never)
    for side, says in ((13340, "has 13340x13340 pixels, and at most 89,478,485"), (40000, "has 1,600,000,000 pixels")):
        head = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
        (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b""))
        with pytest.raises(ZaoziError, match=says):
            open_picture(folder / "bomb.png")


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "F"])
def test_a_large_picture_looks_as_it_does_when_processed_at_once(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:230, :294] / 230
    smooth = (2 + np.sin(9 * x + 4 * y) + np.cos(7 * y - 3 * x)) / 4
    grey = Image.fromarray((smooth * 255).astype(np.uint8))
    picture = {
        "L": lambda: grey,
        "RGBA": lambda: Image.merge("RGBA", [grey, grey, grey, grey.transpose(Image.Transpose.ROTATE_180)]),
        "I;16": lambda: Image.fromarray((smooth * 65535).astype(np.uint16)),
        "F": lambda: Image.fromarray(smooth.astype(np.float32)),
    }[mode]()
    whole = np.asarray(fitted(picture, 16, "L")).astype(int)
    monkeypatch.setattr(pictures, "LARGE", 10_000)
    strips = np.asarray(fitted(picture, 16, "L")).astype(int)
    assert np.abs(whole - strips).max() <= 3


def test_a_large_jpeg_is_decoded_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LARGE", 10_000)
    Image.new("RGB", (640, 480), "teal").save(folder / "large.jpg")
    assert open_picture(folder / "large.jpg", 32).size == (160, 120)
    assert open_picture(folder / "large.jpg").size == (640, 480)
