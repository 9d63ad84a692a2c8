"""Files that zaozi writes: foreign bytes stay, halves are never seen, links and locks hold."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zaozi.core.caches import cached, discard
from zaozi.core.disk import allocate, need_space
from zaozi.core.errors import ZaoziError
from zaozi.core.journal import settle, verified
from zaozi.core.locks import locked
from zaozi.core.outputs import Output, edit, file_output
from zaozi.core.record import JOURNAL, PARTIAL, RECORD, Damaged, read_record


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but zaozi's own records."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and RECORD not in p.name and PARTIAL not in p.parts
    }


def fill(output: Output, files: dict[str, str]) -> None:
    with output.write() as work:
        for name, text in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text)


def test_a_folder_is_written_whole_and_replaced_by_its_own_kind(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    fill(Output(out, "dataset"), {"x": "1", "sub/y": "2"})
    assert tree(out) == {"x": b"1", "sub/y": b"2"}
    fill(Output(out, "dataset"), {"x": "3"})
    assert tree(out) == {"x": b"3"}
    assert not (out / "sub").exists()
    with pytest.raises(ZaoziError, match="another command wrote"):
        Output(out, "model").check()
    assert [e.kind for e in verified(out).values()] == ["dataset"]


def test_a_block_that_fails_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    def half(output: Output) -> None:
        with output.write() as work:
            (work / "x").write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        half(Output(tmp_path / "new" / "er", "dataset"))
    assert not list(tmp_path.iterdir())
    fill(Output(tmp_path / "d", "dataset"), {"x": "1"})
    with pytest.raises(ValueError, match="stop"):
        half(Output(tmp_path / "d", "dataset"))
    assert tree(tmp_path / "d") == {"x": b"1"}
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [RECORD, "x"]


names = st.sampled_from(["x", "y", "index.html", "sub/x", "sub/deep/y", "model.safetensors", "run.json"])
contents = st.dictionaries(names, st.text("abc", max_size=3), max_size=4)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(ours=contents, foreign=contents, edited=st.sets(names), then=contents, whole=st.booleans())
def test_no_foreign_byte_is_ever_touched(
    tmp_path_factory: pytest.TempPathFactory,
    ours: dict[str, str],
    foreign: dict[str, str],
    edited: set[str],
    then: dict[str, str],
    whole: bool,
) -> None:
    """Whatever lies in a folder: what zaozi did not write, or what was changed since, is there afterwards, byte by byte."""
    out = tmp_path_factory.mktemp("out") / "o"

    def output(files: dict[str, str]) -> Output:
        return Output(out, "dataset", ("*",) if whole else tuple(files), whole=whole)

    if ours:
        fill(output(ours), ours)
    strange: dict[str, str] = {}
    for name, text in foreign.items():
        path = out / name
        if name not in ours and not any(p.is_file() for p in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            strange[name] = text
    for name in edited & ours.keys():
        (out / name).write_text("edited by hand")
        strange[name] = "edited by hand"
    said = ""
    try:
        fill(output(then), then)
    except ZaoziError as error:
        said = str(error)
    refused = bool(said)
    assert "\n" not in said
    for name, text in strange.items():
        assert (out / name).read_text() == text
    if not strange:
        assert not refused
        assert tree(out) == {k: v.encode() for k, v in then.items()}
    elif whole:
        assert refused
    assert not (out / PARTIAL).exists()


def test_only_what_was_checked_is_written(tmp_path: Path) -> None:
    output = Output(tmp_path, "pictures", ("0.png", "*.json"), whole=False)
    with pytest.raises(RuntimeError, match=r"1\.png is not one of the files that were checked"):
        fill(output, {"0.png": "", "1.png": ""})
    with output.open() as writer:
        with pytest.raises(RuntimeError, match="not one of the files"):
            writer.put("1.png", "")
        with pytest.raises(RuntimeError, match="not one of the files"):
            writer.grow("1.png")
        writer.put("a.json", "{}")
    assert tree(tmp_path) == {"a.json": b"{}"}


def test_only_the_users_word_replaces_a_foreign_file_and_only_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ZaoziError, match=r"holds notes, which zaozi did not write.*--overwrite"):
        Output(tmp_path, "dataset").check()
    fill(Output(tmp_path, "dataset", overwrite=True), {"x": "new"})
    assert tree(tmp_path) == {"x": b"new", "notes": b"mine"}


def test_an_input_is_never_an_output(tmp_path: Path) -> None:
    source = tmp_path / "words.tsv"
    source.write_text("gold")
    os.link(source, tmp_path / "twin.tsv")
    for name in ("words.tsv", "twin.tsv"):
        with pytest.raises(ZaoziError, match="input of this command"):
            file_output(tmp_path / name, "font", inputs=[source], overwrite=True).check()
    with pytest.raises(ZaoziError, match="input of this command"):
        Output(tmp_path, "dataset", inputs=(tmp_path,), overwrite=True).check()
    fill(Output(tmp_path / "o", "pictures", ("0.png",), whole=False), {"0.png": "old"})
    with pytest.raises(ZaoziError, match="input of this command"):
        Output(tmp_path / "o", "pictures", ("1.png",), whole=False, inputs=(tmp_path / "o" / "0.png",)).check()


def test_links_are_followed_and_stay_links(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    fill(Output(tmp_path / "out", "dataset"), {"x": "1"})
    (tmp_path / "elsewhere").write_text("1")
    (tmp_path / "disk" / "x").unlink()
    (tmp_path / "disk" / "x").symlink_to(tmp_path / "elsewhere")
    fill(Output(tmp_path / "out", "dataset"), {"x": "2"})
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "x").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "2"
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "disk" / "y").symlink_to(tmp_path / "precious")
    with pytest.raises(ZaoziError, match="holds y, which zaozi did not write"):
        fill(Output(tmp_path / "out", "dataset"), {"y": "3"})
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_folder_or_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "sheet.png").mkdir()
    with pytest.raises(ZaoziError, match="is a file; give a folder"):
        Output(tmp_path / "file", "dataset").check()
    with pytest.raises(ZaoziError, match="is a file where a folder is to be"):
        Output(tmp_path, "pictures", ("file/0.png",), whole=False, overwrite=True).check()
    with pytest.raises(ZaoziError, match="is a folder where a file is to be written"):
        Output(tmp_path, "pictures", ("sheet.png",), whole=False, overwrite=True).check()
    with pytest.raises(ZaoziError, match="cannot be written to"):
        Output(tmp_path / "file" / "below", "dataset").check()


def test_files_put_one_by_one_stay_when_the_command_fails(tmp_path: Path) -> None:
    output = Output(tmp_path / "o", "pictures", ("0.png", "1.png", "*.jsonl"), whole=False)

    def stopped() -> None:
        with output.open() as writer:
            writer.put("0.png", b"0")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert tree(tmp_path / "o") == {"0.png": b"0"}
    assert list(verified(tmp_path / "o")) == ["0.png"]
    with output.open() as writer:
        writer.put("1.png", "1")
        with writer.grow("log.jsonl") as log:
            log.write("a line\n")
    assert tree(tmp_path / "o") == {"1.png": b"1", "log.jsonl": b"a line\n"}
    assert not (tmp_path / "o" / PARTIAL).exists()


KILLED = """
import os, sys, random
from pathlib import Path
from zaozi.core import caches, outputs
at = int(sys.argv[2])
calls = 0
def count(real):
    def wrapped(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), 9)
        return real(*args, **kwargs)
    return wrapped
for name in ("replace", "fsync", "rename", "unlink"):
    setattr(os, name, count(getattr(os, name)))
outputs.os.replace = os.replace
folder = Path(sys.argv[1])
if sys.argv[3] == "whole":
    with outputs.Output(folder, "dataset").write() as work:
        for i in range(3):
            (work / f"{i}").write_text(f"new {i}")
elif sys.argv[3] == "discard":
    caches.discard(folder, "dataset")
else:
    with outputs.Output(folder, "dataset", tuple("0123"), whole=False).open() as writer:
        for i in range(4):
            writer.put(f"{i}", f"new {i}")
print("done")
"""


def killed(folder: Path, at: int, way: str) -> bool:
    """Run the writer above and kill it at its `at`-th system call of those that matter; True where it came to its end."""
    found = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(at), way], capture_output=True, text=True, check=False
    )
    assert found.returncode in (0, -signal.SIGKILL), found.stderr
    return found.returncode == 0


@pytest.mark.parametrize("first", [1, 2])  # every other call each, so that the two share the work
def test_killed_at_any_call_a_folder_is_old_or_new(tmp_path: Path, first: int) -> None:
    old, new = {"1": b"old 1", "9": b"old 9"}, {f"{i}": f"new {i}".encode() for i in range(3)}
    seen = []
    for at in range(first, 60, 2):
        folder = tmp_path / f"{at}"
        fill(Output(folder, "dataset"), {k: v.decode() for k, v in old.items()})
        ended = killed(folder, at, "whole")
        verified(folder)
        seen.append(tree(folder))
        assert seen[-1] in (old, new)
        fill(Output(folder, "dataset"), {"z": "later"})  # the next command runs, and nothing is left over
        assert sorted(p.name for p in folder.iterdir()) == [RECORD, "z"]
        if ended:
            break
    assert ended
    assert old in seen
    assert seen[-1] == new


def test_killed_at_any_call_a_removal_is_whole_or_not_begun(tmp_path: Path) -> None:
    files = {f"{i}": f"old {i}".encode() for i in range(4)}
    seen = []
    for at in range(1, 40):
        folder = tmp_path / f"{at}"
        fill(Output(folder, "dataset"), {k: v.decode() for k, v in files.items()})
        ended = killed(folder, at, "discard")
        settle(folder)
        seen.append(tree(folder) if folder.exists() else {})
        assert seen[-1] in (files, {})
        assert len(verified(folder)) == len(seen[-1])
        if ended:
            break
    assert ended
    assert files in seen
    assert seen[-1] == {}


def test_killed_at_any_call_pictures_are_whole_or_absent_and_remain_ours(tmp_path: Path) -> None:
    for at in range(1, 60, 3):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        (folder / "mine").write_text("mine")
        ended = killed(folder, at, "open")
        left = tree(folder)
        assert left.pop("mine") == b"mine"
        assert all(value == f"new {name}".encode() for name, value in left.items())
        settle(folder)
        with Output(folder, "dataset", tuple("0123"), whole=False).open() as writer:  # nothing of ours is refused
            writer.put("3", "again")
        assert tree(folder) == {"mine": b"mine", "3": b"again"}
        if ended:
            break
    assert ended


def test_a_journal_of_a_stranger_does_not_reach_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    folder = tmp_path / "downloaded"
    files = folder / PARTIAL / "files"
    files.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "precious")
    (folder / "up").symlink_to(tmp_path)
    for name, place in (("link", files / "link"), ("up/precious", files / "up" / "precious")):
        place.parent.mkdir(exist_ok=True)
        place.write_text("evil")
        entry = {"put": name, "kind": "x", "bytes": 4, "sha256": "4f0ba2cc6c1b2e4b5c0e0b6c5a0a44b5"}
        entry["sha256"] = __import__("hashlib").sha256(b"evil").hexdigest()
        with (folder / PARTIAL / JOURNAL).open("a") as journal:
            journal.write(json.dumps(entry) + "\n")
    settle(folder)
    assert (tmp_path / "precious").read_text() == "mine"
    for bad in ("../precious", "/etc/passwd", "a/../../precious", RECORD, ""):
        (folder / RECORD).write_text(json.dumps({"format": 1, "files": {bad: {"kind": "x", "bytes": 1, "sha256": ""}}}))
        with pytest.raises(Damaged):
            read_record(folder)


def test_damage_of_any_kind_is_found(tmp_path: Path) -> None:
    for damage in ("cut", "flip", "missing", "swapped", "record"):
        folder = tmp_path / damage
        fill(Output(folder, "dataset"), {"x": "first", "y": "other"})
        match damage:
            case "cut":
                (folder / "x").write_text("firs")
            case "flip":
                (folder / "x").write_text("girst")
            case "missing":
                (folder / "x").unlink()
            case "swapped":
                (folder / "x").rename(folder / "z")
                (folder / "y").rename(folder / "x")
                (folder / "z").rename(folder / "y")
            case "record":
                (folder / RECORD).write_text("{")
        with pytest.raises(Damaged, match=str(folder)):
            verified(folder)


def test_a_cache_heals_and_is_made_once(tmp_path: Path) -> None:
    made = []

    def make(work: Path) -> None:
        made.append(1)
        (work / "x").write_text("1")

    folder = cached(tmp_path / "c", "cache", make)
    cached(tmp_path / "c", "cache", make)
    assert len(made) == 1
    (folder / "x").write_text("2")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cached(folder, "cache", make)
    assert "made again" in str(said[0].message)
    assert (folder / "x").read_text() == "1"
    (folder / RECORD).unlink()  # as an older version left it
    cached(folder, "cache", make)
    assert verified(folder)


def _hold(folder: Path, ready: object, end: object) -> None:
    with locked(folder):
        ready.set()  # type: ignore[attr-defined]
        end.wait(60)  # type: ignore[attr-defined]


def test_a_second_process_is_told_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, end))
    other.start()
    assert ready.wait(60)
    with pytest.raises(ZaoziError, match="another zaozi process is writing"):
        fill(Output(tmp_path, "dataset"), {"x": "1"})
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join(60)
    fill(Output(tmp_path, "dataset"), {"x": "1"})
    assert tree(tmp_path) == {"x": b"1"}


def _write_slowly(folder: Path, ready: object, end: object) -> None:
    def make(work: Path) -> None:
        ready.set()  # type: ignore[attr-defined]
        end.wait(60)  # type: ignore[attr-defined]
        (work / "x").write_text("theirs")

    cached(folder, "cache", make)


def test_a_second_process_waits_for_the_same_part_of_the_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    other = context.Process(target=_write_slowly, args=(tmp_path / "c", ready, end))
    other.start()
    assert ready.wait(60)
    threading.Timer(0.3, end.set).start()
    with pytest.warns(UserWarning, match="waiting for another zaozi process"):
        cached(tmp_path / "c", "cache", lambda _: pytest.fail("made twice"))
    assert (tmp_path / "c" / "x").read_text() == "theirs"
    other.join(60)


@pytest.mark.parametrize("name", ["a[1].png", "a*.png", "a?.png"])
def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ZaoziError, match="which zaozi did not write"):
        file_output(tmp_path / name, "film").check()
    (tmp_path / name).unlink()
    for text in ("1", "2"):
        fill(file_output(tmp_path / name, "film"), {name: text})
    assert tree(tmp_path) == {name: b"2"}


WORKING = """
import sys, time
from functools import partial
from pathlib import Path
from zaozi.core.outputs import Output
from zaozi.core.workers import in_processes
from zaozi.cli import main
def work(item):
    time.sleep(0.05)
    return item
def run(_):
    with Output(Path(sys.argv[1]), "dataset").write() as folder:
        for item in in_processes(work, range(10_000), 2, 1):
            (folder / str(item)).write_text("x")
            if item == 3:
                print("working", flush=True)
main.run = run
raise SystemExit(main.main())
"""


def working(folder: Path) -> subprocess.Popen[str]:
    """A command that writes a folder with two workers, in a process group of its own, once it is at work."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKING, str(folder)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def all_gone(group: int) -> bool:
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_workers_end_with_a_killed_command(tmp_path: Path) -> None:
    process = working(tmp_path / "o")
    process.kill()
    process.communicate()
    assert all_gone(process.pid)
    fill(Output(tmp_path / "o", "dataset"), {"x": "1"})
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [RECORD, "x"]


def test_asked_to_end_a_command_leaves_nothing_behind(tmp_path: Path) -> None:
    process = working(tmp_path / "a" / "o")
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert all_gone(process.pid)
    assert not list(tmp_path.iterdir())


def test_discard_leaves_what_others_put_there(tmp_path: Path) -> None:
    fill(Output(tmp_path / "step", "checkpoint"), {"x": "1", "y": "2"})
    (tmp_path / "step" / "y").write_text("changed")
    (tmp_path / "step" / "notes").write_text("mine")
    discard(tmp_path / "step", "checkpoint")
    assert tree(tmp_path / "step") == {"y": b"changed", "notes": b"mine"}
    fill(Output(tmp_path / "other", "checkpoint"), {"x": "1"})
    discard(tmp_path / "other", "checkpoint")
    assert not (tmp_path / "other").exists()


def test_space_is_asked_for_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ZaoziError, match="MB left"):
        need_space(tmp_path / "not" / "there", 10**18)
    allocate(tmp_path / "x", 4096)
    assert (tmp_path / "x").stat().st_blocks * 512 >= 4096


def test_edit_follows_a_link_and_keeps_rights(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("old")
    (tmp_path / "README").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "README")
    edit(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "README").read_text() == "new"
    assert (tmp_path / "README").stat().st_mode & 0o777 == 0o640
