"""The library's own lines that the guide's page shows, as JSON on standard output: for each `data-code` of web/index.html, where
its function stands and its source.
"""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path

PAGE = Path(__file__).parents[1] / "web" / "index.html"


def shown(page: str) -> dict[str, dict[str, str]]:
    """Return the file and the source of each function that the page names, as MODULE:FUNCTION."""
    found = {}
    for name in re.findall(r'data-code="([^"]+)"', page):
        module, _, function = name.partition(":")
        source = inspect.getsource(getattr(import_module(module), function))
        lines = [line for line in source.splitlines() if not line.startswith("@")]
        found[name] = {"file": f"{module.replace('.', '/')}.py", "code": "\n".join(lines)}
    return found


if __name__ == "__main__":
    print(json.dumps(shown(PAGE.read_text(encoding="utf-8")), indent=1, ensure_ascii=False))
