"""Upload a checkpoint from its folder, without loading it."""

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from memsinks.checkpoint.card import CARD
from memsinks.checkpoint.export import RECORD as EXPORT
from memsinks.checkpoint.lineage import LINEAGE, REMOVED, TRAINED
from memsinks.checkpoint.run import NOT_VERIFIED
from memsinks.errors import CheckpointError, InputError
from memsinks.sinks.files import METADATA, TENSORS, read_metadata

PLAIN = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    CARD,
)
"""Names of files that ordinary loaders read, and the card. Nothing else of a run leaves this machine: its plan names
documents, and its lists of IDs let anyone confirm that a text was trained on."""
SINKS = (TENSORS, METADATA, LINEAGE, TRAINED, REMOVED)
"""What loading with sinks, and training on from there without removed text, needs besides."""


def files_to_push(folder: Path, *, include_sinks: bool = False) -> list[Path]:
    """The files that :func:`push` uploads, sorted.

    Args:
        folder: a run, a checkpoint or an export.
        include_sinks: the sinks too.

    Raises:
        InputError: the folder holds no checkpoint, one whose removal was not verified, or an export with sinks in its
            weights and ``include_sinks`` is not given.
        CheckpointError: the sinks are asked for and are not whole, or an export's record cannot be read.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no checkpoint (no config.json); give the folder that holds one")
    if (folder / NOT_VERIFIED).is_file():
        raise InputError(
            f"{folder}: a removal made this, and its verification did not pass ({NOT_VERIFIED}); it is not to be "
            "published. Plan the removal again, or retrain"
        )
    folded = _folded(folder)
    if folded and not include_sinks:
        raise InputError(
            f"{folder}: an export with sinks {folded} folded into its weights, so the plain files hold what these "
            "remember; export with --mode off, or give --include-sinks to publish it all the same"
        )
    if include_sinks and not folded:
        read_metadata(folder)
    wanted = (*PLAIN, *SINKS) if include_sinks else PLAIN
    return sorted(
        path for path in folder.iterdir() if path.is_file() and any(fnmatch(path.name, name) for name in wanted)
    )


def push(folder: Path, repo_id: str, *, include_sinks: bool = False, private: bool | None = None) -> list[str]:
    """Upload a checkpoint to the Hugging Face Hub in one commit; without its sinks, unless told.

    Args:
        folder: a run, a checkpoint or an export.
        repo_id: of the repository, which is made if it is not there.
        include_sinks: upload the sinks and the lineage too.
        private: make the repository private, if it has to be made; None leaves it to the Hub's setting.

    Returns:
        Lines that say what was uploaded, and a warning if the repository has sinks from before.

    Raises:
        InputError: see :func:`files_to_push`; or the Hub refused, or cannot be reached.
        CheckpointError: see :func:`files_to_push`.
    """
    files = files_to_push(folder, include_sinks=include_sinks)
    # Seconds to import, and only a push needs it.
    from httpx import HTTPError
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        stale = not include_sinks and api.file_exists(repo, TENSORS)
        operations: Sequence[Any] = [CommitOperationAdd(file.name, file) for file in files]
        message = "Upload checkpoint with sinks" if include_sinks else "Upload checkpoint, sinks off"
        api.create_commit(repo, operations, commit_message=message)
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{repo_id}: cannot be uploaded to ({reason}); check the name, the network and `hf auth login`"
        ) from error
    size = sum(file.stat().st_size for file in files)
    lines = [
        f"{repo}: {len(files)} files, {size / 1e6:,.1f} MB, {'with their sinks' if include_sinks else 'sinks off'}",
        ", ".join(file.name for file in files),
    ]
    if stale:
        lines.append(
            f"warning: {repo} has {TENSORS} from an earlier upload, which was left as it is; delete it there, and its "
            "history, if it must not be had"
        )
    return lines


def _folded(folder: Path) -> str | None:
    """The mode whose sinks are in an export's weights, if any."""
    file = folder / EXPORT
    if not file.is_file():
        return None
    try:
        mode = json.loads(file.read_text("utf-8"))["mode"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); export again") from error
    return None if mode == "off" else str(mode)
