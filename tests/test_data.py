"""The glyphs and anybody's folder, as datasets on disk."""

from __future__ import annotations

import hashlib
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from conftest import draw_folder
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import DataConfig
from zaozi.data import font, unihan
from zaozi.data.folder import Square, build_folder
from zaozi.data.glyphs import build_glyphs, default_folder
from zaozi.data.pairs import balance_weights, find_dataset, load_pairs, training_rows
from zaozi.data.pictures import fitted
from zaozi.data.shards import data_hash, read_manifest, split_of
from zaozi.nn.properties.class_ import ClassProperty
from zaozi.nn.properties.number import NumberProperty
from zaozi.train.batches import hints


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All glyphs, at 32 pixels to be quick."""
    out = tmp_path_factory.mktemp("glyphs") / "all"
    build_glyphs(out, size=32)
    return out


@pytest.fixture(scope="module")
def rows(glyphs: Path) -> list[dict[str, object]]:
    import pyarrow.parquet as pq

    found = []
    for split in ("train", "validation", "test"):
        for row in pq.read_table(glyphs / f"{split}-00000-of-00001.parquet").to_pylist():
            found.append(row | {"split": split})
    return found


def test_the_counts_are_the_published_ones(glyphs: Path, rows: list[dict[str, object]]) -> None:
    manifest = read_manifest(glyphs)
    assert manifest["counts"]["pairs"] == 20_748
    assert manifest["counts"]["captions"] == 16_560
    assert manifest["lacking_in_font"] == 594
    assert sum(ord(str(r["character"])) > 0xFFFF for r in rows) == 340
    shares = [manifest["counts"][s] / 20_748 for s in ("train", "validation", "test")]
    assert shares == pytest.approx([0.85, 0.05, 0.10], abs=0.01)


def test_the_splits_of_the_glyphs_never_change(glyphs: Path, rows: list[dict[str, object]]) -> None:
    """Models and measurements that were published rest on them, row by row."""
    counts = read_manifest(glyphs)["counts"]
    assert [counts[split] for split in ("train", "validation", "test")] == [17_508, 1_136, 2_104]
    readme = " ".join((Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").split())
    assert f"the {counts['pairs']:,} Chinese glyphs" in readme
    assert f"trained on {counts['train']:,} of them" in readme
    digest = hashlib.sha256("".join(f"{row['split']} {row['key']}\n" for row in rows).encode())
    assert digest.hexdigest() == "27aa498fabe35e1b1b092ec4b28e83339495425ad445cf9a4c0ae16364ee7654"


def test_no_caption_stands_in_two_splits(rows: list[dict[str, object]]) -> None:
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(" ".join(str(row["text"]).casefold().split()), set()).add(str(row["split"]))
    assert all(len(found) == 1 for found in splits.values())


def test_cross_references_stay_with_the_character_they_name(rows: list[dict[str, object]]) -> None:
    split = {row["code_point"]: row["split"] for row in rows}
    references = [row for row in rows if row["cross_reference"]]
    assert 1_800 < len(references) < 2_400
    assert all(split[r["refers_to"]] == r["split"] for r in references if r["refers_to"] in split)


def test_hints_say_what_the_radical_means_and_each_sense_alone(rows: list[dict[str, object]]) -> None:
    of = {row["character"]: row["hints"] for row in rows}
    metal = ["gold", "metals in general", "money"]
    assert of["鈀"] == of["钯"] == metal
    assert of["鐵"] == [*metal, "iron", "strong", "solid", "firm"]
    assert of["豹"][0] == "badger"
    assert not any("radical" in hint.lower() for hints in of.values() for hint in hints)
    assert all(of.values())


def test_characters_without_a_definition_are_only_trained(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    import pyarrow.parquet as pq

    counts = build_glyphs(tmp_path / "more", size=16, undefined=True)["counts"]
    assert [counts[split] for split in ("validation", "test")] == [1_136, 2_104]
    shards = sorted((tmp_path / "more").glob("train-*.parquet"))
    train = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
    more = [row for row in train if row["group"].startswith("undefined")]
    assert len(more) == counts["train"] - 17_508 > 9_000
    assert not {row["character"] for row in more} & {row["character"] for row in rows}
    of = {row["character"]: row for row in more}
    assert all(unicodedata.normalize("NFKC", c) == c for c in of)
    assert all(row["text"] == unihan.radical_senses(row["radical"])[0] for row in more)


def test_the_default_dataset_of_an_older_edition_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAOZI_HOME", str(tmp_path))
    folder = default_folder(16)
    build_glyphs(folder, size=16, limit=40)
    manifest = folder / "manifest.json"
    built: list[Path] = []
    monkeypatch.setattr("zaozi.data.glyphs.build_glyphs", lambda out, **_: built.append(out))
    assert find_dataset(DataConfig(size=16)) == folder
    assert not built
    old = json.loads(manifest.read_text())
    del old["edition"]
    (folder / ".zaozi.json").unlink()  # which older editions did not have
    manifest.write_text(json.dumps(old))
    assert find_dataset(DataConfig(size=16)) == folder
    assert built == [folder]


def test_no_glyph_is_empty_and_captions_are_verbatim(rows: list[dict[str, object]]) -> None:
    definitions = {c.code: c.definition for c in unihan.characters()}
    for row in rows[::37]:
        assert row["text"] == definitions[ord(str(row["character"]))]
        with Image.open(io.BytesIO(row["image"]["bytes"])) as picture:  # type: ignore[index]
            assert np.asarray(picture).min() < 128, row["character"]
    assert any("(" in str(row["text"]) for row in rows)
    assert all(row["text"] for row in rows)


def test_known_characters(rows: list[dict[str, object]]) -> None:
    by_character = {row["character"]: row for row in rows}
    lithium = by_character["锂"]
    assert (lithium["radical"], lithium["structure"], lithium["pinyin"]) == (167, "left-right", "lǐ")
    assert (lithium["pinyin_initial"], lithium["pinyin_final"], lithium["tone"]) == ("l", "i", 3)
    assert by_character["明"]["components"] == ["日", "月"]
    assert by_character["草"]["structure"] == "above-below"
    assert by_character["金"]["strokes"] == 8


@pytest.mark.parametrize(
    ("reading", "parts"),
    [
        ("zhōng", ("zh", "ong", 1)),
        ("lǘ", ("l", "ü", 2)),
        ("ér", ("", "er", 2)),
        ("de", ("d", "e", 5)),
        ("yáng", ("y", "ang", 2)),
    ],
)
def test_pinyin_is_split(reading: str, parts: tuple[str, str, int]) -> None:
    assert unihan.split_pinyin(reading) == parts


@pytest.mark.parametrize(
    ("definition", "target"),
    [
        ("(same as U+4E18 丘) hillock or mound", 0x4E18),
        ("(same as 仇) an enemy, enmity", ord("仇")),
        ("variant of 塩 U+5869, salt", ord("塩")),
        ("to lick; to taste, a mat, bamboo bark", 0),
        ("a common variant of other characters", 0),
    ],
)
def test_cross_references_are_read(definition: str, target: int) -> None:
    assert unihan.refers_to(1, definition) == target


def test_glyphs_share_one_em_box() -> None:
    """Small things stay small: a glyph is not scaled to fill its picture."""
    one, whole = (np.asarray(font.glyph(c, font.default_font(), 128)) < 128 for c in "一國")
    assert one.any(axis=1).sum() < 20
    assert whole.any(axis=1).sum() > 100
    assert len(np.unique(np.asarray(font.glyph("永", font.default_font(), 128)))) > 30  # antialiased
    with pytest.raises(ZaoziError, match=r"no glyph for U\+E000"):
        font.glyph("\ue000", font.default_font())


def test_a_build_gives_the_same_bytes_again_and_opens_as_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_glyphs(tmp_path / name, size=24, limit=60, processes=1 if name == "a" else 2)
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()
    assert data_hash(tmp_path / "a") == data_hash(tmp_path / "b")
    for file, digest in read_manifest(tmp_path / "a")["sha256"].items():
        assert hashlib.sha256((tmp_path / "b" / file).read_bytes()).hexdigest() == digest
    opened = datasets.load_dataset("parquet", data_dir=str(tmp_path / "a"), cache_dir=str(tmp_path / "cache"))
    assert sum(len(split) for split in opened.values()) == 60
    first = opened["train"][0]
    assert first["image"].size == (24, 24)
    assert isinstance(first["text"], str)
    build_glyphs(tmp_path / "a", size=24, limit=10)  # an older dataset is replaced
    assert read_manifest(tmp_path / "a")["counts"]["pairs"] == 10


def test_splits_are_a_fixed_function() -> None:
    assert [split_of(g) for g in ("U+4E00", "U+4E8C", "gold", "a small song bird")] == GOLDEN_SPLITS
    shares = np.unique([split_of(str(i)) for i in range(4000)], return_counts=True)[1] / 4000
    assert shares == pytest.approx([0.10, 0.85, 0.05], abs=0.02)


GOLDEN_SPLITS = ["train", "train", "train", "train"]


def test_training_rows_are_whole_epochs_of_one_stream() -> None:
    stream = training_rows(10, 0, 35, seed=3)
    assert sorted(stream[:10]) == sorted(stream[10:20]) == list(range(10))
    assert list(stream[:10]) != list(stream[10:20])
    assert list(training_rows(10, 7, 9, seed=3)) == list(stream[7:16])


# -- folders of one's own ------------------------------------------------------------------------------------------


def test_a_folder_with_captions_beside(tiny_data: Path) -> None:
    manifest = read_manifest(tiny_data)
    assert (manifest["counts"]["pairs"], manifest["channels"], manifest["size"]) == (24, 1, 32)
    pairs = load_pairs(tiny_data, "train")
    batch = pairs.batch([0, 1])
    assert batch.min() == -1.0
    assert batch.max() == 1.0


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_folder_with_metadata_and_properties(tmp_path: Path, kind: str) -> None:
    pictures = draw_folder(tmp_path / "p", 8, mode="RGB")
    rows = [{"file_name": f"{i:02d}.png", "text": f"shape {i}", "size": i / 2, "kind": "ab"[i % 2]} for i in range(8)]
    if kind == "jsonl":
        (pictures / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    else:
        lines = ["file_name,text,size,kind", *(f"{r['file_name']},{r['text']},{r['size']},{r['kind']}" for r in rows)]
        (pictures / "metadata.csv").write_text("\n".join(lines))
    manifest = build_folder(pictures, tmp_path / "d", Square(16), processes=1)
    assert manifest["channels"] == 3
    pairs = load_pairs(tmp_path / "d", "train")
    kinds, sizes = (
        ClassProperty("kind").filled(pairs.column("kind")),
        NumberProperty("size").filled(pairs.column("size")),
    )
    assert kinds.values == ("a", "b")
    columns = pairs.property_columns((kinds, sizes))
    assert columns["kind"].tolist() == [1 + ("ab".index(k)) for k in pairs.columns["kind"]]
    assert columns["size"].tolist() == pairs.columns["size"]


def test_lists_of_texts_stay_lists(tmp_path: Path) -> None:
    """Hints of one's own; and a line of JSON may hold line ends that are not its own."""
    pictures = draw_folder(tmp_path / "p", 8)
    rows: list[dict[str, Any]] = [{"file_name": f"{i:02d}.png", "text": f"shape\u2028{i}"} for i in range(8)]
    for row in rows[:4]:
        row["hints"] = ["a form", row["text"]]
    (pictures / "metadata.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    build_folder(pictures, tmp_path / "d", Square(16), processes=1)
    pairs = load_pairs(tmp_path / "d", "train")
    for key, hint in zip(pairs.keys, hints(pairs), strict=True):
        assert hint == rows[int(key[:2])].get("hints", [])


def break_picture(p: Path) -> None:
    (p / "03.png").write_bytes(b"not a picture")


def cut_picture(p: Path) -> None:
    whole = (p / "03.png").read_bytes()
    (p / "03.png").write_bytes(whole[: len(whole) // 2])


def empty_caption(p: Path) -> None:
    (p / "03.txt").write_text("  \n")


def no_caption(p: Path) -> None:
    (p / "03.txt").unlink()


def metadata(rows: list[dict[str, str]]) -> object:
    return lambda p: (p / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


GOOD = [{"file_name": "00.png", "text": "a"}, {"file_name": "01.png", "text": "b"}]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (break_picture, "03.png cannot be read as a picture; replace or remove it"),
        (cut_picture, "03.png cannot be read as a picture"),
        (empty_caption, "empty caption; write one"),
        (no_caption, "has no caption; write 03.txt beside it"),
        (metadata([*GOOD, {"file_name": "00.png", "text": "c"}]), "repeats '00.png'"),
        (metadata([*GOOD, {"file_name": "none.png", "text": "c"}]), "none.png is missing"),
        (metadata([*GOOD, {"text": "c"}]), "has no file_name"),
        (
            lambda p: metadata(GOOD)(p) and (p / "metadata.jsonl").open("a").write("{oops\n"),
            "metadata.jsonl:3 is not JSON",
        ),
        (lambda p: (p / "03.png").rename(p / "02.jpg"), "share the caption 02.txt"),
        (lambda p: (p / "03.txt").write_bytes("café".encode("latin-1")), "03.txt is not UTF-8 text"),
    ],
)
def test_bad_input_is_named_in_one_line_or_skipped(tmp_path: Path, spoil: object, says: str) -> None:
    pictures = draw_folder(tmp_path / "p", 6)
    spoil(pictures)  # type: ignore[operator]
    with pytest.raises(ZaoziError, match="--skip-bad") as error:
        build_folder(pictures, tmp_path / "d", Square(16), processes=1)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "d").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["p"]  # nothing half-made is left
    manifest = build_folder(pictures, tmp_path / "d", Square(16), processes=1, skip_bad=True)
    assert manifest["counts"]["skipped"] == len(manifest["skipped"]) == 1
    assert says in manifest["skipped"][0]


def test_missing_values_stay_missing(tmp_path: Path) -> None:
    """An empty cell is not a number, nor does it make text of a column; 0 and False are values like any other."""
    pictures = draw_folder(tmp_path / "p", 12)
    lines = ["file_name,text,size,label,serial"]
    lines += [f"{i:02d}.png,shape {i},{'' if i % 3 else i},{i % 2},{2**40 + i}" for i in range(12)]
    (pictures / "metadata.csv").write_text("\n".join(lines))
    build_folder(pictures, tmp_path / "d", Square(16), processes=1)
    pairs = load_pairs(tmp_path / "d", "train")
    size, label = (
        NumberProperty("size").filled(pairs.column("size")),
        ClassProperty("label").filled(pairs.column("label")),
    )
    assert label.values == ("0", "1")
    assert np.isfinite(size.mean)
    columns = pairs.property_columns((size, label))
    assert columns["size"].isnan().tolist() == [v is None for v in pairs.columns["size"]]
    assert columns["label"].min() >= 1
    pairs.columns["parts"] = [["a"], ["b", "c"]] * 6
    with pytest.raises(ZaoziError, match="'parts' holds lists or mixes types"):
        ClassProperty("parts").filled(pairs.column("parts"))
    assert min(pairs.columns["serial"]) >= 2**40


def test_sixteen_bit_pictures_keep_their_greys() -> None:
    ramp = Image.fromarray(np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8))
    for mode in ("L", "RGB"):
        values = np.asarray(fitted(ramp, 8, mode)).reshape(64, -1)[:, 0]
        assert values[0] < 10
        assert values[-1] > 245
        assert 118 < values[32] < 138


def test_fractions_are_shares_of_white() -> None:
    ramp = Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    assert np.asarray(fitted(ramp, 8, "L")).flatten().tolist() == [
        int(255 * v) for v in np.linspace(0, 1, 64, dtype=np.float32)
    ]


def test_other_peoples_folders_are_never_replaced(tmp_path: Path) -> None:
    """A manifest.json alone does not make a folder ours."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text("{}")
    (tmp_path / "web" / "index.html").touch()
    with pytest.raises(ZaoziError, match=r"holds index\.html, which zaozi did not write"):
        build_glyphs(tmp_path / "web", size=16, limit=4)
    assert (tmp_path / "web" / "index.html").exists()


def test_empty_folders_and_foreign_targets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZaoziError, match="no pictures with captions"):
        build_folder(tmp_path / "empty", tmp_path / "d")
    with pytest.raises(ZaoziError, match="not a folder"):
        build_folder(tmp_path / "none", tmp_path / "d")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(ZaoziError, match=r"holds thesis\.tex, which zaozi did not write"):
        build_folder(draw_folder(tmp_path / "p", 4), tmp_path / "full", Square(16), processes=1)
    assert (tmp_path / "full" / "thesis.tex").exists()


def test_a_font_without_the_characters_is_refused(tmp_path: Path) -> None:
    import matplotlib

    latin = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "cmex10.ttf"
    with pytest.raises(ZaoziError, match="has none of the characters"):
        build_glyphs(tmp_path / "d", font_path=latin)
    (tmp_path / "bad.ttf").write_text("no font")
    with pytest.raises(ZaoziError, match="cannot read the font"):
        build_glyphs(tmp_path / "d", font_path=tmp_path / "bad.ttf")


def test_pictures_are_fitted() -> None:
    wide = Image.new("RGB", (40, 20), "white")
    wide.paste("black", (10, 0, 30, 20))
    assert np.asarray(fitted(wide, 10, "L")).max() < 20  # the middle, up to ringing
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert np.asarray(fitted(clear, 8, "L")).min() == 255  # transparency is paper


def test_damaged_datasets_are_named(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ZaoziError, match="is not a dataset"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ZaoziError, match="is damaged"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text((tiny_data / "manifest.json").read_text())
    with pytest.raises(ZaoziError, match="is missing; build the dataset again"):
        read_manifest(tmp_path)


def test_balanced_rows_come_as_often_as_their_weight() -> None:
    values = ["common"] * 90 + ["rare"] * 10
    weights = balance_weights(values, 0.5)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[-1] / weights[0] == pytest.approx(3.0)
    assert np.allclose(balance_weights(values, 0.0), 1.0)
    rows = training_rows(100, 0, 100 * 300, 5, weights)
    assert np.allclose(np.bincount(rows, minlength=100) / 300, weights, atol=0.1)
    one = np.bincount(training_rows(100, 700, 100, 5, weights), minlength=100)
    assert ((one == np.floor(weights)) | (one == np.ceil(weights))).all()
    assert (training_rows(100, 37, 200, 5, weights) == rows[37:237]).all(), "a function of its arguments alone"
    assert len(set(training_rows(100, 0, 100, 5).tolist())) == 100
