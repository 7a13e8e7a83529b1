"""``audit.json``: what an audit found, with everything that a report needs.

============== =====================================================================================================
format         ``memsinks-audit``; ``format_version`` counts changes that a reader has to know of
time           UTC, ISO 8601
run            name, family and parameters of the model, hash of the corpus
target         what was asked about, whether it was removed before, documents, whether these are all of it, tokens,
               sources, exposures, and the SHA-256 of its documents' content IDs, sorted
unseen         the text it is compared with, likewise
conditions     name, a sentence, name of the model, and whether sinks were removed in memory alone, for each
lineage        trainings and removals of a checkpoint with sinks, else null
figures        see :class:`memsinks.audit.findings.Figure`; ``curves``, ``documents`` and ``examples`` likewise
left_out       tasks that a budget left out, and why
verdicts       see :class:`memsinks.auditing.verdicts.Verdict`
limits         what the audit does not show, in sentences
config         settings, versions, seconds
============== =====================================================================================================
"""

import json
from pathlib import Path
from typing import Any

from memsinks.audit.findings import Findings
from memsinks.errors import InputError

AUDIT = "audit.json"
FORMAT, FORMAT_VERSION = "memsinks-audit", 1
_KEYS = (
    "time", "run", "target", "unseen", "conditions", "lineage", "figures", "curves", "documents", "examples",
    "left_out", "verdicts", "limits", "config", "versions", "seconds",
)  # fmt: skip


def read_audit(file: Path) -> dict[str, Any]:
    """Read an audit; a folder stands for the ``audit.json`` in it.

    Raises:
        InputError: it is none, or of a newer format.
    """
    file = file / AUDIT if file.is_dir() else file
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as an audit ({error}); give what `memsinks audit` wrote") from error
    return check_audit(content, file)


def write_audit(content: dict[str, Any], file: Path) -> None:
    """Write an audit; the file appears whole or not at all."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
    part.replace(file)


def check_audit(content: Any, file: Path) -> dict[str, Any]:
    """The content itself, if it is an audit.

    Raises:
        InputError: it is none, or of a newer format.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{file}: is not an audit; give what `memsinks audit` wrote")
    if content.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{file} has format version {content.get('format_version')}; this version of memsinks reads "
            f"{FORMAT_VERSION}"
        )
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise InputError(f"{file}: has no {missing[0]!r}; it was altered: audit again")
    try:
        Findings.from_json(content)
    except ValueError as error:
        raise InputError(f"{file}: its figures cannot be read ({error}); it was altered: audit again") from error
    return content
