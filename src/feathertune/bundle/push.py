"""Push a bundle to the hub in a single commit, so that a download never mixes two bundles."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from feathertune.bundle.files import MANIFEST_FILE, BundleInfo, bundle_files, write_info
from feathertune.bundle.load import load_bundle
from feathertune.errors import BundleError, HubError, first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TOKEN = "Log in with `hf auth login`, or set HF_TOKEN to a token with write access"


@dataclass(frozen=True)
class Pushed:
    """Result of a push, with notes about loading the bundle."""

    url: str
    revision: str
    commit: str
    files: int
    notes: tuple[str, ...] = ()


def push_bundle(
    bundle: str | Path,
    repo_id: str,
    *,
    revision: str = "main",
    public: bool = False,
    message: str | None = None,
    base: str | None = None,
) -> Pushed:
    """Upload a bundle as one commit, after loading it as a check.

    Args:
        bundle: The bundle's folder.
        repo_id: ``OWNER/NAME``; created if missing.
        revision: Branch name; created if missing.
        public: Create the repository as public; an existing repository keeps its visibility.
        message: Commit message.
        base: Path of the base model, if it moved.

    Raises:
        BundleError: If the bundle is incomplete or damaged, or names an absolute path.
        HubError: If the hub rejects the push or cannot be reached, or the repository contains other files.
    """
    folder = Path(bundle)
    info = load_bundle(folder, base=base).info
    notes = _portable(folder, info)
    message = message or f"feathertune bundle: {info.method} on {info.base.id}"
    with tempfile.TemporaryDirectory() as scratch:
        place = _without_path(folder, info, Path(scratch) / "bundle") if notes else folder
        return _upload(place, repo_id, revision, message, public=public, notes=notes)


def _without_path(folder: Path, info: BundleInfo, copy: Path) -> Path:
    """Return the bundle, or if its path to the base model names folders, a copy that expects it next to the bundle."""
    local = PurePosixPath(str(info.base.local))
    sibling = PurePosixPath("..", local.name)
    if local == sibling:
        return folder
    shutil.copytree(folder, copy)
    write_info(copy, info.model_copy(update={"base": info.base.model_copy(update={"local": str(sibling)})}))
    return copy


def _upload(folder: Path, repo_id: str, revision: str, message: str, *, public: bool, notes: tuple[str, ...]) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(library_name="feathertune")
    ours = {**bundle_files(folder), MANIFEST_FILE: folder / MANIFEST_FILE}
    with _told(repo_id, revision):
        # Ignore the organisation's default: a repository private by mistake can be opened, a leak cannot be undone.
        url = api.create_repo(repo_id, private=not public, exist_ok=True)
        repo_id = url.repo_id
        if revision != "main":
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        done = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in ours.items()),
                *(CommitOperationDelete(path_in_repo=name) for name in _left_over(api, repo_id, revision, set(ours))),
            ],
            commit_message=message,
            revision=revision,
        )
    return Pushed(url=str(url), revision=revision, commit=done.oid, files=len(ours), notes=notes)


def _portable(folder: Path, info: BundleInfo) -> tuple[str, ...]:
    """Return notes on what other users need to load the bundle; reject an absolute path."""
    local = info.base.local
    if info.kind == "full" or local is None:
        return ()
    if PurePosixPath(local).is_absolute() or PureWindowsPath(local).is_absolute():
        raise BundleError(
            f"The bundle {folder} refers to its base model by an absolute path, {local}. "
            "Train again with this version, which writes a relative path."
        )
    return (
        f"The base model '{info.base.id}' is a local folder, so others cannot load this bundle without it. Share that "
        "folder, or export the bundle with --to merged and push the result.",
    )


def _left_over(api: HfApi, repo_id: str, revision: str, ours: set[str]) -> list[str]:
    """Return an older bundle's files in the repository; reject a repository with other files."""
    there = set(api.list_repo_files(repo_id, revision=revision))
    others = {name for name in there - ours if not any(part.startswith(".") for part in PurePosixPath(name).parts)}
    if others and MANIFEST_FILE not in there:
        raise HubError(
            f"The repository {repo_id} contains {len(others)} files that do not belong to a bundle, such as "
            f"{min(others)}. Nothing was changed. Pass another REPO_ID or another --revision."
        )
    return sorted(others)


@contextlib.contextmanager
def _told(repo_id: str, revision: str) -> Iterator[None]:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise HubError(
            f"'{repo_id}' is not a valid repository name: {first_line(error)}. Expected OWNER/NAME."
        ) from error
    except OfflineModeIsEnabled as error:
        raise HubError("Cannot push while HF_HUB_OFFLINE is set. Unset it for this command.") from error
    except RevisionNotFoundError as error:
        raise HubError(f"The repository {repo_id} has no revision '{revision}'.") from error
    except HfHubHTTPError as error:
        said = (error.server_message or first_line(error)).rstrip(".")
        raise HubError(_refusal(repo_id, error.response.status_code, said)) from error
    except ValueError as error:  # for example, an invalid model card
        raise HubError(f"The hub rejected the bundle: {' '.join(str(error).split())}") from error
    except Exception as error:
        if not type(error).__module__.partition(".")[0].startswith("httpx"):  # any version of the client
            raise
        raise HubError(
            f"Cannot reach the hub at {constants.ENDPOINT}: {first_line(error)}. "
            "Check the network connection, and HF_ENDPOINT if it is set."
        ) from error


def _refusal(repo_id: str, status: int, said: str) -> str:
    known = {
        401: f"You are not logged in to the hub (401), so nothing was pushed to {repo_id}. {_TOKEN}.",
        403: f"You do not have write access to {repo_id} (403: {said}). {_TOKEN}.",
        404: f"The hub cannot find {repo_id} (404: {said}). Check the spelling of the owner.",
    }
    return known.get(status, f"The hub rejected the push to {repo_id} ({status}: {said}).")
