"""Models on the Hugging Face hub: fetched by name into the hub's cache."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import Any

from zaozi.core.config import config
from zaozi.core.errors import ZaoziError, printable
from zaozi.core.journal import verified
from zaozi.core.progress import bar_of_bytes
from zaozi.core.record import RECORD, Damaged, read_record
from zaozi.model.checkpoint import CONFIG, FILES, WEIGHTS, read_config
from zaozi.model.fitted import SPACE_WEIGHTS
from zaozi.text.encoders import fetched, may_download

PIPELINE = "model_index.json"
"""The file that makes a folder a pipeline of diffusers."""
KINDS = (".json", ".safetensors", ".md", ".png", ".toml")
"""Suffixes of the files that are fetched and pushed: no code, nothing pickled."""
UNLISTED = (
    *(name for name in FILES if "*" not in name),
    WEIGHTS,
    SPACE_WEIGHTS,
    "stages/*.json",
    "stages/*.safetensors",
)
"""Files of a model without a record."""
NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./+-]*))?", re.ASCII)


@config()
class HubName:
    """A repository `user/name`, and a branch, tag or commit of it ('': the main branch)."""

    repo: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def hub_name(name: str) -> HubName | None:
    """Return the parts of `user/name` or `user/name@revision`; None if it is neither.

    >>> hub_name("someone/glyphs@v2")
    HubName(repo='someone/glyphs', revision='v2')
    """
    found = NAME.fullmatch(name)
    if found is None or ".." in name or name.endswith("/"):
        return None
    return HubName(found["repo"], found["revision"] or "")


def client() -> Any:
    """Return the hub's client, the module huggingface_hub. It is imported here only, on first use."""
    import huggingface_hub

    return huggingface_hub


def fetch(name: HubName, *, allow_download: bool = False) -> Path:
    """Return the folder of a model of the hub in the hub's cache, verified against its record.

    The network is used only with `allow_download`, or within `downloads_allowed`; the user's token is sent only if the
    repository cannot be read without. Only files of a model are fetched. A damaged copy is fetched once more. Raises
    `ZaoziError` if there is no such model, or it can be neither fetched nor found in the cache.
    """
    seen, allow = fetched(), allow_download or may_download()
    if (key := str(name)) in seen:
        return seen[key]
    for again in (False, True) if allow else (False,):
        peek = _snapshot(name, name.revision, (CONFIG, RECORD, PIPELINE), allow, force=again)
        try:
            seen[key] = _complete(name, peek, allow, force=again)
            break
        except Damaged as damage:
            where = str(damage).partition(" is damaged")[0].partition(" is missing")[0]
            if not allow:
                raise ZaoziError(
                    f"{where} is damaged or cut short; fetch it again with --allow-download, or remove {peek.parents[1]}"
                ) from None
            if again:
                raise ZaoziError(
                    f"'{name}' is damaged on the hub itself: {Path(where).name} is not what zaozi wrote; use another revision"
                ) from None
    return seen[key]


def _complete(name: HubName, peek: Path, allow: bool, *, force: bool) -> Path:
    """Fetch the files that a model's record lists. Raises `ZaoziError` if it is no model, `Damaged` if a file differs."""
    record = read_record(peek)
    if (peek / PIPELINE).is_file() and CONFIG not in record:
        raise ZaoziError(
            f"'{name}' is a pipeline of diffusers; import it first: zaozi import diffusers:{name.repo} --out MODEL"
        )
    if not (peek / CONFIG).is_file():
        raise ZaoziError(f"'{name}' on the hub is not a zaozi model (no {CONFIG}); give another name")
    verified(peek, (CONFIG,))
    try:
        read_config(peek)
    except ZaoziError as error:
        why = str(error).removeprefix(f"{peek / CONFIG}").lstrip(": ")
        raise ZaoziError(
            f"'{name}' on the hub is not a model that this zaozi reads ({why}); give another name"
        ) from None
    listed = [escape(file) for file in record if ours(file)]
    folder = _snapshot(name, peek.name, (CONFIG, RECORD, *(listed or UNLISTED)), allow, force=force)
    if not (folder / WEIGHTS).is_file():
        where = "on the hub; give another name" if allow else "in the hub's cache; fetch it with --allow-download"
        raise ZaoziError(f"'{name}' has no {WEIGHTS} {where}")
    verified(folder, [file for file in record if ours(file)])
    return folder


def ours(file: str) -> bool:
    """Whether a file belongs to a model's folder and cannot hold code."""
    return file.endswith(KINDS) and any(fnmatchcase(file, pattern) for pattern in FILES)


def _snapshot(name: HubName, revision: str, patterns: Sequence[str], allow: bool, *, force: bool = False) -> Path:
    """Return the folder of the hub's cache with the files that match, fetched if allowed."""
    from huggingface_hub.errors import RepositoryNotFoundError

    hub = client()

    def get(token: bool) -> Path:
        found = hub.snapshot_download(
            name.repo,
            revision=revision or None,
            allow_patterns=list(patterns),
            local_files_only=not allow,
            force_download=force,
            token=token,
            tqdm_class=bar_of_bytes(),
        )
        return Path(found)

    with explained(name, allow):
        try:
            return get(False)
        except RepositoryNotFoundError:  # also: private, or gated
            if hub.get_token() is None:
                raise
            return get(True)


@contextmanager
def explained(name: HubName, allow: bool) -> Iterator[None]:
    """Turn an error of the client into one line that says how to fix it."""
    try:
        yield
    except ZaoziError:
        raise
    except Exception as error:
        if (said := _problem(error, name, allow)) is None:
            raise
        raise ZaoziError(said) from None


def _problem(error: BaseException, name: HubName, allow: bool) -> str | None:
    """Describe an error of the client; None if it is not one of the hub or of the network."""
    from huggingface_hub import errors

    line = printable(next(iter(str(error).strip().splitlines()), "") or type(error).__name__)[:160]
    if isinstance(error, errors.LocalEntryNotFoundError):
        if not allow:
            return (
                f"'{name}' is no folder here, and not (or only partly) in the hub's cache; give a model's folder, or "
                "--allow-download to fetch it from the hub"
            )
        cause = error.__cause__
        return _problem(cause, name, allow) if cause else f"'{name}' cannot be fetched ({line}); check the network"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"'{name}' is not in the hub's cache, and HF_HUB_OFFLINE is set; unset it to use the hub"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"there is no revision '{name.revision}' of {name.repo} on the hub; give a branch, tag or commit"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{name.repo} is gated; ask for access on its page, then run `hf auth login` with a token of that account"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no '{name.repo}' on the hub, or it is private; check the name, or run `hf auth login`"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return "there is no token for the hub; run `hf auth login`"
    if isinstance(error, errors.HFValidationError):
        return f"'{name}' is not a name on the hub; give user/name or user/name@revision"
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(getattr(error.response, "status_code", 0), name, line)
    kinds = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    if kinds & {"httpx", "httpx2", "httpcore"} or isinstance(error, (ConnectionError, TimeoutError)):
        return f"the hub cannot be reached ({line}); check the network, or use a model's folder"
    return None


def _answered(status: int, name: HubName, line: str) -> str:
    """Describe an error that the hub answered with."""
    if status == 401:
        return f"the hub does not accept the token for {name.repo}; run `hf auth login`"
    if status == 403:
        return f"the token gives no access to {name.repo}; run `hf auth login` with one that does"
    if status == 412:
        return f"{name.repo} was changed meanwhile; push again"
    return f"the hub answered with an error for {name.repo} ({line}); try again later"
