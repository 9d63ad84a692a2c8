"""The commands of the documentation run, and the pictures it shows are there."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from zaozi.cli.main import COMMANDS, main
from zaozi.core.components import samplers
from zaozi.core.noise import lent_generator

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from draw_doc import commands, drawn
from numbers_of_docs import filled
from release_base import assembling, installing
from run_page import run

ROOT = Path(__file__).parents[1]
SAMPLING = ROOT / "docs" / "sampling.md"
QUICK = {
    "generate": ["--steps", "2", "--count", "2"],
    "invert": ["--steps", "12"],
    "font": ["--steps", "2"],
}


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name)
def test_pictures_and_files_that_pages_name_are_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_the_guide_has_every_section_and_figure_of_its_table() -> None:
    page = (ROOT / "web" / "index.html").read_text(encoding="utf-8")
    parts = re.split(r'<h[23] id="([\w-]+)"', page)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    text = (ROOT / "docs" / "guide-coverage.md").read_text(encoding="utf-8")
    seen = set[str]()
    for section, shown in re.findall(r"^\|.*\| `#([\w-]+)` \| (.*)\|$", text, re.MULTILINE):
        seen.add(section)
        for name in re.findall(r"`([\w-]+)`", shown):
            assert f'"figures/{name}.' in sections[section] or f'data-live="{name}"' in sections[section], name
    assert seen == sections.keys() - {"try", "what", "how", "text", "useful", "summary"}
    figures, questions = (set(re.findall(pattern, text)) for pattern in (r"`((?:\d\d-)[\w-]+)`", r"\(`#([\w-]+)`\)"))
    assert set(re.findall(r'<img [^>]*"figures/([\w-]+)\.', page)) <= figures
    assert questions <= seen
    assert len(questions) == 10


@pytest.mark.parametrize("picture", list(commands(SAMPLING)))
def test_the_command_under_a_picture_draws_it(
    picture: str, glyph_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = commands(SAMPLING)[picture]
    Path("docs").mkdir()
    shutil.copy(ROOT / "docs" / "meanings.txt", "docs")
    if "--weak" in arguments:
        arguments[arguments.index("--weak") + 1] = glyph_model
    assert main([*arguments, "--model", glyph_model, *QUICK[arguments[0]]]) == 0
    assert drawn(arguments).is_file()


@pytest.mark.skipif(not (ROOT / "src" / "zaozi" / "weights" / "base").is_dir(), reason="no shipped model")
def test_the_page_on_diffusers_runs_from_top_to_bottom_and_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    page = ROOT / "docs" / "diffusers.md"
    with lent_generator(0):  # diffusers initialises networks before it reads their weights
        text, pictures = run(page, tmp_path)
    assert page.read_text(encoding="utf-8") == text, "run: python tools/run_page.py docs/diffusers.md"
    assert pictures.keys() == {"pictures/diffusers/exported.png"}


@pytest.mark.skipif(not (ROOT / "src" / "zaozi" / "weights" / "base").is_dir(), reason="no shipped model")
def test_the_notebook_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(samplers, "_known", dict(samplers))
    cells = json.loads((ROOT / "docs" / "guide.ipynb").read_text(encoding="utf-8"))["cells"]
    space: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"guide.ipynb {cell['id']}", "exec"), space)
    assert callable(space["restart"])


def test_the_defaults_of_drawing_stand_once() -> None:
    second = re.compile(r'\b(steps: int = 20|(guidance|scale)\w*: float = 5|sampler: str = "|batch_size: int = 16)\b')
    sources = Path(__file__).parents[1] / "src" / "zaozi"
    found = {file.name: second.findall(file.read_text(encoding="utf-8")) for file in sources.rglob("*.py")}
    assert {name for name, some in found.items() if some} == {"sampling.py"}, "use Sampling.steps and so on"


def test_the_tables_are_those_of_the_reports() -> None:
    """`make numbers` changes nothing."""
    for page, text in filled().items():
        assert page.read_text(encoding="utf-8") == text, f"{page.name} is out of date; run: make numbers"


@pytest.mark.parametrize("page", ["README.md", "docs/sampling.md"])
def test_the_text_states_no_measured_share_by_hand(page: str) -> None:
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    by_hand = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", text, flags=re.DOTALL)
    assert re.findall(r"\d%", by_hand) == []


def test_the_release_of_new_weights_runs_commands_that_there_are() -> None:
    plan = {**assembling("base"), **installing()}
    assert list(plan)[:2] == ["assemble", "evaluate"], "a released model is not released again"
    text = "\n".join(plan.values())
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"make ([\w-]+)", text)) <= set(targets)
    assert all((ROOT / file).is_file() for file in re.findall(r"(?:tools|tests)/\w+\.py", text))
    for words in re.findall(r"-m zaozi (\w+) (\w+)", text):
        assert words[0] in COMMANDS or " ".join(words) in COMMANDS
