"""What zaozi writes into folders: never over a file that it did not write, never half, and not lost in a power cut.

Every folder that zaozi writes into carries a record, `.zaozi.json`: the files it wrote there, each with its kind (the
command family that owns it), size and SHA-256. From it follow the rules of this module:

- Only a recorded file that is still what was written is ever replaced or removed. Anything else is refused before work
  starts, by name, unless the user passes `--overwrite`. An input of a command is never its output, even then.
- New files are written to `.zaozi-partial` inside the folder, flushed to the disk, listed in a journal there, and only
  then renamed into place. Whoever opens a folder with a journal finishes what was begun (`settle`), so after a crash a
  folder holds all of the old files or all of the new ones.
- Links are followed: the target is written, the link stays. The folder may be a mounted volume.
- One process writes a folder at a time (`locks.locked`).
- Readers compare files with the record (`verified`).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from zaozi.core.errors import ZaoziError
from zaozi.core.files import flush, flush_folder, sha256
from zaozi.core.locks import InUse, holds, locked

RECORD, PARTIAL = ".zaozi.json", ".zaozi-partial"
JOURNAL, PROGRESS = "journal.jsonl", "progress.jsonl"
"""In the partial folder: what is being put into place all at once, and what is put there one by one."""
COMMIT_SECONDS = 60.0
"""How long a reader waits for another process that is putting files into place."""
FORMAT = 1


class Damaged(ZaoziError):
    """A file is not what zaozi wrote: cut short, changed or missing."""


@dataclass(frozen=True)
class Entry:
    """A file of the record: who wrote it, its size in bytes and its SHA-256. A file that `grows` has neither."""

    kind: str
    bytes: int
    sha256: str
    grows: bool = False

    def matches(self, path: Path) -> bool:
        """Whether a file still is what was written."""
        if not path.is_file():
            return False
        return self.grows or (path.stat().st_size == self.bytes and sha256(path) == self.sha256)


Record = dict[str, Entry]


def entry_of(path: Path, kind: str) -> Entry:
    """The entry of a file as it is now."""
    return Entry(kind, path.stat().st_size, sha256(path))


def read_record(folder: Path) -> Record:
    """The record of a folder; empty where there is none. Raises `Damaged` where it cannot be read."""
    path = folder / RECORD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ZaoziError(f"{path} is of format {values['format']}, not {FORMAT}; use a newer zaozi")
        return {_inside(name): Entry(**entry) for name, entry in values["files"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{path} is damaged ({error}); remove it if the files beside it are yours") from None


def _inside(name: str) -> str:
    """A relative name that stays inside its folder. Raises `ValueError` for any other."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/") or "\\" in name or parts[0] in (RECORD, PARTIAL):
        raise ValueError(f"'{name}' is not a file inside the folder")
    return name


def write_record(folder: Path, record: Record) -> None:
    """Write the record, flushed and renamed; a folder without files of ours has none."""
    path = folder / RECORD
    if not record:
        path.unlink(missing_ok=True)
        return
    values = {"format": FORMAT, "files": {name: _plain(record[name]) for name in sorted(record)}}
    work = path.with_name(RECORD + ".new")
    work.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    flush(work)
    os.replace(work, path)
    flush_folder(folder)


def _plain(entry: Entry) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": entry.kind, "bytes": entry.bytes, "sha256": entry.sha256}
    return values | ({"grows": True} if entry.grows else {})


# -- reading --------------------------------------------------------------------------------------------------------


def settle(folder: Path) -> None:
    """Finish what a command that was cut off had decided to write into a folder, and drop what it had not.

    Where another process is at that very moment putting files into place, wait for it; a folder that another process is
    still filling, or this one, is left alone. Links that lead out of the folder are not followed here, since the folder
    may be a stranger's.
    """
    partial = folder / PARTIAL
    if not partial.is_dir() or holds(folder):
        return
    if not os.access(folder, os.W_OK):
        if (partial / JOURNAL).exists():
            raise ZaoziError(f"{folder} was left half-written by a command that was cut off; make it writable once")
        return
    end = time.monotonic() + COMMIT_SECONDS
    while True:
        try:
            with locked(folder):
                _roll_forward(folder, links=False)
                _drop_partial(folder)
            with suppress(OSError):  # where all of it was being removed
                folder.rmdir()
            return
        except InUse:
            if not (partial / JOURNAL).exists() or time.monotonic() > end:
                return
            time.sleep(0.05)


def verified(folder: Path, names: Iterable[str] | None = None) -> Record:
    """The record of a folder, once every file of it (or of `names`) was found to be what zaozi wrote.

    Empty for a folder without a record: one that an older version wrote, or a person. Raises `Damaged` naming the first
    file that is missing or differs.
    """
    settle(folder)
    record = read_record(folder)
    for name in record.keys() if names is None else [n for n in names if n in record]:
        path, entry = folder / name, record[name]
        if not path.is_file():
            raise Damaged(f"{path} is missing")
        if not entry.matches(path):
            raise Damaged(
                f"{path} is damaged: it is not what zaozi wrote; get it again, or remove {RECORD} if the change is yours"
            )
    return record


# -- writing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    """What one command writes into one folder.

    `kind` names the owner: only files recorded as of this kind are replaced. `names` are the files to come, or patterns of
    them (as in `fnmatch`, `*` also matches '/'). A `whole` folder is this output's alone: new, empty (but for hidden files)
    or an earlier one of the same kind. `inputs` are files and folders that the command reads. `overwrite` is the user's
    word that foreign files of these names may be replaced; other foreign files are never touched.
    """

    folder: Path
    kind: str
    names: tuple[str, ...] = ("*",)
    whole: bool = True
    inputs: tuple[Path, ...] = ()
    overwrite: bool = False
    keep: bool = False
    """Whether files of an earlier command of this kind stay; else those that are not written again are removed."""

    def check(self) -> None:
        """Raises `ZaoziError` where writing would touch a file that zaozi did not write, and names it."""
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise ZaoziError(f"{folder} is a file; give a folder")
        there = _existing(folder)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise ZaoziError(f"{there} cannot be written to; give another output folder")
        if not folder.exists():
            return
        settle(folder)
        if not folder.exists():
            return
        if (folder / PARTIAL).exists() and not holds(folder):
            raise InUse(f"another zaozi process is writing {folder}; wait until it ends, or give another folder")
        try:
            record = read_record(folder)
        except Damaged:
            if not self.overwrite:
                raise
            record = {}
        inputs = {_identity(path) for path in self.inputs if path.exists()}
        if self.whole and _identity(folder) in inputs:
            raise ZaoziError(f"{folder} is an input of this command; give another output folder")
        former = () if self.keep else (name for name, e in record.items() if e.kind == self.kind)
        for name in dict.fromkeys([*former, *self._held()]) if not self.whole else self._held():
            path, entry = folder / name, record.get(name)
            planned, ours = self._planned(name), entry is not None and entry.kind == self.kind
            if (ours or planned) and path.exists() and _identity(path) in inputs:
                raise ZaoziError(f"{path} is an input of this command and would be replaced; give another output")
            if planned and path.is_dir():
                raise ZaoziError(f"{path} is a folder where a file is to be written; give another output")
            if self.overwrite or not (self.whole or planned):
                continue
            if entry is None or not ours:
                raise ZaoziError(f"{folder} holds {name}, which {_whose(entry, self.kind)}; {_ADVICE}")
            if planned and not entry.matches(path):
                raise ZaoziError(f"{path} was changed since zaozi wrote it; {_ADVICE}")

    def expect(self, name: str) -> None:
        """Raises `RuntimeError` for a file that is not of `names`: what was not checked is not written."""
        if not self._planned(name):
            raise RuntimeError(f"{name} is not one of the files that were checked: {', '.join(self.names)}")

    def _planned(self, name: str) -> bool:
        return any(name == pattern or fnmatchcase(name, pattern) for pattern in self.names)

    def _held(self) -> Iterator[str]:
        """The files in the folder that matter, by relative name: all but hidden ones, or those of this output's names."""
        if self.whole:
            for base, folders, files in os.walk(self.folder):
                here = Path(base)
                folders[:] = sorted(f for f in folders if not f.startswith("."))
                links = [f for f in folders if (here / f).is_symlink()]
                for name in sorted([*files, *links]):
                    if not name.startswith("."):
                        yield (here / name).relative_to(self.folder).as_posix()
            return
        for pattern in self.names:
            if set(pattern) & set("*?["):  # it may also be the very name of a file, and then means that too
                yield from sorted(p.relative_to(self.folder).as_posix() for p in self.folder.glob(pattern))
            for parent in list(PurePosixPath(pattern).parents)[:-1]:
                if (self.folder / parent).exists() and not (self.folder / parent).is_dir():
                    raise ZaoziError(f"{self.folder / parent} is a file where a folder is to be; give another output")
            if (self.folder / pattern).is_symlink() or (self.folder / pattern).exists():
                yield pattern

    @contextmanager
    def open(self) -> Iterator[Writer]:
        """Check, lock the folder, and put files into place one by one.

        Files of an earlier command of this kind are removed when the first new one comes (unless `keep`). What was put
        stays when the block fails.
        """
        with self._locked():
            writer = Writer(self)
            try:
                yield writer
            finally:
                writer.close()

    @contextmanager
    def write(self) -> Iterator[Path]:
        """Check, lock the folder, and yield an empty folder to fill; its files replace the earlier ones all at once when
        the block ends well, and nothing changes when it fails."""
        with self._locked(), self._filled() as work:
            yield work

    @contextmanager
    def _locked(self, *, wait: bool = False) -> Iterator[None]:
        if not wait:
            self.check()
        made = _make(self.folder)
        with ExitStack() as stack:
            stack.callback(_remove_empty, made)
            stack.enter_context(locked(self.folder, wait=wait, say=_warn))
            _roll_forward(self.folder, links=False)
            _drop_partial(self.folder)
            self.check()  # again, now that nobody else writes
            yield

    @contextmanager
    def _filled(self) -> Iterator[Path]:
        work = self.folder / PARTIAL / "files"
        work.mkdir(parents=True)
        try:
            yield work
            self._commit(work)
        finally:
            _drop_partial(self.folder)

    def _commit(self, work: Path) -> None:
        umask = os.umask(0)
        os.umask(umask)
        new: Record = {}
        for path in sorted(work.rglob("*")):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)  # some writers make files private
            if path.is_dir():
                flush_folder(path)
            else:
                flush(path)
                name = path.relative_to(work).as_posix()
                self.expect(name)
                new[name] = entry_of(path, self.kind)
        flush_folder(work)
        self.check()  # a long time may have passed
        record = _record_or_none(self.folder)
        old = () if self.keep else (name for name, e in record.items() if e.kind == self.kind and name not in new)
        _decide(
            self.folder,
            [*({"remove": name} for name in old), *({"put": name, **_plain(entry)} for name, entry in new.items())],
        )
        _roll_forward(self.folder, links=True)


_ADVICE = "give another output folder, or pass --overwrite"


@dataclass
class Writer:
    """Puts the files of an `Output` into place one by one; `Output.open` makes one."""

    output: Output
    put_names: set[str] = field(default_factory=set)
    _journal: TextIO | None = None
    _record: Record = field(default_factory=dict)

    def put(self, name: str, content: bytes | str) -> Path:
        """Write one file, which is whole or absent at any moment. Returns its path."""
        folder = self.output.folder
        work = folder / PARTIAL / "files" / name
        self.output.expect(name)
        self._begin()
        work.parent.mkdir(parents=True, exist_ok=True)
        work.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        flush(work)
        self._note(name, entry_of(work, self.output.kind))
        _place(work, folder / name)
        return folder / name

    def remove(self, name: str) -> None:
        """Remove a file of ours that nobody changed."""
        self._begin()
        assert self._journal is not None
        self._journal.write(_line({"remove": name}))
        if (entry := self._record.pop(name, None)) is not None:
            _remove(self.output.folder, name, entry)

    def grow(self, name: str) -> TextIO:
        """A text file to append to, line by line."""
        self.output.expect(name)
        self._begin()
        self._note(name, Entry(self.output.kind, 0, "", grows=True))
        return (self.output.folder / name).open("a", encoding="utf-8", buffering=1)

    def _begin(self) -> None:
        """Before the first file: remove what an earlier command of this kind wrote."""
        if self._journal is not None:
            return
        folder, output = self.output.folder, self.output
        (folder / PARTIAL / "files").mkdir(parents=True, exist_ok=True)
        self._record = _record_or_none(folder)
        self._journal = (folder / PARTIAL / PROGRESS).open("w", encoding="utf-8", buffering=1)
        if not output.keep:
            for name, entry in list(self._record.items()):
                if entry.kind == output.kind:
                    self._journal.write(_line({"remove": name}))
                    _remove(folder, name, entry)
                    del self._record[name]

    def _note(self, name: str, entry: Entry) -> None:
        assert self._journal is not None
        self._journal.write(_line({"put": _inside(name), **_plain(entry)}))
        self._record[name] = entry
        self.put_names.add(name)

    def close(self) -> None:
        """Write the record of what was put, and flush it all to the disk."""
        if self._journal is None:
            return
        self._journal.close()
        self._journal = None
        folder = self.output.folder
        for parent in {(folder / name).parent for name in self.put_names}:
            flush_folder(parent)
        write_record(folder, self._record)
        _drop_partial(folder)


def file_output(path: Path, kind: str, *more: str, overwrite: bool = False, inputs: Iterable[Path] = ()) -> Output:
    """An output of single files: `path`, and those beside it with other suffixes (`more`). Others of its folder stay."""
    names = (path.name, *(path.with_suffix(suffix).name for suffix in more))
    return Output(path.parent, kind, names, whole=False, overwrite=overwrite, inputs=tuple(inputs), keep=True)


def first_free(outputs: Iterable[Output]) -> Output:
    """The first of some outputs that may be written. Raises the `ZaoziError` of the first where none may."""
    refusal: ZaoziError | None = None
    for output in outputs:
        try:
            output.check()
        except ZaoziError as error:
            refusal = refusal or error
        else:
            return output
    assert refusal is not None
    raise refusal


def edit(path: Path, text: str) -> None:
    """Replace the text of a file that the user named to be edited: whole or as it was, and links are followed."""
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name}{PARTIAL}")
    beside.write_text(text, encoding="utf-8")
    shutil.copymode(path, beside)
    flush(beside)
    os.replace(beside, path)
    flush_folder(path.parent)


def discard(folder: Path, kind: str, *, damaged: bool = False) -> None:
    """Remove the files of one kind that zaozi wrote into a folder and nobody changed (or, of a cache, `damaged` ones too), and
    the folder where it is then empty. What is cut off is finished by `settle`."""
    with suppress(Damaged), locked(folder):
        _drop_partial(folder)
        names = [name for name, entry in read_record(folder).items() if entry.kind == kind]
        _decide(folder, [{"remove": name, "damaged": damaged} for name in names])
        _roll_forward(folder, links=False)
        _drop_partial(folder)
    with suppress(OSError):
        folder.rmdir()


def cached(folder: Path, kind: str, make: Callable[[Path], None]) -> Path:
    """A folder of zaozi's own cache, verified; made (into an empty folder that `make` is given) where it is missing or damaged.

    A second process that wants the same waits for the first. Returns the folder.
    """
    if _sound(folder):
        return folder
    output = Output(folder, kind, overwrite=True)
    with output._locked(wait=True):
        if not _sound(folder, quiet=True):
            with output._filled() as work:
                make(work)
    return folder


def _sound(folder: Path, *, quiet: bool = False) -> bool:
    """Whether a cache's folder is whole; warns where it is damaged."""
    try:
        return bool(folder.is_dir() and verified(folder))
    except Damaged as damage:
        if not quiet:
            _warn(f"{damage}; it is made again")
        return False


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def need_space(folder: Path, size: int, what: str = "") -> None:
    """Raises `ZaoziError` where the disk of a folder (that need not exist) has less than `size` bytes left for `what`."""
    free = shutil.disk_usage(_existing(folder)).free
    if free < size:
        raise ZaoziError(
            f"{what or folder} needs {size / 1e6:.0f} MB and {_existing(folder)} has {free / 1e6:.0f} MB left; free some space"
        )


def allocate(path: Path, size: int) -> None:
    """Create a file of `size` bytes whose blocks exist, so that a full disk is an error here and not a crash later."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


# -- how it is done -------------------------------------------------------------------------------------------------


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return there


def _identity(path: Path) -> tuple[int, int]:
    """What two names of one file share."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _whose(entry: Entry | None, kind: str) -> str:
    return "zaozi did not write" if entry is None else f"another command wrote ({entry.kind}, not {kind})"


def _make(folder: Path) -> list[Path]:
    """Make a folder; returns those that were not there, innermost first."""
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZaoziError(f"{folder} cannot be made ({error.strerror}); give another output folder") from None
    for path in made:
        flush_folder(path.parent)
    return made


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _record_or_none(folder: Path) -> Record:
    """The record, or an empty one where it is damaged (the user has passed --overwrite)."""
    try:
        return read_record(folder)
    except Damaged:
        return {}


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def _decide(folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write the journal, flushed and all at once: from now on its lines will be done, by this process or by the next."""
    partial = folder / PARTIAL
    partial.mkdir(exist_ok=True)
    draft = partial / (JOURNAL + ".new")
    draft.write_text("".join(map(_line, lines)), encoding="utf-8")
    flush(draft)
    os.replace(draft, partial / JOURNAL)
    flush_folder(partial)


def _journal_lines(folder: Path) -> list[dict[str, Any]]:
    lines = []
    for name in (JOURNAL, PROGRESS):
        with suppress(FileNotFoundError, UnicodeDecodeError):
            for line in (folder / PARTIAL / name).read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # the last line may be cut short: its file was not placed yet
                    lines.append(json.loads(line))
    return lines


def _roll_forward(folder: Path, *, links: bool) -> None:
    """Do what the journal says, as far as it is not done yet; `links` that lead out of the folder are followed or not."""
    lines = _journal_lines(folder)
    if not lines:
        return
    record = _record_or_none(folder)
    put = {_inside(e["put"]): Entry(**{k: v for k, v in e.items() if k != "put"}) for e in lines if "put" in e}
    for line in lines:
        name = line.get("remove")
        if name in record and name not in put:
            _remove(folder, name, record.pop(name), damaged=line.get("damaged") is True)
    for name, entry in put.items():
        work, path = folder / PARTIAL / "files" / name, folder / name
        if work.is_file() and entry.matches(work) and (links or _leads_inside(folder, path)):
            _place(work, path)
        if entry.matches(path):
            record[name] = entry
    for parent in {(folder / name).parent for name in put}:
        if parent.is_dir():
            flush_folder(parent)
    write_record(folder, record)


def _leads_inside(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _drop_partial(folder: Path) -> None:
    partial = folder / PARTIAL
    if partial.is_dir():
        for name in (JOURNAL, PROGRESS):
            (partial / name).unlink(missing_ok=True)  # first: without them nothing is decided
        shutil.rmtree(partial, ignore_errors=True)
    (folder / (RECORD + ".new")).unlink(missing_ok=True)


def _place(work: Path, path: Path) -> None:
    """Rename a flushed file into place; where a link stands its target is replaced."""
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(work, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = path.with_name(path.name + PARTIAL)
        shutil.copyfile(work, beside)
        flush(beside)
        os.replace(beside, path)
        work.unlink()


def _remove(folder: Path, name: str, entry: Entry, *, damaged: bool = False) -> None:
    """Remove a file of ours that nobody changed, and the folders that it leaves empty."""
    path = folder / name
    if path.is_symlink() or not _leads_inside(folder, path) or not path.is_file():
        return
    if not (damaged or entry.matches(path)):
        return
    path.unlink()
    for parent in PurePosixPath(name).parents:
        if str(parent) == ".":
            break
        try:
            (folder / parent).rmdir()
        except OSError:
            break
