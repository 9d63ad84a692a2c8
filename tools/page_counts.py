"""How many glyphs there are, and how many of them train the model, as JSON on standard output, for the guide's page."""

from __future__ import annotations

import json

from zaozi.core.recipe import DataConfig
from zaozi.data.pairs import find_dataset
from zaozi.data.shards import read_manifest

if __name__ == "__main__":
    counts = read_manifest(find_dataset(DataConfig()))["counts"]
    print(json.dumps({"glyphs": counts["pairs"], "trained": counts["train"]}))
