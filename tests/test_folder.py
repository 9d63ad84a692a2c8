"""Folders of strangers: tables, captions, links, splits, and the shards made of them."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import draw_folder
from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError, printable
from zaozi.data import shards
from zaozi.data.folder import LONGEST_CAPTION, Square, build_folder, is_picture
from zaozi.data.pairs import load_pairs
from zaozi.data.shards import Record, by_group, check_shards, data_hash, normalised, read_manifest, split_of
from zaozi.data.splits import folder_splits
from zaozi.data.tables import Bad, csv_column, json_column, read_table
from zaozi.nn.properties.class_ import ClassProperty

quick = settings(derandomize=True, max_examples=60, deadline=None)


def built(pictures: Path, **options: Any) -> list[dict[str, Any]]:
    """All rows of a dataset built from a folder."""
    out = pictures.parent / "built"
    build_folder(pictures, out, Square(16), processes=1, **options)
    return rows_of(out)


def rows_of(data: Path) -> list[dict[str, Any]]:
    return [
        row | {"split": file.name.split("-")[0]}
        for file in sorted(data.glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]


def one_picture(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), colour).save(path)
    return path


# -- tables ---------------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)


@quick
@given(captions=st.lists(text.filter(lambda s: not any(is_picture(w) for w in s.split(","))), min_size=1, max_size=8))
def test_what_a_csv_writer_writes_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, captions: list[str]
) -> None:
    """Quoted cells of many lines, commas, quotes and other scripts included."""
    folder = tmp_path_factory.mktemp("csv")
    made = io.StringIO(newline="")
    writer = csv.writer(made, quoting=csv.QUOTE_ALL)
    writer.writerows([("file_name", "text"), *((f"{i}.png", caption) for i, caption in enumerate(captions))])
    (folder / "metadata.csv").write_text(made.getvalue(), encoding="utf-8", newline="")
    table = read_table(folder, Bad(skip=False), is_picture)
    assert table is not None
    assert [row.cells["text"] for row in table.rows] == captions


@quick
@given(count=st.integers(1, 12), data=st.data())
def test_an_unclosed_quote_costs_its_own_row_alone(
    tmp_path_factory: pytest.TempPathFactory, count: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    quoted = data.draw(st.sets(st.integers(0, count - 1)))
    rows = [
        f'{i}.png,"thing {i}' if i in bad else f'{i}.png,"a, thing {i}"' if i in quoted else f"{i}.png,thing {i}"
        for i in range(count)
    ]
    (folder / "metadata.csv").write_text("\n".join(["file_name,text", *rows, ""]))
    named = Bad(skip=True)
    table = read_table(folder, named, is_picture)
    assert table is not None
    assert [row.cells["file_name"] for row in table.rows] == [f"{i}.png" for i in range(count) if i not in bad]
    assert [why.split("metadata.csv:")[1].split()[0] for why in named.skipped] == [str(i + 2) for i in sorted(bad)]
    with pytest.raises(ZaoziError, match=rf"metadata\.csv:{min(bad) + 2} .*quote.* \(or pass --skip-bad"):
        read_table(folder, Bad(skip=False), is_picture)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('a.png,"a red thing\nb.png,a blue thing"', ":2 seems to have swallowed the row of 'b.png'"),
        ('a.png,"a red" thing', ":2 cannot be read"),
        ("a.png,a,b", ":2 has 3 cells where the header names 2 (quote a cell that holds a comma)"),
        ("a.png", ":2 has 1 cells where the header names 2"),
        ("a.png,one\0two", ":2 holds a NUL byte"),
        ('a.png,"' + "x" * 140_000 + '"', ":2 has a cell of more than"),
    ],
)
def test_a_row_that_is_not_what_its_header_says_is_named(tmp_path: Path, lines: str, says: str) -> None:
    (tmp_path / "metadata.csv").write_text(f"file_name,text\n{lines}\nz.png,good\n")
    with pytest.raises(ZaoziError, match="--skip-bad") as error:
        read_table(tmp_path, Bad(skip=False), is_picture)
    assert says in str(error.value)
    named = Bad(skip=True)
    table = read_table(tmp_path, named, is_picture)
    assert table is not None
    assert [row.cells for row in table.rows][-1] == {"file_name": "z.png", "text": "good"}
    assert says in named.skipped[0]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("file_name,text,kind,kind", "names the column 'kind' twice"),
        ("file_name;text", "has no column 'file_name' (it has: file_name;text)"),
        ("file_name,caption", "has no column 'text'"),
        ('file_name,"text', "opens a quote that is not closed; fix the header"),
    ],
)
def test_a_header_that_cannot_be_used_is_named(tmp_path: Path, header: str, says: str) -> None:
    (tmp_path / "metadata.csv").write_text(f"{header}\na.png,a\n")
    with pytest.raises(ZaoziError) as error:
        read_table(tmp_path, Bad(skip=True), is_picture)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"file_name": "a.png", "text": "a", "text": "b"}', "gives 'text' twice"),
        ('{"file_name": "a.png", "text": "a", "size": NaN}', "NaN is not a JSON number; write null"),
        ('{"file_name": "a.png", "text": "a", "size": 1e999}', "1e999 is too large a number"),
        ('{"file_name": "a.png", "text": "a cat \\ud83d"}', "half of a surrogate pair"),
        ('{"file_name": "a.png", "text": "a", "x": ' + "[" * 100_000, "is not JSON"),
        ('{"file_name": "a.png", "text": "a", "n": ' + "9" * 5000 + "}", "is not JSON"),
        ('["a.png", "a"]', "is not an object"),
        ('{"file_name": "a.png", "text": "a"', "is not JSON"),
    ],
)
def test_a_line_that_is_not_strict_json_is_named(tmp_path: Path, line: str, says: str) -> None:
    good = '{"file_name": "z.png", "text": "good \\ud83d\\ude00"}'
    (tmp_path / "metadata.jsonl").write_text(f"{good}\n{line}\n")
    named = Bad(skip=True)
    table = read_table(tmp_path, named, is_picture)
    assert table is not None
    assert [row.cells["text"] for row in table.rows] == ["good 😀"]
    assert "metadata.jsonl:2" in named.skipped[0]
    assert says in named.skipped[0]
    with pytest.raises(ZaoziError, match=r"metadata\.jsonl:2"):
        read_table(tmp_path, Bad(skip=False), is_picture)


def test_two_tables_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\n")
    (tmp_path / "metadata.jsonl").write_text("{}\n")
    with pytest.raises(ZaoziError, match="has both"):
        read_table(tmp_path, Bad(skip=True), is_picture)


@pytest.mark.parametrize(
    ("cells", "made"),
    [
        (["1", "2", "", " 3 "], [1, 2, None, 3]),
        (["-4", "nan", "0"], [-4, None, 0]),
        (["1", "2.5", ".5", "1e5"], [1.0, 2.5, 0.5, 1e5]),
        (["007", "008"], ["007", "008"]),
        (["1", "x", "1e5", "1_000", "NaN", " yes", ""], ["1", "x", "1e5", "1_000", "NaN", " yes", ""]),
        (["1_000", "2_000"], ["1_000", "2_000"]),
        (["+1"], ["+1"]),
        (["1", "1e999"], ["1", "1e999"]),
        (["inf"], ["inf"]),
        (["١", "٢"], ["١", "٢"]),
        ([str(2**63 - 1), "1"], [2**63 - 1, 1]),
        ([str(2**63), str(2**63 + 1)], [str(2**63), str(2**63 + 1)]),
        ([str(2**53 + 1), "0.5"], [str(2**53 + 1), "0.5"]),
        (["True", "False"], ["True", "False"]),
        (["", None], ["", ""]),
        (["nan", ""], ["nan", ""]),
    ],
)
def test_cells_keep_their_meaning(cells: list[str | None], made: list[Any]) -> None:
    assert [(type(v), v) for v in csv_column(cells)] == [(type(v), v) for v in made]


@pytest.mark.parametrize(
    ("values", "made"),
    [
        ([1, None, 3], [1, None, 3]),
        ([True, None, False], [True, None, False]),
        ([True, 1], ["true", "1"]),
        ([1, 2.5], [1.0, 2.5]),
        (["5", "6"], ["5", "6"]),
        (["5", 6, 1.5, None, {"a": 1}], ["5", "6", "1.5", "", '{"a": 1}']),
        ([2**63, 2**63 + 1], [str(2**63), str(2**63 + 1)]),
        ([-(2**63) - 1], [str(-(2**63) - 1)]),
        ([2**53 + 1, 0.5], [str(2**53 + 1), "0.5"]),
        ([["a", 1], None], [["a", "1"], []]),
        ([["a"], "b"], ['["a"]', "b"]),
    ],
)
def test_json_values_keep_their_types(values: list[Any], made: list[Any]) -> None:
    assert [(type(v), v) for v in json_column(values)] == [(type(v), v) for v in made]


@quick
@given(st.lists(st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | text))
def test_no_two_values_of_a_column_become_one(values: list[Any]) -> None:
    """Whatever is mixed: values that differ in kind or size still differ, and they are of one type."""
    made = json_column(values)
    pairs = {(type(v).__name__, v): m for v, m in zip(values, made, strict=True) if v is not None and v != ""}
    kinds = {type(v) for v in values if v is not None}
    if kinds in ({int}, {bool}, {str}):
        assert len(set(pairs.values())) == len(pairs)
    assert len({type(m) for m in made if m is not None}) <= 1
    assert all(float(str(m)) == v for v, m in zip(values, made, strict=True) if type(v) in (int, float))


def test_columns_keep_their_meaning_on_disk(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "p", 8)
    lines = ["file_name,text,zip,huge,age,"]
    lines += [f"{i:02d}.png,shape {i},0{i},{2**64 + i},{'' if i else 3},{i}" for i in range(8)]
    (pictures / "metadata.csv").write_text("\n".join(lines))
    for row in built(pictures):
        i = int(row["key"][:2])
        assert (row["zip"], row["huge"], row["age"], row[""]) == (f"0{i}", str(2**64 + i), None if i else 3, i)


def test_work_grows_with_the_cells_and_not_with_the_square_of_the_columns() -> None:
    def seconds(count: int) -> float:
        made = [Record(f"{i}", "a", "a", {f"c{k}": k for k in range(count)}) for i in range(8)]
        taken = []
        for _ in range(3):
            start = time.process_time()
            columns = {name: shards._type(shards._column(made, name)) for name in ("text", "key", *made[0].columns)}
            assert shards._table(made, [b"png"] * 8, shards._schema(columns)).num_columns == count + 3
            taken.append(time.process_time() - start)
        return min(taken)

    assert seconds(4000) < 30 * seconds(500)  # eight times the cells; by the square it would be 64


# -- captions and pictures ------------------------------------------------------------------------------------------


def test_every_captioned_file_is_read_or_named(tmp_path: Path) -> None:
    pictures = tmp_path / "p"
    for name in ("a.PNG", "b.v2.png", "sub/c.tga", "d.jp2"):
        one_picture(pictures / name)
        (pictures / name).with_suffix(".txt").write_text(f"picture {name}")
    (pictures / "a.txt").rename(pictures / "a.TXT")
    (pictures / "a.json").write_text("{}")  # of another tool; the caption has its picture
    (pictures / "film.mp4").write_bytes(b"")
    (pictures / "README.txt").write_text("about")
    assert {row["key"] for row in built(pictures)} == {"a.PNG", "b.v2.png", "sub/c.tga", "d.jp2"}
    left = read_manifest(tmp_path / "built")["left_out"]
    assert left == [f"{pictures / 'README.txt'} has no picture"]
    (pictures / "film.txt").write_text("a film")
    with pytest.raises(ZaoziError, match=r"film\.mp4 has the caption film\.txt, but is not in a format that is read"):
        built(pictures)
    assert len(built(pictures, skip_bad=True)) == 4
    assert "film.mp4" in read_manifest(tmp_path / "built")["skipped"][0]


def test_pictures_without_a_row_are_counted(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "p", 4)
    (pictures / "metadata.csv").write_text("file_name,text\n00.png,a\n./01.png,b\n")
    assert {row["key"] for row in built(pictures)} == {"00.png", "01.png"}
    left = read_manifest(tmp_path / "built")["left_out"]
    assert left == [f"{pictures / name} has no row in metadata.csv" for name in ("02.png", "03.png")]


@pytest.mark.skipif(os.name == "nt", reason="names are bytes")
def test_names_that_are_not_utf8_are_named_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = draw_folder(tmp_path / "p", 3)
    for name in (b"caf\xe9", b"th\xe9"):
        os.rename(pictures / f"0{len(name) % 2}.png", os.fsencode(pictures) + b"/" + name + b".png")
        Path(os.fsdecode(os.fsencode(pictures) + b"/" + name + b".txt")).write_text("a drink")
    assert main(["data", "build", "--images", str(pictures), "--out", str(tmp_path / "d"), "--size", "16"]) == 2
    assert "caf\\udce9.png has a name that is not UTF-8; rename it" in capsys.readouterr().err
    assert len(built(pictures, skip_bad=True)) == 1
    skipped = read_manifest(tmp_path / "built")["skipped"]
    assert sum("not UTF-8" in why for why in skipped) == 2


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/secret.png", "sub/../../secret.png", "{absolute}", "link.png", "out/secret.png"]
)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_nothing_outside_the_folder_is_read(tmp_path: Path, name: str, kind: str) -> None:
    secret = one_picture(tmp_path / "elsewhere" / "secret.png")
    one_picture(tmp_path / "secret.png")
    pictures = draw_folder(tmp_path / "p", 3)
    (pictures / "sub").mkdir()
    (pictures / "link.png").symlink_to(secret)
    (pictures / "out").symlink_to(secret.parent, target_is_directory=True)
    named = name.format(absolute=secret)
    if kind == "jsonl":
        rows = [{"file_name": "00.png", "text": "a"}, {"file_name": named, "text": "leak"}]
        (pictures / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        (pictures / "metadata.csv").write_text(f"file_name,text\n00.png,a\n{named},leak\n")
    with pytest.raises(ZaoziError, match="leads out of"):
        built(pictures)
    assert [row["key"] for row in built(pictures, skip_bad=True)] == ["00.png"]


def test_links_stay_inside(tmp_path: Path) -> None:
    """Captions, pictures and folders that lead out are named; links inside are read, each folder once."""
    pictures = draw_folder(tmp_path / "p", 3)
    one_picture(pictures / "deep" / "inner.png")
    (pictures / "deep" / "inner.txt").write_text("inside")
    (pictures / "deep" / "up").symlink_to(pictures, target_is_directory=True)
    (pictures / "again").symlink_to(pictures / "deep", target_is_directory=True)
    (pictures / "alias.png").symlink_to(pictures / "00.png")
    (pictures / "alias.txt").write_text("another name")
    assert sorted(row["key"] for row in built(pictures)) == [
        "00.png",
        "01.png",
        "02.png",
        "alias.png",
        "deep/inner.png",
    ]
    away = tmp_path / "away"
    one_picture(away / "x.png")
    (away / "x.txt").write_text("a secret")
    (pictures / "01.txt").unlink()
    (pictures / "01.txt").symlink_to(away / "x.txt")
    (pictures / "02.png").unlink()
    (pictures / "02.png").symlink_to(away / "x.png")
    (pictures / "gone").symlink_to(away, target_is_directory=True)
    (pictures / "loop.png").symlink_to("loop.png")
    (pictures / "loop.txt").write_text("a loop")
    found = built(pictures, skip_bad=True)
    assert sorted(row["key"] for row in found) == ["00.png", "alias.png", "deep/inner.png"]
    skipped = read_manifest(tmp_path / "built")["skipped"]
    assert sorted(Path(why.split()[0]).name for why in skipped) == ["01.txt", "02.png", "gone", "loop.png"]


@pytest.mark.parametrize("caption", [b"nul \0 byte", b"x" * (LONGEST_CAPTION + 1), "utf-16".encode("utf-16")])
def test_a_file_that_is_no_caption_is_named(tmp_path: Path, caption: bytes) -> None:
    pictures = draw_folder(tmp_path / "p", 3)
    (pictures / "01.txt").write_bytes(caption)
    with pytest.raises(ZaoziError, match=r"01\.(txt|png)"):
        built(pictures)
    assert len(built(pictures, skip_bad=True)) == 2


def test_a_hostile_name_is_printed_harmlessly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = draw_folder(tmp_path / "p\x1b[31m", 2)
    (pictures / "00.txt").write_text("")
    for options in ([], ["--skip-bad"]):
        main(["data", "build", "--images", str(pictures), "--out", str(tmp_path / "d\u202e"), "--size", "16", *options])
    main(["generate", "x", "--model", "no\x1b]0;title\x07such"])
    shown = "".join(capsys.readouterr())
    assert "p\\x1b[31m" in shown
    assert "d\\u202e" in shown
    assert shown == "".join(c for c in shown if c == "\n" or printable(c) == c)


@quick
@given(st.text())
def test_printable_text_is_one_harmless_line_and_letters_stay(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert "\x1b" not in shown
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    assert all(c in shown for c in text if c.isalnum())


# -- splits ---------------------------------------------------------------------------------------------------------


def records(captions: list[str], **columns: list[Any]) -> list[Record]:
    return [
        Record(f"{i}.png", caption, normalised(caption), {name: values[i] for name, values in columns.items()})
        for i, caption in enumerate(captions)
    ]


small = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abcdef"), st.integers(0, 3)), min_size=1, max_size=60)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(rows=small, alone=st.integers(0, 60))
def test_every_class_and_every_repeated_caption_is_trained(rows: list[tuple[int, str, int]], alone: int) -> None:
    captions = [f"caption {c}" for c, _, _ in rows] + [f"of its own {i}" for i in range(alone)]
    kinds = [k for _, k, _ in rows] + [""] * alone
    tones = [n for _, _, n in rows] + [None] * alone
    made = records(captions, kind=kinds, tone=tones, size=[0.5 * i for i in range(len(captions))])
    names, about = folder_splits(made)
    trained = [record for record, name in zip(made, names, strict=True) if name == "train"]
    assert trained
    counts = Counter(captions)
    assert {c for c, n in counts.items() if n > 1} <= {record.text for record in trained}
    for name, values in (("kind", kinds), ("tone", tones)):
        given_ = [v for v in values if v is not None and v != ""]
        if 2 * sum(n == 1 for n in Counter(given_).values()) < len(given_):
            assert set(given_) <= {record.columns[name] for record in trained}
    if about["split"]["by"] == "caption":
        assert len({(record.group, name) for record, name in zip(made, names, strict=True)}) == len(set(captions))
    order = np.random.Generator(np.random.Philox(len(rows))).permutation(len(made))
    assert folder_splits([made[i] for i in order])[0] == [names[i] for i in order], "whatever their order"


def test_many_captions_are_split_by_caption_as_ever() -> None:
    made = records([f"caption {i}" for i in range(2000)])
    names, about = folder_splits(made)
    assert names == [split_of(record.group) for record in made]
    assert about == {"split": {"by": "caption", "moved_to_train": 0}}


def test_few_captions_are_split_by_picture() -> None:
    made = records([f"a {('cat', 'dog', 'face')[i % 3]}" for i in range(300)])
    names, about = folder_splits(made)
    assert about["split"]["by"] == "picture"
    shares = [names.count(split) / 300 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.85, 0.05, 0.10], abs=0.05)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_smallest_datasets_have_something_to_train_on(count: int) -> None:
    for salt in range(200):
        captions = [f"{salt} {i}" for i in range(count)]
        assert "train" in folder_splits(records(captions))[0]
        assert "train" in by_group(records(captions))[0]


def test_a_build_tells_how_it_was_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = draw_folder(tmp_path / "p", 27)
    lines = [f"{i:02d}.png,a {kind},{kind}" for i, kind in enumerate(["cat", "dog", "face"] * 9)]
    (pictures / "metadata.csv").write_text("\n".join(["file_name,text,kind", *lines]))
    assert main(["data", "build", "--images", str(pictures), "--out", str(tmp_path / "d"), "--size", "16"]) == 0
    assert "3 captions for 27 pictures: the split is by picture" in capsys.readouterr().out
    pairs = load_pairs(tmp_path / "d", "train")
    assert ClassProperty("kind").filled(pairs.column("kind")).values == ("cat", "dog", "face")


def test_a_build_tells_which_captions_the_encoder_will_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = draw_folder(tmp_path / "p", 4)
    (pictures / "01.txt").write_text("a very " + "long " * 80 + "caption")
    (pictures / "02.txt").write_text("\u732b\u304c\u597d\u304d", encoding="utf-8")
    assert main(["data", "build", "--images", str(pictures), "--out", str(tmp_path / "d"), "--size", "16"]) == 0
    *notes, last = capsys.readouterr().out.splitlines()
    assert any(note.startswith("1 of 4 captions are longer than 64 tokens and are cut") for note in notes)
    assert any(note.startswith("1 of 4 captions are mostly words that the encoder does not know") for note in notes)
    assert last.startswith("4 pairs")


# -- shards ---------------------------------------------------------------------------------------------------------


def test_shards_end_by_bytes_as_well_as_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = draw_folder(tmp_path / "p", 24)
    whole = {row["key"]: row for row in built(pictures)}
    for name, value in (("SHARD_BYTES", 1000), ("SHARD_ROWS", 9), ("GROUP_BYTES", 500), ("GROUP_ROWS", 4)):
        monkeypatch.setattr(shards, name, value)
    assert {row["key"]: row for row in built(pictures)} == whole
    files = sorted((tmp_path / "built").glob("train-*.parquet"))
    assert len(files) > 2
    assert all(file.name.endswith(f"-of-{len(files):05d}.parquet") for file in files)
    for file in files:
        held = pq.ParquetFile(file)
        sizes = [len(row["image"]["bytes"]) + len(row["text"]) for row in pq.read_table(file).to_pylist()]
        assert len(sizes) <= 9
        assert sum(sizes) <= 1000 or len(sizes) == 1
        assert held.num_row_groups >= len(sizes) / 4
    pairs = load_pairs(tmp_path / "built", "train")
    assert len(pairs.pictures) == len(pairs.texts) == sum(row["split"] == "train" for row in whole.values())


def dies(record: Record) -> Image.Image:
    os._exit(1)


def test_a_process_that_is_killed_while_drawing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ZaoziError, match="a process that draws was ended"):
        shards.build(records(["a", "b"]), dies, shards.dataset_output(tmp_path / "d"), about={}, processes=1)
    assert not list(tmp_path.iterdir())


@quick
@given(sizes=st.lists(st.integers(0, 50)), rows=st.integers(1, 9), limit=st.integers(1, 100))
def test_parts_hold_everything_once_and_no_more_than_they_may(sizes: list[int], rows: int, limit: int) -> None:
    parts = [sizes[part] for part in shards._parts(sizes, rows, limit)]
    assert [size for part in parts for size in part] == sizes
    assert all(0 < len(part) <= rows and (sum(part) <= limit or len(part) == 1) for part in parts)


def changed_row(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path)


def changed_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("change", [changed_row, changed_byte, cut])
@pytest.mark.parametrize("seen", [True, False])
def test_a_shard_that_was_changed_is_named_and_read_as_it_is(tmp_path: Path, change: Any, seen: bool) -> None:
    pictures = draw_folder(tmp_path / "p", 12)
    built(pictures)
    data = tmp_path / "built"
    before = data_hash(data)
    if seen:
        load_pairs(data, "train")
    change(data / "train-00000-of-00001.parquet")
    with pytest.warns(UserWarning, match=r"train-00000-of-00001\.parquet is not the file that was built"):
        now = data_hash(data)
    assert now != before
    assert check_shards(data, "train")["train-00000-of-00001.parquet"] == shards.sha256(
        data / "train-00000-of-00001.parquet"
    )
    try:
        pairs, rows = load_pairs(data, "train"), pq.read_table(data / "train-00000-of-00001.parquet").to_pylist()
    except ZaoziError as error:
        assert change is not changed_row
        assert "has a damaged shard" in str(error)  # noqa: PT017
    else:
        assert pairs.texts == [row["text"] for row in rows]
        for row, picture in zip(rows, pairs.pictures, strict=True):
            assert (np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) == picture[0]).all()
    assert len(load_pairs(data, "test")) == read_manifest(data)["counts"]["test"], "other splits can still be read"


def test_pictures_and_captions_are_those_of_the_shard_even_where_the_manifest_is_changed_too(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "p", 12)
    built(pictures)
    data, shard = tmp_path / "built", tmp_path / "built" / "train-00000-of-00001.parquet"
    load_pairs(data, "train")
    changed_row(shard)
    manifest = read_manifest(data)
    manifest["sha256"][shard.name] = shards.sha256(shard)
    (data / ".zaozi.json").unlink()
    (data / "manifest.json").write_text(json.dumps(manifest))
    pairs, rows = load_pairs(data, "train"), pq.read_table(shard).to_pylist()
    assert pairs.texts == [row["text"] for row in rows]
    for row, picture in zip(rows, pairs.pictures, strict=True):
        assert (np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) == picture[0]).all()
    manifest["size"] = 8  # the kept pictures are of another size
    (data / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ZaoziError, match="has a picture of another size or kind than the dataset: 16x16 L"):
        load_pairs(data, "train")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", {"../../secret.parquet": "0"}),
        ("sha256", {"/etc/passwd": "0"}),
        ("sha256", 3),
        ("size", "64"),
        ("size", 10**6),
        ("channels", 4),
    ],
)
def test_a_manifest_is_not_taken_at_its_word(tmp_path: Path, key: str, value: Any) -> None:
    built(draw_folder(tmp_path / "p", 4))
    manifest = read_manifest(tmp_path / "built") | {key: value}
    (tmp_path / "built" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ZaoziError, match="is damaged"):
        read_manifest(tmp_path / "built")
