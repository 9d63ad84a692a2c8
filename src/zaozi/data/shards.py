"""Datasets on disk: a folder of Parquet shards, one or more a split, and a manifest written last.

Every row has `image` (PNG, opened as a picture by `datasets.load_dataset("parquet", data_dir=FOLDER)`), `text`, `key`, and
whatever columns the source adds. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from PIL import Image

from zaozi.core.errors import ZaoziError
from zaozi.core.machine import usable_cores
from zaozi.core.outputs import Output

SPLITS = {"train": 0.85, "validation": 0.05, "test": 0.10}
MANIFEST = "manifest.json"
FORMAT = 1
ROWS_A_SHARD = 25_000


@dataclass(frozen=True)
class Record:
    """One pair before its picture is drawn: rows of one `group` always share a split."""

    key: str
    text: str
    group: str
    columns: Mapping[str, Any] = field(default_factory=dict)


Draw = Callable[[Record], Image.Image]


def split_of(group: str) -> str:
    """The split of a group: its SHA-256, as a number in [0, 1), against 85 / 5 / 10%. The same on every machine."""
    share = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    for name, width in SPLITS.items():
        if share < width:
            return name
        share -= width
    return "test"


def normalised(caption: str) -> str:
    """A caption without case and extra spaces: rows whose captions agree so far share a split."""
    return " ".join(caption.casefold().split())


def _png(draw: Draw, record: Record) -> bytes | str:
    """The picture as PNG bytes, or the error in one line."""
    try:
        data = io.BytesIO()
        draw(record).save(data, "PNG")
        return data.getvalue()
    except ZaoziError as error:
        return str(error)
    except Exception as error:  # whatever a decoder raises on a damaged file
        return f"{record.key} cannot be drawn ({type(error).__name__}: {str(error).splitlines()[0][:100]}); replace or remove it"


def _type(values: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    """The Arrow type of a column and how `datasets` names it."""
    import pyarrow as pa

    values = [v for v in values if v is not None]
    if values and all(isinstance(v, bool) for v in values):
        return pa.bool_(), {"dtype": "bool", "_type": "Value"}
    if values and all(isinstance(v, int) and abs(v) < 2**63 for v in values):
        name = "int32" if all(abs(v) < 2**31 for v in values) else "int64"
        return getattr(pa, name)(), {"dtype": name, "_type": "Value"}
    if values and all(isinstance(v, (int, float)) for v in values):
        return pa.float64(), {"dtype": "float64", "_type": "Value"}
    if values and all(isinstance(v, (list, tuple)) for v in values):
        return pa.list_(pa.string()), {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
    return pa.string(), {"dtype": "string", "_type": "Value"}


def _table(rows: Sequence[tuple[Record, bytes]], columns: Mapping[str, tuple[Any, dict[str, Any]]]) -> Any:
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}} | {name: named for name, (_, named) in columns.items()}
    schema = pa.schema(
        [("image", image), *((name, arrow) for name, (arrow, _) in columns.items())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    data: dict[str, list[Any]] = {"image": [{"bytes": png, "path": f"{r.key}.png"} for r, png in rows]}
    for name, (arrow, _) in columns.items():
        values = [_columns(r)[name] for r, _ in rows]
        data[name] = [None if v is None else str(v) for v in values] if arrow == pa.string() else values
    return pa.table(data, schema=schema)


def _columns(record: Record) -> dict[str, Any]:
    return {"text": record.text, "key": record.key, **record.columns}


def dataset_output(out: Path, *, inputs: Sequence[Path] = (), overwrite: bool = False) -> Output:
    """A dataset's folder, to be written; `inputs` are the files and folders that it is made from."""
    return Output(out, "dataset", (MANIFEST, "*.parquet"), inputs=tuple(inputs), overwrite=overwrite)


def build(
    records: Sequence[Record],
    draw: Draw,
    out: Path,
    *,
    about: Mapping[str, Any],
    skip_bad: bool = False,
    already_skipped: Sequence[str] = (),
    processes: int | None = None,
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Draw every record, write the shards and the manifest, and return the manifest.

    `about` says where the data came from. Raises `ZaoziError` at the first bad picture unless `skip_bad`, which counts them.
    """
    import pyarrow.parquet as pq
    from tqdm import tqdm

    if not records:
        raise ZaoziError("there is nothing to build; the source has no pair")
    output = dataset_output(out, inputs=inputs, overwrite=overwrite)
    output.check()
    processes = processes or min(usable_cores(), 32)
    rows: dict[str, list[tuple[Record, int, int]]] = {
        name: [] for name in SPLITS
    }  # record, start and length in the spool
    skipped: list[str] = [*already_skipped]
    with (
        output.write() as work,
        TemporaryFile(dir=out) as spool,  # a large dataset's pictures need not fit in memory
    ):

        def picture(start: int, length: int) -> bytes:
            spool.seek(start)
            return spool.read(length)

        with ProcessPoolExecutor(processes) as pool:
            drawn = pool.map(partial(_png, draw), records, chunksize=max(1, min(256, len(records) // processes)))
            for record, png in zip(tqdm(records, desc="drawing", unit="pair", leave=False), drawn, strict=False):
                if isinstance(png, bytes):
                    rows[split_of(record.group)].append((record, spool.tell(), len(png)))
                    spool.write(png)
                elif skip_bad:
                    skipped.append(png)
                else:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise ZaoziError(f"{png} (or pass --skip-bad to go on without it)")
        kept = [_columns(r) for part in rows.values() for r, *_ in part]
        if not kept:
            raise ZaoziError("no picture could be used; see the errors with one picture at a time")
        columns = {name: _type([row[name] for row in kept]) for name in kept[0]}
        first = next(place for part in rows.values() for _, *place in part)
        with Image.open(io.BytesIO(picture(*first))) as opened:
            size, mode = opened.size[0], opened.mode
        files = {}
        for split, part in rows.items():
            count = max(1, -(-len(part) // ROWS_A_SHARD))
            for i in range(count if part else 0):
                name = f"{split}-{i:05d}-of-{count:05d}.parquet"
                chunk = [(r, picture(*place)) for r, *place in part[i * ROWS_A_SHARD : (i + 1) * ROWS_A_SHARD]]
                pq.write_table(_table(chunk, columns), work / name, compression="zstd", row_group_size=1024)
                files[name] = hashlib.sha256((work / name).read_bytes()).hexdigest()
        manifest = {
            "format": FORMAT,
            **about,
            "size": size,
            "channels": 1 if mode == "L" else 3,
            "columns": ["image", *columns],
            "counts": {
                "pairs": len(kept),
                "captions": len({row["text"] for row in kept}),
                **{split: len(part) for split, part in rows.items()},
                "skipped": len(skipped),
            },
            "skipped": skipped,
            "sha256": files,
        }
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a built dataset. Raises `ZaoziError` where the folder is not one, or a shard is missing."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ZaoziError(f"{folder} is not a dataset (no {MANIFEST}); make one with: zaozi data build --out {folder}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        format_, files, _, _ = (manifest[key] for key in ("format", "sha256", "size", "channels"))
    except (ValueError, KeyError, TypeError) as error:
        raise ZaoziError(f"{path} is damaged ({error}); build the dataset again") from None
    if format_ != FORMAT:
        raise ZaoziError(f"{folder} is of format {format_}, not {FORMAT}; build the dataset again")
    for name in files:
        if not (folder / name).is_file():
            raise ZaoziError(f"{folder / name} is missing; build the dataset again")
    return manifest


def data_hash(folder: Path) -> str:
    """A SHA-256 over those of the shards: the name of exactly this data, wherever it lies."""
    files = read_manifest(folder)["sha256"]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
