"""Push a released model to the Hugging Face hub: its own files, their record, and its card as README.md."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zaozi.core.config import config
from zaozi.core.errors import ZaoziError, printable
from zaozi.core.files import as_json, sha256
from zaozi.core.journal import verified
from zaozi.core.progress import bar_of_bytes
from zaozi.core.record import RECORD, Record, entry_of, read_record, write_record
from zaozi.model import hub
from zaozi.model.checkpoint import CONFIG, MODEL, STATE, WEIGHTS, find_model, read_config
from zaozi.model.hub import HubName, explained, hub_name, ours
from zaozi.model.release import in_markdown

CARD, README = "card.md", "README.md"


@config()
class Push:
    """Where a model is pushed to: a branch ('': main) of a repository, and how."""

    private: bool = False
    """Whether a new repository is private."""
    revision: str = ""
    message: str = ""
    overwrite: bool = False
    """Whether files that zaozi did not write are replaced."""


def push(model: str, to: str, how: Push) -> str:
    """Upload a released model's own files to the repository `to` of the hub, with its card as README.md.

    The files are those that the folder's record lists. Files of an earlier push that the model no longer has are removed.
    Returns a one-line summary with the address. Raises `ZaoziError` if the model is a checkpoint or damaged, if there is no
    token, or if the repository holds a file of the same name that zaozi did not write (unless `how.overwrite`).
    """
    name = hub_name(to)
    if name is None or name.revision:
        raise ZaoziError(f"'{to}' is not a name on the hub; give user/name, and a branch with --revision")
    folder = find_model(model)
    files = _files(folder)
    client = hub.client()
    if client.get_token() is None:
        raise ZaoziError("there is no token for the hub; run `hf auth login` with a token that may write")
    api = client.HfApi(token=True)
    with TemporaryDirectory() as work, explained(HubName(name.repo, how.revision), True), _quiet():
        staged = _stage(folder, files, Path(work))
        head, former = _checked(api, name.repo, how, Path(work))
        address = api.create_repo(name.repo, private=how.private or None, exist_ok=True)
        if how.revision:
            api.create_branch(name.repo, branch=how.revision, revision=head, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name.repo,
            folder_path=work,
            allow_patterns=[escape(file) for file in staged],
            delete_patterns=[escape(file) for file in former] or None,
            revision=how.revision or None,
            commit_message=how.message or f"Upload {printable(read_config(folder).name)}",
            parent_commit=head,
        )
        size = sum((Path(work) / file).stat().st_size for file in staged)
    return f"{len(staged)} files, {size / 1e6:.1f} MB: {commit.commit_url if how.revision else address}"


def _files(folder: Path) -> list[str]:
    """Return the files of a released model that its record lists, verified. Raises `ZaoziError`."""
    if (folder / STATE).is_file():
        raise ZaoziError(f"{folder} is a checkpoint of a training run; release it first: zaozi model release")
    record = read_record(folder)
    verified(folder, [file for file in record if file != CARD])  # which may be edited
    files = [file for file, entry in record.items() if ours(file) and not entry.grows and (folder / file).is_file()]
    for needed in (CONFIG, WEIGHTS):
        if needed not in files:
            raise ZaoziError(f"{folder} has no record of {needed}; push the folder of zaozi model release")
    where = read_config(folder).text.encoder.partition(":")[2]
    if Path(where).is_absolute() or (where and (folder / where).is_dir() and f"{where}/{CONFIG}" not in files):
        raise ZaoziError(
            f"{folder} reads texts with the folder {where}, which is not pushed; release it as a model, or train with an "
            "encoder that is on the hub"
        )
    return files if CARD in files or not (folder / CARD).is_file() else [*files, CARD]


def _stage(folder: Path, files: Sequence[str], work: Path) -> list[str]:
    """Fill a folder as the repository is to be: links to the files, their record, and the card as README.md."""
    own, record = read_record(folder), Record()
    for file in files:
        (work / file).parent.mkdir(parents=True, exist_ok=True)
        (work / file).symlink_to((folder / file).resolve())
        record[file] = entry_of(work / file, MODEL) if file == CARD else own[file]
    card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
    (work / README).write_text(readme(card, read_config(folder).name), encoding="utf-8")
    write_record(work, record)
    values = json.loads((work / RECORD).read_text(encoding="utf-8"))
    (work / RECORD).write_text(as_json(values | {"readme": sha256(work / README)}), encoding="utf-8")
    return [*files, README, RECORD]


def _checked(api: Any, repo: str, how: Push, work: Path) -> tuple[str | None, list[str]]:
    """Return the commit that the push follows (None: a new repository), and files of an earlier push that are to go.

    Raises `ZaoziError` naming the first file that would be replaced and that zaozi did not write.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = api.repo_info(repo, revision=how.revision or None, files_metadata=True)
    except RevisionNotFoundError:
        info = api.repo_info(repo, files_metadata=True)  # which the new branch begins with
    except RepositoryNotFoundError:
        return None, []
    if how.private and not info.private:
        raise ZaoziError(f"{repo} exists and is public; make it private on its page, or leave out --private")
    there = {file.rfilename: file for file in info.siblings}
    planned = {path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file()}
    theirs, known = _their_record(repo, info.sha, there.keys())
    head: str = info.sha
    changed = [
        file for file in sorted(planned & there.keys()) if file != RECORD and not _same(work / file, there[file])
    ]
    former = [file for file in sorted(known.keys() - planned) if file in there and ours(file)]
    small = [file for file in (*changed, *former) if file in known and not there[file].lfs]
    copy = theirs if not small else _at(repo, head, small)

    def untouched(file: str) -> bool:
        if (lfs := there[file].lfs) is not None:
            return bool(lfs.sha256 == known[file])
        return copy is not None and (copy / file).is_file() and sha256(copy / file) == known[file]

    if not how.overwrite:
        for file in changed:
            if file not in known or not untouched(file):
                what = "was changed since zaozi wrote it" if file in known else "is not from zaozi"
                raise ZaoziError(f"{printable(file)} of {repo} {what}; push to another name, or pass --overwrite")
        if RECORD in there and not known:
            raise ZaoziError(f"{RECORD} of {repo} is not from zaozi; push to another name, or pass --overwrite")
    return head, [file for file in former if untouched(file)]


def _their_record(repo: str, head: str, there: Collection[str]) -> tuple[Path | None, dict[str, str]]:
    """Return a folder with the repository's record, and the SHA-256 of each file that zaozi pushed."""
    if RECORD not in there:
        return None, {}
    folder = _at(repo, head, [RECORD])
    try:
        known = {file: entry.sha256 for file, entry in read_record(folder).items()}
        if isinstance(own := json.loads((folder / RECORD).read_text(encoding="utf-8")).get("readme"), str):
            known[README] = own
    except (ZaoziError, OSError, ValueError):
        known = {}
    return folder, known


def _at(repo: str, commit: str, files: Sequence[str]) -> Path:
    """Return a folder with small files of a commit."""
    patterns = [escape(file) for file in files]
    return Path(
        hub.client().snapshot_download(
            repo, revision=commit, allow_patterns=patterns, token=True, tqdm_class=bar_of_bytes()
        )
    )


def _same(path: Path, theirs: Any) -> bool:
    """Whether a file of the hub has the content of a local one."""
    return bool(theirs.lfs.sha256 == sha256(path) if theirs.lfs else theirs.blob_id == git_id(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Show the client's own progress bars only on a terminal."""
    utils = hub.client().utils
    if sys.stderr.isatty() or utils.are_progress_bars_disabled():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the environment has the last word
        utils.disable_progress_bars()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            utils.enable_progress_bars()


def git_id(path: Path) -> str:
    """Return the name that git gives to a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def readme(card: str, name: str) -> str:
    """Return a model's card as the hub reads it, with metadata before it; a card that has metadata stays as it is."""
    if card.startswith("---\n"):
        return card
    licence = ["license: apache-2.0"] if "licensed under Apache-2.0" in card else []
    lines = ["library_name: zaozi", "pipeline_tag: text-to-image", *licence, "tags:", "- diffusion"]
    return "\n".join(["---", *lines, "---", "", card or f"# {in_markdown(name)}\n"])
