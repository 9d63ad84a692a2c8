"""What a command says when the machine fails it: one line, exit code 2, and no report asked for."""

from __future__ import annotations

import errno
import json
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from zaozi.cli import main as cli
from zaozi.cli.main import main
from zaozi.core.recipe import Recipe


def wrapped(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def encoding_error(text: str, encoding: str) -> UnicodeError:
    try:
        text.encode(encoding)
    except UnicodeError as error:
        return error
    raise AssertionError


def decoding_error() -> UnicodeError:
    try:
        b"caf\xe9".decode()
    except UnicodeError as error:
        return error
    raise AssertionError


def killed_worker() -> BrokenProcessPool:
    with ProcessPoolExecutor(1) as pool:
        error = pool.submit(os._exit, 1).exception()
    assert isinstance(error, BrokenProcessPool)
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), "the disk is full (runs/x); make room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up; make room"),
        (OSError(errno.EFBIG, "File too large"), "larger than allowed here (ulimit -f"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full; make room"),
        (SafetensorError("I/O error: File too large (os error 27)"), "larger than allowed here"),
        (wrapped(RuntimeError("writing failed"), OSError(errno.ENOSPC, "full")), "the disk is full"),
        (SafetensorError("Error while deserializing header"), "a .safetensors file cannot be read or written"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory; use a smaller batch"),
        (MemoryError(), "out of memory; use a smaller batch"),
        (np._core._exceptions._ArrayMemoryError((2**40,), np.dtype(float)), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 TB"), "out of memory"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "cannot use /x: Permission denied; check the path"),
        (encoding_error("caf\udce9", "utf-8"), r"'caf\udce9' is not UTF-8"),
        (encoding_error("造字", "ascii"), r"'\u9020\u5b57' cannot be shown or written in ascii"),
        (decoding_error(), "a text file is not UTF-8"),
        (killed_worker(), "a worker process was killed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_machine_or_the_user_did_is_no_bug(
    error: Exception, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "run", fail)
    monkeypatch.delenv("ZAOZI_DEBUG", raising=False)
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert says in said
    assert "report" not in said


def test_arguments_that_are_not_utf8_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["generate", "caf\udce9"], ["\ud83d"], ["generate", "x", "--out", "caf\udce9"]):
        assert main(args) == 2
        assert "is not UTF-8" in (said := capsys.readouterr().err)
        assert said.count("\n") == 1
    assert main(["造字"]) == 2
    assert "unknown command '造字'" in capsys.readouterr().err


def test_a_bug_asks_for_a_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "run", lambda _: {}["nothing"])
    monkeypatch.delenv("ZAOZI_DEBUG", raising=False)
    assert main([]) == 2
    assert "KeyError: 'nothing'; set ZAOZI_DEBUG=1 to see where, and please report it" in capsys.readouterr().err
    monkeypatch.setenv("ZAOZI_DEBUG", "1")
    with pytest.raises(KeyError):
        main([])


def recipe_file(folder: Path, recipe: Recipe) -> Path:
    n, t = recipe.network, recipe.train
    (folder / "recipe.toml").write_text(
        f"[data]\npath = {json.dumps(recipe.data.path)}\n"
        f"[network]\nwidth = {n.width}\ndepth = {n.depth}\nhead_width = {n.head_width}\npatch = {n.patch}\n"
        f"[train]\nsteps = 1\nbatch_size = 8\nself_check = false\nsample_every = 0\nout = {json.dumps(t.out)}\n"
    )
    return folder / "recipe.toml"


def test_a_checkpoint_for_which_there_is_no_room(
    tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, before = str(recipe_file(tmp_path, tiny_recipe)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        assert main(["train", file]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "zaozi: a file would be larger than allowed here" in capsys.readouterr().err
    assert not [*Path(tiny_recipe.train.out).glob("step-*")], "no half checkpoint"
    assert main(["train", file]) == 0, "with room again it trains"


@pytest.mark.parametrize("line", ['{"epoch": 1}', "[1]", '"step"', '{"step": "x"}', '{"a": }', '{"step": 1e999}'])
def test_a_foreign_log_is_named_and_left_alone(
    tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    log = Path(tiny_recipe.train.out) / "log.jsonl"
    log.parent.mkdir()
    log.write_text(f"{line}\n{line + '}'}\n")
    kept = log.read_text()
    assert main(["train", str(recipe_file(tmp_path, tiny_recipe))]) == 2
    assert "holds log.jsonl, which zaozi did not write" in (said := capsys.readouterr().err)
    assert "report" not in said
    assert log.read_text() == kept
