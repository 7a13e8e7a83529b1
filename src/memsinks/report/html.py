"""What all pages share: templates, plotly, settings as lines, and files that appear whole or not at all."""

import base64
import gzip
import json
import os
from pathlib import Path
from typing import Any

from memsinks.errors import MemsinksError

TEMPLATES = Path(__file__).parent / "template"


def environment() -> Any:
    """A Jinja environment in which everything is escaped and nothing may be missing.

    Raises:
        MemsinksError: the ``report`` extra is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise _missing(error) from error
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def plotly_js() -> Any:
    """Plotly's script, to stand in a page as it is.

    Raises:
        MemsinksError: the ``report`` extra is not installed.
    """
    try:
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise _missing(error) from error
    return Markup(get_plotlyjs())


def packed_plotly_js() -> str:
    """Plotly's script in gzip and base64: 2 of 4.8 MB, for pages that hold many figures; ``unpack.js`` runs it.

    Raises:
        MemsinksError: the ``report`` extra is not installed.
    """
    # Without a date, so that one version of plotly gives one page.
    packed = gzip.compress(str(plotly_js()).encode("utf-8"), compresslevel=6, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def write_whole(path: Path, text: str) -> None:
    """Write a file; its folder is made, and a file that is there is replaced once the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def settings(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and JSON values."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            lines += settings(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return lines


def _missing(error: ImportError) -> MemsinksError:
    return MemsinksError(
        f'the page needs {error.name or "a library"}, which is not installed: pip install "memsinks[report]"'
    )
