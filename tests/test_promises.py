"""What docs/promises.md promises: every promise names its tests, and no command that writes touches a foreign file."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from zaozi.cli.main import COMMANDS, main

ROOT = Path(__file__).parent.parent
READERS = {
    "cache list",
    "cache verify",
    "cache prune",
    "guide serve",
    "model info",
    "model error",
    "push",
    "likelihood",
}
"""Commands without an output folder; what `push` replaces on the hub is tried in test_hub.py."""
WRITERS = {  # command -> its words, and a file that it would write; {m} is a model, {d} a dataset, {r} a run, {p} pictures
    "generate": ("gold --model {m} --count 1 --steps 2 --out o", "o/000-gold/0.png"),
    "invert": ("明 --model {m} --out o/inverted.png", "o/inverted.png"),
    "font": ("f.ttf --prompt gold --model {m}", "f.tsv"),
    "train": ("test --data.path {d} --steps 1 --out o", "o/log.jsonl"),
    "distill": ("{m} --steps 1 --data {d} --out o", "o/1-steps/log.jsonl"),
    "data build": ("--images {p} --size 16 --out o", "o/index.html"),
    "space fit": ("test --data.path {d} --out o", "o/space.json"),
    "data show": ("{d} --out o/d.png", "o/d.png"),
    "evaluate": ("{m} --out o", "o/report.json"),
    "evaluate sweep": ("{m} --out o", "o/sweep.md"),
    "evaluate control": ("{m} --out o", "o/control.md"),
    "evaluate train-reference": ("--out o", "o/thesis.tex"),
    "evaluate train-clip": ("--reference o", "o/towers.json"),
    "compare": ("{m} --out o", "o/compare.png"),
    "speedrun": ("speedrun --out o", "o/anything"),
    "import": ("diffusers:{d} --out o", "o/config.json"),
    "export": ("{m} --out o", "o/model.json"),
    "export --to diffusers": ("{m} --out o", "o/model_index.json"),
    "guide figures": ("o --only 1 --model {m}", "o/01-gaussian.png"),
    "guide before": ("vae --steps 1 --out o", "o/before.json"),
    "guide build": ("o --model {m} --no-figures", "o/index.html"),
    "model release": ("{r} o", "o/config.json"),
    "model assemble": ("{m} o", "o/config.json"),
}


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promises")
    small = (
        "[network]\nwidth = 32\ndepth = 1\nhead_width = 16\n[train]\nsteps = 1\nbatch_size = 4\nself_check = false\n"
    )
    (folder / "r.toml").write_text(small + "sample_every = 0\nvalidate_every = 0\n")
    assert main(["train", str(folder / "r.toml"), "--data.path", str(tiny_data), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_every_command_that_writes_is_tried() -> None:
    commands = {words.partition(" --")[0] for words in WRITERS}
    assert commands | READERS == COMMANDS.keys() - {"evaluate publish"}  # which edits what it is given


@pytest.mark.parametrize("command", WRITERS)
def test_no_command_touches_a_foreign_file(
    command: str,
    glyph_model: str,
    tiny_data: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before any work the command names the first foreign file and the flag; nothing changes."""
    monkeypatch.chdir(tmp_path)
    words, place = WRITERS[command]
    (tmp_path / "o").mkdir()
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).write_text("mine")
    known = {"m": glyph_model, "d": tiny_data, "r": run, "p": tiny_data.parent / "pictures"}
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main([*command.split(), *words.format(**known).split()]) == 2
    said = capsys.readouterr().err
    assert ("which zaozi did not write" in said and "--overwrite" in said) or "give a new --out" in said, said
    assert said.count("\n") == 1
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_every_promise_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^def (test_\w+)", "\n".join(p.read_text() for p in (ROOT / "tests").glob("*.py")), re.M))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named <= known, named - known
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 30
    assert all("`test_" in row for row in rows), [row for row in rows if "`test_" not in row]


def test_random_damage_to_any_kind_of_file_is_never_silent(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("corrupt", ROOT / "tools" / "corrupt.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setenv("ZAOZI_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["corrupt", "--count", "30", "--no-export"])
    assert tool.main() == 0, capfd.readouterr().out
