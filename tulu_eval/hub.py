"""Finds and downloads files of the Hugging Face Hub and its local cache; a missing one gives a one-line error."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tulu_eval.errors import PreflightError

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

SMALL_FILES = ["*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
"""Patterns of the config and tokenizer files, which are enough to plan a run."""

ASK_SECONDS = 5.0
"""Timeout in seconds of a first request; the hub's client retries an unreachable host for 23 s (huggingface_hub 2.4.0)."""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: File name; files in folders are left out.
        size: Size in bytes; 0 if the hub does not give it.
        sha256: Hash of the content; for a small file, which the hub does not hash, the git blob id.
    """

    name: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Located:
    """A model of the hub.

    Attributes:
        folder: The snapshot in the local cache; it has at least the small files.
        files: Files of the repository; empty if the hub was not asked.
        parameters: Number of parameters; 0 if the hub does not give it.
        dtype: safetensors name of the dtype of most parameters, e.g. ``BF16``; empty if the hub does not give it.
    """

    folder: Path
    commit: str
    files: tuple[RemoteFile, ...] = ()
    parameters: int = 0
    dtype: str = ""


def locate(hub_id: str, revision: str | None) -> Located:
    """Returns the location of a model's small files; downloads them if needed, but never weights.

    Raises:
        PreflightError: If the hub does not allow such a name, the model is unknown or gated, or the hub is unreachable and the
            model is not in the local cache.
    """
    from huggingface_hub import errors, try_to_load_from_cache
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(hub_id)
    except errors.HFValidationError as error:
        raise PreflightError(f"{hub_id!r} can be no model of the hub: {error}") from error
    info = ask(hub_id, revision, "model")
    if info is not None:
        from huggingface_hub import snapshot_download  # which imports the client of the hub, 0.3 s

        # By branch, not by commit: only then does the client store the branch's commit for a later run without a network.
        folder = Path(_guarded(hub_id, lambda: snapshot_download(hub_id, revision=revision, allow_patterns=SMALL_FILES)))
        counts = info.safetensors.parameters if info.safetensors else {}
        common = max(counts, key=lambda name: counts[name], default="")
        return Located(folder, folder.name, _files(info), sum(counts.values()), common)
    cached = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    if not isinstance(cached, str):
        at = f" at revision {revision}" if revision else ""
        raise PreflightError(
            f"the hub is unreachable and {hub_id} is not in the local cache{at}; "
            f"with a network, run 'hf download {hub_id}' first, or give a local folder"
        )
    folder = Path(cached).parent
    return Located(folder, folder.name)


def download(hub_id: str, commit: str, names: Sequence[str], missing: int) -> None:
    """Downloads files of a model into the local cache, with the hub client's progress bars.

    Raises:
        PreflightError: If the disk has less than ``missing`` bytes free, or the download fails.
    """
    from huggingface_hub import constants, snapshot_download

    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < missing:
        raise PreflightError(
            f"{hub_id} needs {missing / 1e9:.1f} GB in {cache}, which has {free / 1e9:.1f} GB free; set HF_HOME"
        )
    _guarded(hub_id, lambda: snapshot_download(hub_id, revision=commit, allow_patterns=list(names)))


def dataset_file(hub_id: str, name: str, revision: str | None = None) -> Path:
    """Returns the path of one file of a data set in the local cache; downloads the file if needed.

    Raises:
        PreflightError: If the file is not cached and the hub is unreachable or refuses it.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(hub_id, name, repo_type="dataset", revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    if ask(hub_id, revision, "dataset") is None:
        raise PreflightError(f"the hub is unreachable and the data set {hub_id} is not in the local cache")
    return Path(_guarded(hub_id, lambda: hf_hub_download(hub_id, name, repo_type="dataset", revision=revision)))


def ask(hub_id: str, revision: str | None, kind: Literal["model", "dataset"]) -> Any:
    """Returns the hub's information about a model (``ModelInfo``) or data set; ``None`` if the hub is unreachable.

    Raises:
        PreflightError: If the hub answers that there is no such repository or revision, or that it is gated.
    """
    from huggingface_hub import constants, errors

    if constants.is_offline_mode():
        return None
    from huggingface_hub import HfApi

    try:
        return HfApi().repo_info(hub_id, revision=revision, repo_type=kind, timeout=ASK_SECONDS, files_metadata=kind == "model")
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise _refusal(hub_id, revision, error) from error
    except errors.HfHubHTTPError as error:
        if error.response.status_code >= 500:
            return None
        raise _refusal(hub_id, revision, error) from error
    except (errors.HTTPError, OSError):  # type: ignore[attr-defined]  # the base of its HTTP library's errors
        return None


def _guarded(hub_id: str, call: Callable[[], str]) -> str:
    from huggingface_hub import errors

    try:
        return call()
    except errors.HfHubHTTPError as error:
        raise _refusal(hub_id, None, error) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise PreflightError(f"downloading {hub_id} failed: {error}; run the command again to resume") from error


def _refusal(hub_id: str, revision: str | None, error: Exception) -> PreflightError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return PreflightError(f"{hub_id} is gated: accept its licence on its page and log in with 'hf auth login'")
    if isinstance(error, RevisionNotFoundError):
        return PreflightError(f"{hub_id} has no revision {revision!r}")
    if isinstance(error, RepositoryNotFoundError):
        return PreflightError(f"the hub has no public repository {hub_id}; if it is private, log in with 'hf auth login'")
    return PreflightError(f"the hub refused {hub_id}: {error}")


def _files(info: ModelInfo) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else file.blob_id or "")
        for file in info.siblings or []
        if "/" not in file.rfilename
    )


def combined_sha256(hashes: dict[str, str]) -> str:
    """Returns one sha256 over the names and hashes of files, sorted by name."""
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
