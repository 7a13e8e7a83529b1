"""How every matplotlib figure looks, and how it is written: the same data give the same bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from memsinks.errors import MemsinksError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Format = Literal["png", "svg"]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's, told apart with any colour vision; lines differ in style or label too."""

GREY = "#8a8a8a"

_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "axes.axisbelow": True,
    "savefig.dpi": 150,
    "svg.fonttype": "path",
    "svg.hashsalt": "memsinks",
}


@contextmanager
def styled() -> Iterator[None]:
    """Figures made and saved inside the block have the project's style.

    Raises:
        MemsinksError: matplotlib is not installed.
    """
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        # Of the defaults, not of the user's settings file, which would change the bytes.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def save_figure(figure: "Figure", file: Path, file_format: Format = "png") -> Path:
    """Write a figure; the file appears whole or not at all."""
    temporary = file.with_name(f".{file.name}.tmp")
    # Version and date would make the bytes differ from one machine or day to the next.
    metadata = {"Software": None} if file_format == "png" else {"Date": None, "Creator": None}
    figure.savefig(temporary, format=file_format, metadata=metadata)
    temporary.replace(file)
    return file


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise MemsinksError(
            f'figures need {error.name or "matplotlib"}, which is not installed: pip install "memsinks[report]"'
        ) from error
    return matplotlib
