"""The Hugging Face Hub: what is there, what is in the local cache, and one line where something is missing."""

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
"""Config and tokenizer: all that planning a run needs."""

ASK_SECONDS = 5.0
"""One short question comes first: the hub's client retries an unreachable host for 23 s (measured, huggingface_hub 2.4.0)."""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: Without a folder; files in folders are left out.
        size: In bytes.
        sha256: Of its content; of a small file that the hub does not hash, its git id.
    """

    name: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Located:
    """A model of the hub.

    Attributes:
        folder: Its snapshot in the local cache, with its small files at least.
        commit: The snapshot's.
        files: What the repository has; empty where the hub was not asked.
        parameters: As the hub counts them; 0 where it does not say.
        dtype: safetensors name of the dtype most parameters have, e.g. ``BF16``; empty where the hub does not say.
    """

    folder: Path
    commit: str
    files: tuple[RemoteFile, ...] = ()
    parameters: int = 0
    dtype: str = ""


def locate(hub_id: str, revision: str | None) -> Located:
    """Returns where a model's small files are, downloading them if need be; weights are not downloaded.

    Raises:
        PreflightError: No name that the hub allows, unknown, gated, or the hub is unreachable and the model is not in the local
            cache.
    """
    from huggingface_hub import errors, snapshot_download, try_to_load_from_cache
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(hub_id)
    except errors.HFValidationError as error:
        raise PreflightError(f"{hub_id!r} can be no model of the hub: {error}") from error
    info = ask(hub_id, revision, "model")
    if info is not None:
        # By branch, not by commit: only then does the client note which commit it is, for a later run without a network.
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
        PreflightError: The disk is too small for ``missing`` bytes, or the download failed.
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
    """Returns one file of a data set, from the local cache or downloaded into it.

    Raises:
        PreflightError: It is not cached, and the hub is unreachable or refuses it.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(hub_id, name, repo_type="dataset", revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    if ask(hub_id, revision, "dataset") is None:
        raise PreflightError(f"the hub is unreachable and the data set {hub_id} is not in the local cache")
    return Path(_guarded(hub_id, lambda: hf_hub_download(hub_id, name, repo_type="dataset", revision=revision)))


def ask(hub_id: str, revision: str | None, kind: Literal["model", "dataset"]) -> Any:
    """Returns what the hub says of a model (``ModelInfo``) or data set, or None where the hub cannot be reached.

    Raises:
        PreflightError: The hub answered, and there is no such model or revision, or it is gated.
    """
    from huggingface_hub import HfApi, constants, errors

    if constants.is_offline_mode():
        return None
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
        raise PreflightError(f"downloading {hub_id} failed: {error}; run the command again to go on") from error


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
    """Returns one hash over the hashes of files, by name."""
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
