"""Dataset storage: a folder of Parquet shards, one or more per split, and a manifest written last.

Each row has `image` (PNG, opened as a picture by `datasets.load_dataset("parquet", data_dir=FOLDER)`), `text`, `key`, and
any columns that the source adds. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from PIL import Image

from zaozi.core.errors import ZaoziError, printable
from zaozi.core.files import sha256
from zaozi.core.journal import verified
from zaozi.core.machine import usable_cores
from zaozi.core.outputs import Output
from zaozi.core.progress import progress
from zaozi.core.workers import in_processes

SPLITS = {"train": 0.85, "validation": 0.05, "test": 0.10}
MANIFEST = "manifest.json"
FORMAT = 1
SHARD_ROWS, SHARD_BYTES = 25_000, 2**28
"""Maximum size of a shard, counting pictures and captions."""
GROUP_ROWS, GROUP_BYTES = 1024, 2**26
"""Maximum size of a row group, which is held in memory."""


@dataclass(frozen=True)
class Record:
    """One pair before its picture is drawn: rows with the same `group` always share a split."""

    key: str
    text: str
    group: str
    columns: Mapping[str, Any] = field(default_factory=dict)


Draw = Callable[[Record], Image.Image]

Splits = Callable[[Sequence[Record]], tuple[list[str], Mapping[str, Any]]]
"""Returns the split of each record, and an entry about the splits for the manifest."""


def share_of(group: str) -> float:
    """Return the position of a group in [0, 1), from its SHA-256. The same on every machine."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64


def split_of(group: str) -> str:
    """Return the split of a group by its share: 85 / 5 / 10%."""
    share = share_of(group)
    for name, width in SPLITS.items():
        if share < width:
            return name
        share -= width
    return "test"


def by_group(records: Sequence[Record]) -> tuple[list[str], Mapping[str, Any]]:
    """Split by `split_of`; if train would be empty, the group with the smallest share goes there."""
    names = [split_of(record.group) for record in records]
    if "train" not in names:
        first = min((record.group for record in records), key=share_of)
        names = ["train" if record.group == first else name for record, name in zip(records, names, strict=True)]
    return names, {}


def normalised(caption: str) -> str:
    """Normalise case and spaces of a caption: rows with equal normalised captions share a split."""
    return " ".join(caption.casefold().split())


def _png(draw: Draw, record: Record) -> bytes | str:
    """Return the picture as PNG bytes, or the error in one line."""
    try:
        data = io.BytesIO()
        draw(record).save(data, "PNG")
        return data.getvalue()
    except ZaoziError as error:
        return str(error)
    except Exception as error:  # decoders can raise anything on a damaged file
        why = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        return f"{record.key} cannot be drawn ({why}); replace or remove it"


def _type(values: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    """Return the Arrow type of a column and its name in `datasets`."""
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


def _schema(columns: Mapping[str, tuple[Any, dict[str, Any]]]) -> Any:
    """Return the Arrow schema of a shard: the picture, then the columns."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}} | {name: named for name, (_, named) in columns.items()}
    return pa.schema(
        [("image", image), *((name, arrow) for name, (arrow, _) in columns.items())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def _table(records: Sequence[Record], pngs: Sequence[bytes], schema: Any) -> Any:
    """Convert rows to an Arrow table."""
    import pyarrow as pa

    data: dict[str, list[Any]] = {
        "image": [{"bytes": png, "path": f"{r.key}.png"} for r, png in zip(records, pngs, strict=True)]
    }
    for name, arrow in list(zip(schema.names, schema.types, strict=True))[1:]:
        values = _column(records, name)
        data[name] = [None if v is None else str(v) for v in values] if arrow == pa.string() else values
    return pa.table(data, schema=schema)


def _column(records: Sequence[Record], name: str) -> list[Any]:
    """Return the values of a dataset column for some records."""
    if name in ("text", "key"):
        return [getattr(record, name) for record in records]
    return [record.columns[name] for record in records]


def _parts(sizes: Sequence[int], rows: int, bytes_: int) -> list[slice]:
    """Return consecutive slices of at most this many rows and, for slices of several rows, bytes."""
    ends, start, held = list[int](), 0, 0
    for i, size in enumerate(sizes):
        if i > start and (i - start == rows or held + size > bytes_):
            ends.append(i)
            start, held = i, 0
        held += size
    return [slice(a, b) for a, b in zip([0, *ends], [*ends, len(sizes)], strict=True)] if sizes else []


@dataclass(frozen=True)
class _Drawn:
    """A record whose picture is in the spool file, as PNG bytes."""

    record: Record
    start: int
    length: int

    @property
    def size(self) -> int:
        return self.length + len(self.record.text.encode())


def dataset_output(out: Path, *, inputs: Sequence[Path] = (), overwrite: bool = False) -> Output:
    """Return the output for a dataset's folder; `inputs` are the files and folders that it is built from."""
    return Output(out, "dataset", (MANIFEST, "*.parquet"), inputs=tuple(inputs), overwrite=overwrite)


def build(
    records: Sequence[Record],
    draw: Draw,
    output: Output,
    *,
    about: Mapping[str, Any],
    splits: Splits = by_group,
    skip_bad: bool = False,
    already_skipped: Sequence[str] = (),
    processes: int | None = None,
) -> dict[str, Any]:
    """Draw every record, write the shards and the manifest to `output` (see `dataset_output`), and return the manifest.

    `about` describes the source of the data, and `splits` assigns drawn records to splits. Raises `ZaoziError` at the first bad
    picture unless `skip_bad`, which counts them.
    """
    import pyarrow.parquet as pq

    if not records:
        raise ZaoziError("there is nothing to build; the source has no pair")
    output.check()
    processes = processes or min(usable_cores(), 32)
    kept: list[_Drawn] = []
    skipped: list[str] = [*already_skipped]
    with (
        output.write() as work,
        TemporaryFile(dir=output.folder) as spool,  # a large dataset's pictures may not fit in memory
    ):

        def picture(drawn: _Drawn) -> bytes:
            spool.seek(drawn.start)
            return spool.read(drawn.length)

        chunk = max(1, min(256, len(records) // processes))
        bar = progress(records, desc="drawing", unit="pair")
        try:
            with closing(in_processes(partial(_png, draw), records, processes, chunk)) as results:
                for record, png in zip(bar, results, strict=False):
                    if isinstance(png, bytes):
                        kept.append(_Drawn(record, spool.tell(), len(png)))
                        spool.write(png)
                    elif skip_bad:
                        skipped.append(printable(png))
                    else:
                        raise ZaoziError(f"{png} (or pass --skip-bad to go on without it)")
        except BrokenProcessPool:
            raise ZaoziError(
                "a process that draws was ended from outside, perhaps for want of memory; make large pictures smaller"
            ) from None
        if not kept:
            raise ZaoziError(f"no picture could be used; the first: {skipped[0]}")
        good = [drawn.record for drawn in kept]
        columns = {name: _type(_column(good, name)) for name in ("text", "key", *good[0].columns)}
        schema = _schema(columns)
        with Image.open(io.BytesIO(picture(kept[0]))) as opened:
            size, mode = opened.size[0], opened.mode
        names, told = splits(good)
        files = {}
        for split in SPLITS:
            part = [drawn for drawn, name in zip(kept, names, strict=True) if name == split]
            shards = _parts([drawn.size for drawn in part], SHARD_ROWS, SHARD_BYTES)
            for i, shard in enumerate(shards):
                name = f"{split}-{i:05d}-of-{len(shards):05d}.parquet"
                with pq.ParquetWriter(work / name, schema, compression="zstd") as writer:
                    for group in _parts([drawn.size for drawn in part[shard]], GROUP_ROWS, GROUP_BYTES):
                        some = part[shard][group]
                        writer.write_table(_table([d.record for d in some], [picture(d) for d in some], schema))
                files[name] = sha256(work / name)
        manifest = {
            "format": FORMAT,
            **about,
            **told,
            "size": size,
            "channels": 1 if mode == "L" else 3,
            "columns": ["image", *columns],
            "counts": {
                "pairs": len(kept),
                "captions": len({record.text for record in good}),
                **{split: names.count(split) for split in SPLITS},
                "skipped": len(skipped),
            },
            "skipped": skipped,
            "sha256": files,
        }
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


_SHARD_NAME = re.compile(rf"({'|'.join(SPLITS)})-[0-9]{{5}}-of-[0-9]{{5}}\.parquet")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a built dataset. Raises `ZaoziError` if the folder is not a dataset, or a shard is missing.

    The shards themselves are not read: see `check_shards`.
    """
    path = folder / MANIFEST
    verified(folder, (MANIFEST,))
    if not path.is_file():
        raise ZaoziError(f"{folder} is not a dataset (no {MANIFEST}); make one with: zaozi data build --out {folder}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        format_, files, size, channels, _ = (manifest[k] for k in ("format", "sha256", "size", "channels", "columns"))
        if format_ != FORMAT:
            raise ZaoziError(f"{folder} is of format {format_}, not {FORMAT}; build the dataset again")
        if type(size) is not int or not 1 <= size <= 4096 or channels not in (1, 3):
            raise ValueError(f"pictures of {size} pixels and {channels} channels")
        if odd := next((name for name in files if not _SHARD_NAME.fullmatch(name)), None):
            raise ValueError(f"a shard named '{odd}'")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ZaoziError(f"{path} is damaged ({error}); build the dataset again") from None
    for name in files:
        if not (folder / name).is_file():
            raise ZaoziError(f"{folder / name} is missing; build the dataset again")
    return manifest


_hashed: dict[tuple[str, int, int, int], str] = {}
"""SHA-256 by path, length, modification time and inode: each process reads a file once, unless it changes."""


def check_shards(folder: Path, split: str = "") -> dict[str, str]:
    """Return name -> SHA-256 of the shards (of one split) in their current state, reading them completely.

    Warns if a shard was changed since the build: caches and runs identify it by its content, not by the manifest.
    Raises `ZaoziError` if the folder is not a dataset.
    """
    files = {n: digest for n, digest in read_manifest(folder)["sha256"].items() if n.startswith(split)}
    total = sum((folder / name).stat().st_size for name in files)
    with progress(total=total, desc="checking", unit="B", unit_scale=True) as bar:
        for name, digest in files.items():
            path = folder / name
            stat = path.stat()
            key = str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ino
            if key not in _hashed:
                _hashed[key] = sha256(path)
                if _hashed[key] != digest:
                    warnings.warn(
                        f"{path} is not the file that was built (its SHA-256 differs from {MANIFEST}'s) and is read as it is "
                        "now; if you did not edit it, build the dataset again",
                        stacklevel=2,
                    )
            files[name] = _hashed[key]
            bar.update(stat.st_size)
    return files


def data_hash(folder: Path) -> str:
    """Return a SHA-256 over those of the shards, which are checked: it identifies the data independently of its location."""
    return hashlib.sha256(json.dumps(check_shards(folder), sort_keys=True).encode()).hexdigest()


def captions(folder: Path) -> list[str]:
    """Return all captions of a built dataset, split by split."""
    import pyarrow.parquet as pq

    names = sorted(read_manifest(folder)["sha256"], key=lambda name: (list(SPLITS).index(name.split("-")[0]), name))
    return [
        text for name in names for text in pq.read_table(folder / name, columns=["text"]).column("text").to_pylist()
    ]
