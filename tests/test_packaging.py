"""What is shipped: the wheel, its recipes and licences, what it needs, and what is said where something is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from zaozi.cli.extras import COMMANDS, INCLUDES, PACKAGES, brings, missing
from zaozi.cli.main import COMMANDS as KNOWN_COMMANDS
from zaozi.cli.main import main
from zaozi.core.errors import ZaoziError
from zaozi.core.files import sha256
from zaozi.text.minilm import MINILM_SHA256
from zaozi.train.recipes import find_recipe, packaged_recipes, read_recipe

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RECIPES = {path.stem: path for path in (ROOT / "recipes").glob("*.toml")}
STRAY = (
    "src/zaozi/weights/.base-partial-x1/model.safetensors",
    "src/zaozi/weights/base/config.json.partial",
    "src/zaozi/core/__pycache__/types.cpython-311.pyc",
    "src/zaozi/.mypy_cache/3.11/cache.json",
    "src/zaozi/.DS_Store",
    "recipes/.test.toml.swp",
)
"""What editors, caches and interrupted commands leave in the source folders."""
VULNERABLE = {
    "accelerate": "1.14.0",
    "av": "17.0.1",
    "diffusers": "0.37.1",
    "fonttools": "4.60.1",
    "h11": "0.15.0",
    "jinja2": "3.1.5",
    "onnx": "1.20.1",
    "pillow": "12.2.0",
    "protobuf": "6.33.4",
    "pyarrow": "23.0.0",
    "pytest": "9.0.2",
    "starlette": "1.3.0",
    "torch": "2.12.0",
    "tqdm": "4.66.2",
    "transformers": "5.9.0",
    "uvicorn": "0.11.6",
    "werkzeug": "3.1.5",
}
"""The last release of each package with a vulnerability that pyproject.toml names."""


def of_extra(extra: str) -> list[Requirement]:
    return [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]


def every_requirement() -> list[Requirement]:
    extras = [requirement for extra in PROJECT["optional-dependencies"] for requirement in of_extra(extra)]
    return [r for r in [*map(Requirement, PROJECT["dependencies"]), *extras] if r.name != "zaozi"]


def pins(path: Path) -> dict[str, set[str]]:
    """The versions that a file of pins gives each package (more than one where they differ by Python version)."""
    made: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            requirement = Requirement(line.removesuffix("\\"))
            (only,) = requirement.specifier
            assert only.operator == "==", line
            made.setdefault(canonicalize_name(requirement.name), set()).add(only.version)
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source, with files lying about that are not to be shipped."""
    pytest.importorskip("hatchling", reason="hatchling is missing; run: pip install 'zaozi[dev]'")
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    for name in ("src", "recipes"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in STRAY:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"stray")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (made,) = (copy / "dist").glob("*.whl")
    return made


def test_the_wheel_holds_the_source_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {i.filename: archive.read(i) for i in archive.infolist() if ".dist-info/" not in i.filename}
        beside = {i.filename.partition(".dist-info/")[2]: archive.read(i) for i in archive.infolist()}
    recipes = (ROOT / "recipes").rglob("*.toml")
    source = {f"zaozi/{path.relative_to(ROOT).as_posix()}": path for path in recipes}
    for path in (ROOT / "src" / "zaozi").rglob("*"):
        inner = path.relative_to(ROOT / "src")
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in inner.parts):
            source[inner.as_posix()] = path
    assert held.keys() == source.keys()
    assert all(held[name] == path.read_bytes() for name, path in source.items())
    for name in ("LICENSE", "NOTICE"):
        assert beside[f"licenses/{name}"] == (ROOT / name).read_bytes()
    assert b"zaozi = zaozi.cli.main:main" in beside["entry_points.txt"]
    assert b"stray" not in held.values()
    assert wheel.stat().st_size < 60e6  # two models of 17 MB, stages, and the networks that measure


def test_the_wheel_alone_knows_the_recipes(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = """if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        from pathlib import Path
        from zaozi.train.recipes import packaged_recipes, read_recipe
        for name, path in packaged_recipes().items():
            assert path.is_relative_to(sys.argv[1]), path
            print(name, read_recipe(Path(name)).name)
    """
    command = [sys.executable, "-c", code, str(tmp_path / "site")]
    told = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert dict(line.split() for line in told.splitlines()) == {name: name for name in RECIPES}


def test_recipes_are_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert packaged_recipes().keys() == RECIPES.keys()
    assert read_recipe(Path("glyphs-1h")) == read_recipe(RECIPES["glyphs-1h"])
    Path("base").mkdir()  # such as a run's folder
    assert read_recipe(Path("base")).name == "base"
    Path("test").write_text('name = "mine"')
    assert read_recipe(Path("test")).name == "mine", "a file goes before a packaged recipe"


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.sampled_from(sorted(RECIPES)), st.data())
def test_a_misspelt_recipe_is_told_all_names(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    wrong = name[:place] + data.draw(st.sampled_from(["", "q", "xx"])) + name[place + 1 :]
    if wrong in RECIPES or not wrong:
        return
    with pytest.raises(ZaoziError) as told:
        find_recipe(Path(wrong))
    line = str(told.value)
    assert "\n" not in line
    assert all(known in line for known in RECIPES)
    assert wrong in line


def test_a_path_from_the_repository_leads_to_the_packaged_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "recipes/glyphs-1h.toml"]) == 2
    assert "did you mean the packaged recipe 'glyphs-1h'?" in capsys.readouterr().err
    assert main(["speedrun", "speedrum"]) == 2
    assert "did you mean 'speedrun'?" in capsys.readouterr().err


@pytest.mark.parametrize("package", VULNERABLE)
def test_no_release_with_a_known_vulnerability_is_allowed(package: str) -> None:
    asked = [r for r in every_requirement() if canonicalize_name(r.name) == package]
    assert asked
    for requirement in asked:
        assert VULNERABLE[package] not in requirement.specifier
        assert "9999" in requirement.specifier, "a bound from above would keep fixes out"
    assert all(Version(v) > Version(VULNERABLE[package]) for v in pins(ROOT / "constraints.txt")[package])


def test_the_pinned_versions_are_those_that_are_asked_for() -> None:
    pinned, locked = pins(ROOT / "constraints.txt"), pins(ROOT / "requirements.lock")
    for requirement in every_requirement():
        versions = pinned[canonicalize_name(requirement.name)]
        assert all(version in requirement.specifier for version in versions), requirement
    elsewhere = {"httpx2-jsfetch"}  # needed where there is no constraint to keep: Python in a browser
    assert all(pinned[name] == versions for name, versions in locked.items() if name not in elsewhere)
    assert {canonicalize_name(r.name) for r in every_requirement()} - locked.keys() == {"torch"}


def test_every_locked_package_has_its_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) > 100
    for line in lines:
        name, *options = line.split(" --hash=")
        digests = [option.strip().removeprefix("sha256:") for option in options]
        assert digests, name
        assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests), name
        assert not name.startswith(("torch=", "nvidia-", "cuda-", "triton=")), "its builds share a version, not files"


def test_the_extras_bring_what_the_table_says() -> None:
    imports: dict[str, set[str]] = {}
    for module, names in packages_distributions().items():
        for name in names:
            imports.setdefault(canonicalize_name(name), set()).add(module)
    assert PACKAGES.keys() == PROJECT["optional-dependencies"].keys() - {"docs", "dev"}
    for extra in PACKAGES:
        asked = of_extra(extra)
        assert {e for r in asked if r.name == "zaozi" for e in r.extras} == set(INCLUDES.get(extra, ()))
        found = [imports[canonicalize_name(r.name)] & set(PACKAGES[extra]) for r in asked if r.name != "zaozi"]
        assert all(found)
        assert set().union(*found) == set(PACKAGES[extra])
    assert {name.split()[0] for name in KNOWN_COMMANDS} >= COMMANDS.keys()


@settings(derandomize=True, deadline=None)
@given(
    st.sampled_from(sorted({p for names in PACKAGES.values() for p in names})), st.sampled_from(sorted(KNOWN_COMMANDS))
)
def test_the_extra_named_brings_the_missing_package(package: str, command: str) -> None:
    told = missing(f"{package}.some.part", command.split(maxsplit=1)[0])
    extra = told.rpartition("[")[2].removesuffix("]'")
    assert package in brings(extra)
    whole = COMMANDS.get(command.split(maxsplit=1)[0])
    assert extra == whole or whole is None or package not in brings(whole)


def core_packages() -> set[str]:
    """Every installed package that zaozi brings without extras."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in PROJECT["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += map(Requirement, distribution(name).requires or ())
    return found


def test_without_extras_it_draws_and_names_the_extra_that_is_missing(tmp_path: Path) -> None:
    """In a process that has nothing installed but what zaozi brings without extras."""
    site = tmp_path / "site"
    site.mkdir()
    for name in core_packages():
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(installed.locate_file(top))))
    code = """if True:
        import sys
        from zaozi.cli.main import main

        def told(*args):
            print(main(list(args)), file=sys.stderr, flush=True)

        told("generate", "gold", "--count", "1", "--steps", "1", "--out", "drawn")
        told("generate", "gold", "--count", "1", "--steps", "1", "--out", "film", "--video", "film/gold.mp4")
        told("data", "build", "--limit", "4", "--out", "data")
        told("train", "test", "--data.path", "data", "--steps", "1")
        told("guide", "serve", "site")
        told("export", "base", "--out", "onnx")
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(site)])}
    command = [sys.executable, "-S", "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    said = [line for line in run.stderr.splitlines() if line in ("0", "2") or line.startswith("zaozi: ")]
    assert said[0] == "0", run.stderr
    assert list((tmp_path / "drawn").glob("*.png"))
    lines, codes = said[1::2], said[2::2]
    assert codes == ["2"] * 5, run.stderr
    for line, extra in zip(lines, ("viz", "data", "train", "guide", "onnx"), strict=True):
        assert line.endswith(f"is missing; run: pip install 'zaozi[{extra}]'"), line


def test_the_bill_of_materials_lists_packages_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is missing; run: pip install 'zaozi[dev]'")
    monkeypatch.syspath_prepend(ROOT / "tools")
    import sbom  # type: ignore[import-not-found]

    sbom.write(tmp_path / "sbom.json")
    made = json.loads((tmp_path / "sbom.json").read_text(encoding="utf-8"))
    assert made["bomFormat"] == "CycloneDX"
    listed = {component["name"]: component for component in made["components"]}
    runtime = {
        canonicalize_name(r.name)
        for r in [*map(Requirement, PROJECT["dependencies"]), *(r for extra in PACKAGES for r in of_extra(extra))]
    } - {"zaozi"}
    assert runtime <= listed.keys()
    assert all(listed[name]["version"] and listed[name]["purl"].startswith("pkg:pypi/") for name in runtime)
    assert "pytest" not in listed
    package = ROOT / "src" / "zaozi"
    digests = {path.relative_to(package).as_posix(): sha256(path) for path in package.rglob("*.safetensors")}
    digests |= {f"all-MiniLM-L6-v2/{name}": digest for name, digest in MINILM_SHA256.items()}
    for name, digest in digests.items():
        assert listed[name]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    needs = {entry["ref"]: set(entry.get("dependsOn", ())) for entry in made["dependencies"]}
    of_zaozi = needs[made["metadata"]["component"]["bom-ref"]]
    assert {listed["torch"]["bom-ref"], listed["weights/base/model.safetensors"]["bom-ref"]} <= of_zaozi
    assert set().union(*needs.values()) <= needs.keys() | {component["bom-ref"] for component in made["components"]}


def test_the_licences_of_all_that_the_page_is_built_from_are_shipped() -> None:
    site = ROOT / "src" / "zaozi" / "guide" / "site"
    text = (site / "assets" / "licenses.txt").read_text(encoding="utf-8")
    lock = json.loads((ROOT / "web" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for path, entry in lock.items():
        if path and not entry.get("dev") and "@types/" not in path and "undici-types" not in path:
            assert f"{path.rpartition('node_modules/')[2]} {entry['version']} ({entry['license']})" in text
    assert text.count("opyright") > 20
    assert "SIL OPEN FONT LICENSE Version 1.1" in text
    assert "UNICODE LICENSE" in text
    assert "protobuf" in (site / "ort" / "ThirdPartyNotices.txt").read_text(encoding="utf-8")
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for name in json.loads((ROOT / "web" / "package.json").read_text(encoding="utf-8"))["dependencies"]:
        known_as = {"@huggingface/tokenizers": "tokenizers.js", "katex": "KaTeX", "onnxruntime-web": "ONNX Runtime Web"}
        assert known_as.get(name, name) in notice
