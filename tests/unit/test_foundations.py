"""The package as a whole: import order, exported members, shipped data."""

import ast
import hashlib
import importlib
import inspect
import json
import shutil
import subprocess
import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
import zstandard

import memsinks
from memsinks import errors
from memsinks.data import book_file, general_file, story_file

ORDER = (
    "errors",
    "ids",
    "config",
    "data",
    "corpus",
    "stream",
    "kernels",
    "sinks",
    "checkpoint",
    "training",
    "audit",
    "baselines",
    "report",
    "runs",
    "planning",
    "ledger",
    "certificate",
    "removal",
    "inspection",
    "auditing",
    "serving",
    "experiments",
    "readiness",
    "cli",
    "__main__",
)
"""Each part may import itself and those before it; the top of the package stands above ``readiness``."""
TOP = "memsinks"
PACKAGE = Path(memsinks.__file__).parent
ROOT = Path(__file__).parents[2]
STORIES_SHA256 = "f99bb67da153a5808eed6fba08b8d060ca1c88e2de2f38544a083c8fe68dbba1"
BOOKS_SHA256 = "36421e8a62232bcfe1dbc63492b2c98cd9836933f38f3b982f2b81574acf48b4"
GENERAL_SHA256 = "446b9e49d75f657188f5867167d41fca91a0241113a9e2413ba1a05fbd539349"


def part_of(module: str) -> str:
    """The part that a module belongs to: "sinks" for ``memsinks.sinks.modes``."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else TOP


def rank(part: str) -> float:
    return ORDER.index("cli") - 0.5 if part == TOP else ORDER.index(part)


def is_part(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def imported_parts(source: str, module: str, *, is_package: bool) -> set[str]:
    """Parts of memsinks that a module's source imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {part_of(a.name) for a in node.names if a.name.split(".")[0] == TOP}
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = module.split(".")
                base = base[: len(base) - node.level + is_package]
                origin = ".".join([*base, *filter(None, [node.module])])
            if origin == TOP:
                found |= {a.name if is_part(a.name) else TOP for a in node.names}
            elif origin.startswith(f"{TOP}."):
                found.add(part_of(origin))
    return found


def modules() -> list[tuple[str, Path]]:
    named = []
    for path in sorted(PACKAGE.rglob("*.py")):
        pieces = path.relative_to(PACKAGE).with_suffix("").parts
        named.append((".".join([TOP, *(p for p in pieces if p != "__init__")]), path))
    return named


@pytest.mark.parametrize(("module", "path"), modules(), ids=[m for m, _ in modules()])
def test_imports_go_down_the_order(module, path):
    part = part_of(module)
    if part == TOP:
        return
    assert part in ORDER, f"put {part!r} in its place in ORDER"
    imported = imported_parts(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")
    above = {other for other in imported if rank(other) > rank(part)}
    assert not above, f"{module} may not import {', '.join(sorted(above))}, which come after {part}"


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import memsinks.sinks.modes", {"sinks"}),
        ("from memsinks import errors, attach", {"errors", TOP}),
        ("from ..ids import check_id", {"ids"}),
        ("from .. import ids", {"ids"}),
        ("from .schema import Results", {"report"}),
        ("from . import schema", {"report"}),
        ("def f():\n    from memsinks.cli import main", {"cli"}),
        ("import memsinks_other, torch", set()),
    ],
)
def test_the_import_reader_sees_every_form(source, parts):
    assert imported_parts(source, "memsinks.report.page", is_package=False) == parts


def test_a_package_resolves_relative_imports_from_itself():
    assert imported_parts("from .modes import Mode", "memsinks.sinks", is_package=True) == {"sinks"}
    assert imported_parts("from ..ids import check_id", "memsinks.sinks", is_package=True) == {"ids"}


def test_all_modules_can_be_imported():
    for module, _ in modules():
        if module != f"{TOP}.__main__":
            importlib.import_module(module)


def test_exported_members_exist_and_are_documented():
    assert len(set(memsinks.__all__)) == len(memsinks.__all__)
    for name in memsinks.__all__:
        member = getattr(memsinks, name)
        if inspect.isclass(member) or inspect.isroutine(member):
            assert inspect.getdoc(member), f"{name} has no docstring"
            assert member.__module__.split(".")[0] == TOP


def test_no_public_name_is_left_out_of_all():
    public = {name for name, value in vars(memsinks).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert public <= set(memsinks.__all__)


def test_the_promised_interface_is_exported():
    promised = {"SinkConfig", "attach", "load", "save", "sinks_off"}
    raised = {n for n, v in vars(errors).items() if inspect.isclass(v) and issubclass(v, errors.MemsinksError)}
    assert promised | raised <= set(memsinks.__all__)


def test_stories_are_the_file_that_was_made():
    packed = story_file().read_bytes()
    assert len(packed) <= 4_000_000
    assert hashlib.sha256(packed).hexdigest() == STORIES_SHA256


def test_stories_are_whole():
    with zstandard.open(story_file(), "rt", encoding="utf-8", newline="\n") as lines:
        rows = [json.loads(line) for line in lines]
    assert Counter(row["set"] for row in rows) == {"clean": 8126, "resplit": 6878}
    assert [row["set"] for row in rows] == sorted(row["set"] for row in rows)
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == len(rows)
    for row in rows:
        assert row.keys() == {"id", "source", "text", "set"}
        assert row["text"] == row["text"].strip() != ""
        assert row["id"].rpartition("-")[2] == hashlib.sha256(row["text"].encode()).hexdigest()[:16]


@pytest.mark.parametrize(("file", "rows_sha256"), [(book_file(), BOOKS_SHA256), (general_file(), GENERAL_SHA256)])
def test_texts_are_the_ones_that_the_licence_describes(file, rows_sha256):
    with zstandard.open(file, "rb") as lines:
        content = lines.read()
    assert hashlib.sha256(content).hexdigest() == rows_sha256
    rows = [json.loads(line) for line in content.decode().splitlines()]
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == len(rows)
    licence = (files("memsinks.data") / "LICENSE-texts.md").read_text(encoding="utf-8")
    for source, count in Counter(row["source"] for row in rows).items():
        assert f"| `{source}` | {count} |" in licence


def test_stories_come_with_their_licence():
    licence = (files("memsinks.data") / "LICENSE-stories.md").read_text(encoding="utf-8")
    for words in ("CDLA-Sharing-1.0", "TinyStories", "Eldan", "Li", "czhou578/train-gpt2", "What was changed"):
        assert words in licence


def test_the_wheel_takes_every_data_file():
    """Hatch packs whatever lies in the package and is neither ignored by git nor excluded by the settings."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    wheel = settings["targets"]["wheel"]
    assert wheel["packages"] == ["src/memsinks"]
    assert not {"exclude", "include", "only-include"} & (settings.keys() | wheel.keys())
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone")
    extra = [p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in {".py", ".pyc"}]
    assert {story_file(), book_file(), general_file()} <= set(extra)
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin"], input="\n".join(map(str, extra)), capture_output=True, text=True, cwd=ROOT
    )
    assert ignored.stdout == ""
