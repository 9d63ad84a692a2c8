"""Record what a diffusion model draws without text, as the guide's VAE and GAN are recorded (`zaozi.guide.recording`).

python tools/record_model.py MODEL samples.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from zaozi.guide.recording import of_a_model, recorded
from zaozi.pipeline import TextToImage

if __name__ == "__main__":
    model, out = sys.argv[1], Path(sys.argv[2])
    if out.exists():
        sys.exit(f"{out} exists already; give another name")
    out.write_bytes(recorded(of_a_model(TextToImage.from_pretrained(model))))
