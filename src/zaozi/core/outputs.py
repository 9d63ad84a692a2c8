"""Safe writes into folders: never overwrite files that zaozi did not write, never leave partial files, survive power loss.

Every folder that zaozi writes into has a record, `.zaozi.json`: the files it wrote there, each with its kind (the
command family that owns it), size and SHA-256. The rules of this module are based on it:

- Only a recorded file that is unmodified is ever replaced or removed. Any other file raises an error with its name before
  work starts, unless the user passes `--overwrite`. An input of a command is never its output, even then.
- New files are written to `.zaozi-partial` inside the folder, flushed to disk, listed in a journal there, and only
  then renamed into place. Any process that opens a folder with a journal completes the writes (`settle`). After a crash a
  folder contains all of the old files or all of the new ones.
- Links are followed: the target is written, the link stays. The folder may be a mounted volume.
- One process writes a folder at a time (`locks.locked`).
- Readers compare files with the record (`verified`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TextIO

from zaozi.core.disk import existing
from zaozi.core.errors import ZaoziError
from zaozi.core.files import flush, flush_folder
from zaozi.core.journal import (
    decide,
    drop_partial,
    journal_line,
    place,
    record_or_none,
    remove_file,
    roll_forward,
    settle,
    warn,
)
from zaozi.core.locks import InUse, holds, locked
from zaozi.core.record import (
    PARTIAL,
    PROGRESS,
    Damaged,
    Entry,
    Record,
    entry_of,
    inside,
    plain_entry,
    read_record,
    write_record,
)


@dataclass(frozen=True)
class Output:
    """The output of one command in one folder.

    `kind` is the owner: only files recorded with this kind are replaced. `names` are the files to write, or patterns for
    them (as in `fnmatch`, `*` also matches '/'). A `whole` folder belongs to this output only: new, empty (except for hidden
    files) or an earlier one of the same kind. `inputs` are files and folders that the command reads. With `overwrite` the user
    allows replacing foreign files of these names; other foreign files are never changed.
    """

    folder: Path
    kind: str
    names: tuple[str, ...] = ("*",)
    whole: bool = True
    inputs: tuple[Path, ...] = ()
    overwrite: bool = False
    keep: bool = False
    """Whether to keep files of an earlier command of this kind; otherwise those not written again are removed."""

    def check(self) -> None:
        """Raises `ZaoziError` naming the file if writing would change a file that zaozi did not write."""
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise ZaoziError(f"{folder} is a file; give a folder")
        there = existing(folder)
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
        """Raises `RuntimeError` if a file is not in `names`: unchecked files must not be written."""
        if not self._planned(name):
            raise RuntimeError(f"{name} is not one of the files that were checked: {', '.join(self.names)}")

    def _planned(self, name: str) -> bool:
        return any(name == pattern or fnmatchcase(name, pattern) for pattern in self.names)

    def _held(self) -> Iterator[str]:
        """Yield the relevant files in the folder by relative name: all but hidden ones, or those matching `names`."""
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
            if set(pattern) & set("*?["):  # it may also be a literal file name; both count
                yield from sorted(p.relative_to(self.folder).as_posix() for p in self.folder.glob(pattern))
            for parent in list(PurePosixPath(pattern).parents)[:-1]:
                if (self.folder / parent).exists() and not (self.folder / parent).is_dir():
                    raise ZaoziError(f"{self.folder / parent} is a file where a folder is to be; give another output")
            if (self.folder / pattern).is_symlink() or (self.folder / pattern).exists():
                yield pattern

    @contextmanager
    def open(self) -> Iterator[Writer]:
        """Check and lock the folder, and write files into place one by one.

        Files of an earlier command of this kind are removed when the first new file is written (unless `keep`). Files that
        were written stay if the block fails.
        """
        with self.lock():
            writer = Writer(self)
            try:
                yield writer
            finally:
                writer.close()

    @contextmanager
    def write(self) -> Iterator[Path]:
        """Check and lock the folder, and yield an empty folder to fill. Its files replace the earlier ones all at once on
        success; nothing changes on failure.
        """
        with self.lock(), self.fill() as work:
            yield work

    @contextmanager
    def lock(self, *, wait: bool = False) -> Iterator[None]:
        """Check and lock the folder for exclusive writing. With `wait`, wait for another process that holds the lock."""
        if not wait:
            self.check()
        made = _make(self.folder)
        with ExitStack() as stack:
            stack.callback(_remove_empty, made)
            stack.enter_context(locked(self.folder, wait=wait, say=warn))
            roll_forward(self.folder, links=False)
            drop_partial(self.folder)
            self.check()  # again, under the lock
            yield

    @contextmanager
    def fill(self) -> Iterator[Path]:
        """Yield an empty folder to fill, inside a locked folder; its files are moved into place when the block succeeds."""
        work = self.folder / PARTIAL / "files"
        work.mkdir(parents=True)
        try:
            yield work
            self._commit(work)
        finally:
            drop_partial(self.folder)

    def _commit(self, work: Path) -> None:
        umask = os.umask(0)
        os.umask(umask)
        new: Record = {}
        for path in sorted(work.rglob("*")):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)  # some libraries write private files
            if path.is_dir():
                flush_folder(path)
            else:
                flush(path)
                name = path.relative_to(work).as_posix()
                self.expect(name)
                new[name] = entry_of(path, self.kind)
        flush_folder(work)
        self.check()  # much time may have passed
        record = record_or_none(self.folder)
        old = () if self.keep else (name for name, e in record.items() if e.kind == self.kind and name not in new)
        decide(
            self.folder,
            [
                *({"remove": name} for name in old),
                *({"put": name, **plain_entry(entry)} for name, entry in new.items()),
            ],
        )
        roll_forward(self.folder, links=True)


_ADVICE = "give another output folder, or pass --overwrite"


@dataclass
class Writer:
    """Writes the files of an `Output` one by one; created by `Output.open`."""

    output: Output
    put_names: set[str] = field(default_factory=set)
    _journal: TextIO | None = None
    _record: Record = field(default_factory=dict)

    def put(self, name: str, content: bytes | str) -> Path:
        """Write one file atomically. Returns its path."""
        folder = self.output.folder
        work = folder / PARTIAL / "files" / name
        self.output.expect(name)
        self._begin()
        work.parent.mkdir(parents=True, exist_ok=True)
        work.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        flush(work)
        self._note(name, entry_of(work, self.output.kind))
        place(work, folder / name)
        return folder / name

    def remove(self, name: str) -> None:
        """Remove an unmodified file that zaozi wrote."""
        self._begin()
        assert self._journal is not None
        self._journal.write(journal_line({"remove": name}))
        if (entry := self._record.pop(name, None)) is not None:
            remove_file(self.output.folder, name, entry)

    def grow(self, name: str) -> TextIO:
        """Open a text file for appending, line by line."""
        self.output.expect(name)
        self._begin()
        self._note(name, Entry(self.output.kind, 0, "", grows=True))
        return (self.output.folder / name).open("a", encoding="utf-8", buffering=1)

    def _begin(self) -> None:
        """Before the first file: remove the files of an earlier command of this kind."""
        if self._journal is not None:
            return
        folder, output = self.output.folder, self.output
        (folder / PARTIAL / "files").mkdir(parents=True, exist_ok=True)
        self._record = record_or_none(folder)
        self._journal = (folder / PARTIAL / PROGRESS).open("w", encoding="utf-8", buffering=1)
        if not output.keep:
            for name, entry in list(self._record.items()):
                if entry.kind == output.kind:
                    self._journal.write(journal_line({"remove": name}))
                    remove_file(folder, name, entry)
                    del self._record[name]

    def _note(self, name: str, entry: Entry) -> None:
        assert self._journal is not None
        self._journal.write(journal_line({"put": inside(name), **plain_entry(entry)}))
        self._record[name] = entry
        self.put_names.add(name)

    def close(self) -> None:
        """Write the record of the written files, and flush everything to disk."""
        if self._journal is None:
            return
        self._journal.close()
        self._journal = None
        folder = self.output.folder
        for parent in {(folder / name).parent for name in self.put_names}:
            flush_folder(parent)
        write_record(folder, self._record)
        drop_partial(folder)


def file_output(path: Path, kind: str, *more: str, overwrite: bool = False, inputs: Iterable[Path] = ()) -> Output:
    """Return an output of single files: `path`, and files with other suffixes (`more`) next to it. Other files are kept."""
    names = (path.name, *(path.with_suffix(suffix).name for suffix in more))
    return Output(path.parent, kind, names, whole=False, overwrite=overwrite, inputs=tuple(inputs), keep=True)


def first_free(outputs: Iterable[Output]) -> Output:
    """Return the first output that can be written. Raises the `ZaoziError` of the first one if there is none."""
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
    """Atomically replace the text of a file that the user asked to edit; links are followed."""
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name}{PARTIAL}")
    beside.write_text(text, encoding="utf-8")
    shutil.copymode(path, beside)
    flush(beside)
    os.replace(beside, path)
    flush_folder(path.parent)


def _identity(path: Path) -> tuple[int, int]:
    """Return an identifier that all names of one file share."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _whose(entry: Entry | None, kind: str) -> str:
    return "zaozi did not write" if entry is None else f"another command wrote ({entry.kind}, not {kind})"


def _make(folder: Path) -> list[Path]:
    """Create a folder; returns the newly created folders, innermost first."""
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
