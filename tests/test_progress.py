"""What a person at a terminal sees: progress bars there and nowhere else, and the commands to try first."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from zaozi.cli.main import COMMANDS, FIRST, first_commands, run
from zaozi.core.progress import progress

SOURCE = Path(__file__).parents[1] / "src" / "zaozi"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(monkeypatch: pytest.MonkeyPatch, file: io.StringIO, *, shown: bool = True) -> str:
    monkeypatch.setattr("sys.stderr", file)
    for _ in progress(range(3), mininterval=0, shown=shown):
        pass
    return file.getvalue()


def test_a_bar_is_shown_on_a_terminal_alone_and_then_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zaozi.core.progress.DELAY", 0)
    assert written(monkeypatch, io.StringIO()) == ""
    assert written(monkeypatch, Terminal(), shown=False) == ""
    shown = written(monkeypatch, Terminal())
    assert "3/3" in shown
    assert "it/s" in shown
    assert shown.rsplit("\r", 2)[1].strip() == ""  # the last thing it writes wipes the line


def test_what_is_over_at_once_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, Terminal()) == ""


def test_every_bar_is_made_in_one_place() -> None:
    makers = [p.name for p in SOURCE.rglob("*.py") if re.search(r"\btqdm\(|import tqdm", p.read_text(encoding="utf-8"))]
    assert makers == ["progress.py"]


def test_the_bare_command_names_three_to_try_first(capsys: pytest.CaptureFixture[str]) -> None:
    run([])
    said = capsys.readouterr().out
    assert first_commands() in said
    assert said.index("worth trying") < said.index("commands:")
    assert len(FIRST) == 3
    for command, _ in FIRST:
        words = shlex.split(command)
        assert " ".join(words[:2]) in COMMANDS or words[0] in COMMANDS
    assert "\n  .venv/bin/zaozi guide serve" in first_commands(".venv/bin/zaozi")
