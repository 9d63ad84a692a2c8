"""The last picture of each film of the guide's page, which stands where films do not play: web/public/figures/NAME.webp.

python tools/film_stills.py docs/figures
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import av

WEB = Path(__file__).parents[1] / "web"


def last_picture(film: Path) -> Any:
    """The last frame, as a grey PIL image."""
    with av.open(str(film)) as container:
        *_, frame = container.decode(video=0)
        return frame.to_image().convert("L")


if __name__ == "__main__":
    folder, out = Path(sys.argv[1]), WEB / "public" / "figures"
    out.mkdir(parents=True, exist_ok=True)
    for name in re.findall(r'poster="figures/([\w-]+)\.webp"', (WEB / "index.html").read_text(encoding="utf-8")):
        last_picture(folder / f"{name}.mp4").save(out / f"{name}.webp", quality=70, method=6)
