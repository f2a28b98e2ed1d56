"""Models by name: a directory first, then what the Hugging Face cache holds, then the hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from modelkit.errors import ModelError
from modelkit.weights import weight_files

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "vocab.*", "tokenizer*"]


def name_of(folder: Path) -> str | None:
    """``owner/name`` of a model whose *folder* lies in the hub's cache, ``None`` for any other."""
    snapshot = folder.resolve()
    found = re.fullmatch(r"models--([\w.-]+?)--([\w.-]+)", snapshot.parent.parent.name) if snapshot.parent.name == "snapshots" else None
    return None if found is None else f"{found[1]}/{found[2]}"


def find(name: str, revision: str | None = None, say: Callable[[str], None] = lambda line: None, config_only: bool = False) -> Path:
    """The directory that holds the model *name*: a path, or ``owner/name`` on the hub at *revision* (a branch, tag or commit).

    What has been downloaded whole before is used without asking the hub, so this works offline; pickles are never downloaded.

    :param say: told before something is downloaded. :param config_only: ``config.json`` is enough.
    :raises ModelError: when there is no such directory and the hub doesn't have it or can't be reached.
    """
    path = Path(name)
    if path.exists() or (path.parent != Path() and path.parent.is_dir()) or not _REPOSITORY.fullmatch(name):
        if revision is not None:
            raise ModelError(f"--revision is for models on the hub, and {name} is a path.")
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    files = ["config.json"] if config_only else _FILES
    try:
        cached = Path(snapshot_download(name, revision=revision, allow_patterns=files, local_files_only=True))
        if _is_whole(cached, config_only):
            return cached
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    say(f"downloading {name} from the hub")
    where = f"{name} at revision {revision}" if revision else name
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except OfflineModeIsEnabled:
        raise ModelError(
            f"there is no checkpoint at {name}, and HF_HUB_OFFLINE forbids to look for it on the hub: check the path."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise ModelError(
            f"the hub doesn't give {where} ({status}): check the name and --revision, or log in with `hf auth login`."
        ) from None
    except (OSError, HFValidationError) as error:
        raise ModelError(
            f"there is no checkpoint at {name}, and the hub can't be reached ({type(error).__name__}): check the path or the connection."
        ) from None


def _is_whole(folder: Path, config_only: bool) -> bool:
    """Whether a download got as far as the weights: planning, or a look at the tokenizer, leaves a folder without them."""
    if config_only:
        return (folder / "config.json").is_file()
    try:
        weight_files(folder)
    except ModelError:
        return False
    return True
