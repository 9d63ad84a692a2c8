"""Train, validation and test splits of custom datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from zaozi.data.shards import Record, share_of, split_of


def folder_splits(records: Sequence[Record]) -> tuple[list[str], Mapping[str, Any]]:
    """Return the split of each record, and {"split": {"by": "caption" or "picture", "moved_to_train": pictures}} for the
    manifest.

    1. If at least half of the pictures have a unique caption, the split is by caption: its hash decides (`split_of`), and
       equal captions stay together, which keeps held-out captions out of training. Otherwise captions are labels, and the
       split is by picture: the hash of the file name decides.
    2. Then train is completed: it needs each caption of several pictures, and each value of each label column (text, integers
       or booleans, if fewer than half of the pictures have a unique value). If one has no picture in train, the caption (or
       picture) with the smallest hash moves there. At least one picture is always in train.

    The result depends only on the records, not on their order.
    """
    captions = [record.group for record in records]
    by_caption = 2 * _alone(captions) >= len(captions)
    units = captions if by_caption else [record.key for record in records]
    split = {unit: split_of(unit) for unit in units}
    before = dict(split)

    def train_one(rows: Sequence[int]) -> None:
        if all(split[units[row]] != "train" for row in rows):
            split[min((units[row] for row in rows), key=lambda unit: (share_of(unit), unit))] = "train"

    for rows in _rows_of(captions).values():
        if len(rows) > 1:
            train_one(rows)
    for name in sorted(records[0].columns):
        values = [record.columns[name] for record in records]
        given = [value for value in values if value is not None and value != ""]
        if given and isinstance(given[0], (str, int)) and 2 * _alone(given) < len(given):
            for value, rows in _rows_of(values).items():
                if value is not None and value != "":
                    train_one(rows)
    train_one(range(len(records)))
    moved = sum(before[unit] != split[unit] for unit in units)
    return [split[unit] for unit in units], {
        "split": {"by": "caption" if by_caption else "picture", "moved_to_train": moved}
    }


def _alone(values: Sequence[Any]) -> int:
    """Return the number of unique values."""
    return sum(count == 1 for count in Counter(values).values())


def _rows_of(values: Sequence[Any]) -> dict[Any, list[int]]:
    rows: dict[Any, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault(value, []).append(row)
    return rows
