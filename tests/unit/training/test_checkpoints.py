"""Checkpoints appear whole or not at all: damage is noticed, crashes lose nothing that was there."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsinks.errors import CheckpointError
from memsinks.training import checkpoints
from memsinks.training.checkpoints import (
    SEAL,
    STAGING,
    newest,
    publish,
    remove,
    rotate,
    seal,
    verify,
    world_size,
)

FILES = {"model.safetensors": b"weights", "sub/state.json": b"{}", "empty": b""}


def write(folder: Path, files: dict[str, bytes] | None = None, *, step: int = 1, sealed: bool = True) -> Path:
    for name, content in (FILES if files is None else files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    if sealed:
        seal(folder, {"step": step, "world_size": 2})
    return folder


def saved(directory: Path, step: int, mark: bytes = b"") -> Path:
    return write(directory / f"checkpoint-{step}", {**FILES, "mark": mark}, step=step)


def staging(directory: Path, step: int, mark: bytes = b"", *, sealed: bool = True) -> Path:
    return write(directory / STAGING / f"checkpoint-{step}", {**FILES, "mark": mark}, step=step, sealed=sealed)


def steps(directory: Path) -> list[int]:
    return [int(p.name.rpartition("-")[2]) for p in checkpoints.checkpoints(directory)]


# Sealed and verified


def test_a_sealed_checkpoint_says_what_it_is(tmp_path):
    folder = write(tmp_path / "checkpoint-7", step=7)
    content = verify(folder)
    assert content["step"] == 7
    assert content["format"] == "memsinks-checkpoint"
    assert content["files"].keys() == FILES.keys()
    assert world_size(folder) == 2


def test_facts_survive_whatever_json_makes_of_them(tmp_path):
    write(tmp_path, sealed=False)
    seal(tmp_path, {"betas": (0.9, 0.1 + 0.2), "counts": {2: 1, 10: 2}, "nothing": None, "rate": 1e-300})
    content = verify(tmp_path)
    assert content["betas"] == [0.9, 0.1 + 0.2]
    assert content["counts"] == {"2": 1, "10": 2}


NAMES = st.text("abcdefg.-_", min_size=1, max_size=8).filter(lambda n: n.strip(".") and n != SEAL)
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=40), min_size=1, max_size=4)


@given(files=CONTENTS, data=st.data())
@settings(deadline=None, max_examples=80)
def test_any_damage_to_any_file_is_noticed(tmp_path_factory, files, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    write(folder, files)
    verify(folder)
    file = folder / data.draw(st.sampled_from([*sorted(files), SEAL]))
    before = file.read_bytes()
    kind = data.draw(st.sampled_from(["missing", "folder", "truncated", "longer", "flipped"]))
    if kind in ("missing", "folder"):
        file.unlink()
        if kind == "folder":
            file.mkdir()
    elif kind == "truncated" and before:
        file.write_bytes(before[: data.draw(st.integers(0, len(before) - 1))])
    elif kind == "flipped" and before:
        place, bit = data.draw(st.integers(0, len(before) - 1)), data.draw(st.integers(0, 7))
        damaged = bytearray(before)
        damaged[place] ^= 1 << bit
        file.write_bytes(bytes(damaged))
        if file.name == SEAL and same_json(bytes(damaged), before):  # another blank, say
            return
    else:
        file.write_bytes(before + data.draw(st.binary(min_size=1, max_size=3)))
        if file.name == SEAL and same_json(file.read_bytes(), before):
            return
    with pytest.raises(CheckpointError) as caught:
        verify(folder)
    assert (file.name if file.name != SEAL else str(folder)) in str(caught.value)


def same_json(left: bytes, right: bytes) -> bool:
    try:
        return json.loads(left) == json.loads(right)
    except ValueError:
        return False


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"x"', "{}", '{"files": 3}', '{"files": {"a": 3}}', "{"])
def test_a_seal_that_is_none_is_an_error_of_its_own_kind(tmp_path, text):
    folder = write(tmp_path / "checkpoint-1")
    (folder / SEAL).write_text(text)
    with pytest.raises(CheckpointError, match="checkpoint-1"):
        verify(folder)
    assert newest(tmp_path)[0] is None


def test_an_altered_fact_is_noticed(tmp_path):
    """Settings are compared with those in the seal, so a wrong one must not look like another run."""
    folder = write(tmp_path / "checkpoint-1")
    text = (folder / SEAL).read_text()
    (folder / SEAL).write_text(text.replace('"world_size": 2', '"world_size": 3'))
    assert world_size(folder) == 3
    with pytest.raises(CheckpointError, match=r"checkpoint\.json was altered"):
        verify(folder)


def test_two_swapped_files_are_noticed(tmp_path):
    folder = write(tmp_path / "c", {"a": b"1", "b": b"2"})
    (folder / "a").write_bytes(b"2")
    (folder / "b").write_bytes(b"1")
    with pytest.raises(CheckpointError, match="a was altered"):
        verify(folder)


# The newest


def test_the_newest_is_so_by_number(tmp_path):
    for step in (9, 10, 2):
        saved(tmp_path, step)
    (tmp_path / "checkpoint-99").write_text("a file")
    for name in ("checkpoint-x", "checkpoint-", "checkpoint-²", "checkpoint-12.bak", "other-50"):
        write(tmp_path / name)
    assert steps(tmp_path) == [10, 9, 2]
    assert newest(tmp_path) == (tmp_path / "checkpoint-10", [])


def test_damaged_ones_are_passed_over_and_named(tmp_path):
    for step in (1, 2, 3):
        saved(tmp_path, step)
    (tmp_path / "checkpoint-3" / "model.safetensors").write_bytes(b"weighty")
    (tmp_path / "checkpoint-2" / SEAL).unlink()
    folder, problems = newest(tmp_path)
    assert folder == tmp_path / "checkpoint-1"
    assert len(problems) == 2
    assert "checkpoint-3/model.safetensors was altered" in problems[0]
    assert "checkpoint-2 was not finished" in problems[1]
    shutil.rmtree(folder)
    assert newest(tmp_path)[0] is None
    assert newest(tmp_path / "nothing") == (None, [])


@pytest.mark.parametrize("sealed", [True, False])
def test_staging_and_graves_are_never_taken(tmp_path, sealed):
    staging(tmp_path, 5, sealed=sealed)
    write(tmp_path / f"{STAGING}-removing-checkpoint-6", step=6, sealed=sealed)
    assert steps(tmp_path) == []
    assert newest(tmp_path) == (None, [])


# Rotation


@given(present=st.sets(st.integers(0, 120), max_size=6), keep=st.integers(1, 4), data=st.data())
@settings(deadline=None, max_examples=25)
def test_rotation_keeps_the_newest_and_the_protected(tmp_path_factory, present, keep, data):
    directory = tmp_path_factory.getbasetemp() / "rotated"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for step in present:
        saved(directory, step)
    staging(directory, 500)
    write(directory / f"{STAGING}-removing-checkpoint-3")
    (directory / "metrics.jsonl").write_text("")
    protected = data.draw(st.none() | st.sampled_from(sorted(present))) if present else None
    # By another spelling of its path.
    rotate(directory, keep, None if protected is None else directory / f"../rotated/checkpoint-{protected}")
    left = set(sorted(present)[-keep:]) | ({protected} - {None})
    assert {p.name for p in directory.iterdir()} == {f"checkpoint-{s}" for s in left} | {"metrics.jsonl"}
    for step in left:
        verify(directory / f"checkpoint-{step}")


# Crashes


class CrashError(Exception):
    pass


def crashing(monkeypatch, after: int) -> list[str]:
    """Lets so many changes to the file system happen, and then none; a tree goes file by file."""
    done: list[str] = []

    def step(what: str) -> None:
        if len(done) == after:
            raise CrashError
        done.append(what)

    rename = Path.rename

    def slow_rename(self, target):
        step(f"rename {self.name} {Path(target).name}")
        return rename(self, target)

    def slow_rmtree(path, ignore_errors=False):
        path = Path(path)
        if not path.exists():
            if ignore_errors:
                return
            raise FileNotFoundError(path)
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            step(f"unlink {file.name}")
            file.unlink()
        for folder in sorted((p for p in path.rglob("*") if p.is_dir()), reverse=True):
            folder.rmdir()
        path.rmdir()

    monkeypatch.setattr(Path, "rename", slow_rename)
    monkeypatch.setattr(checkpoints.shutil, "rmtree", slow_rmtree)
    return done


def until_it_ends(directory: Path, prepare, act):
    """Runs ``act`` on a new directory with a crash after 0, 1, ... changes, until it gets through."""
    after = 0
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        prepare()
        with pytest.MonkeyPatch.context() as patch:
            crashing(patch, after)
            try:
                act()
                finished = True
            except CrashError:
                finished = False
        yield finished
        if finished:
            return
        after += 1


def mark(folder: Path) -> bytes:
    return (folder / "mark").read_bytes()


@pytest.mark.parametrize("older", [False, True], ids=["alone", "beside an older one"])
@pytest.mark.parametrize("before", [None, "whole", "damaged"])
def test_a_crash_while_publishing_loses_nothing(tmp_path, before, older):
    directory = tmp_path / "run"

    def prepare():
        if older:
            saved(directory, 4, b"older")
        if before:
            folder = saved(directory, 5, b"old")
            if before == "damaged":
                (folder / "mark").write_bytes(b"0ld")
        staging(directory, 5, b"new")

    states = []
    for _ in until_it_ends(
        directory, prepare, lambda: publish(directory / STAGING / "checkpoint-5", directory / "checkpoint-5")
    ):
        folder, problems = newest(directory)
        states.append(None if folder is None else mark(folder))
        if folder is not None:
            assert folder.name in ("checkpoint-4", "checkpoint-5")
            verify(folder)
        if before == "whole":
            assert states[-1] in (b"old", b"new")
        elif older:
            assert states[-1] in (b"older", b"new")
        # Whatever a crash left, the next save goes through, and cleans up.
        staging(directory, 6, b"next")
        publish(directory / STAGING / "checkpoint-6", directory / "checkpoint-6")
        staging(directory, 5, b"again")
        publish(directory / STAGING / "checkpoint-5", directory / "checkpoint-5")
        rotate(directory, 2)
        assert sorted(p.name for p in directory.iterdir()) == ["checkpoint-5", "checkpoint-6"]
        assert mark(directory / "checkpoint-5") == b"again"
    assert states[-1] == b"new"
    assert len(states) >= (6 if before else 2), "the crashes happened"
    assert problems == []


@pytest.mark.parametrize("action", [remove, lambda folder: rotate(folder.parent, 1)])
def test_a_crash_while_removing_leaves_no_half(tmp_path, action):
    directory = tmp_path / "run"

    def prepare():
        saved(directory, 4, b"old")
        saved(directory, 5, b"new")
        staging(directory, 6)

    count = 0
    for finished in until_it_ends(directory, prepare, lambda: action(directory / "checkpoint-4")):
        count += 1
        assert newest(directory) == (directory / "checkpoint-5", [])
        for folder in checkpoints.checkpoints(directory):
            verify(folder)
        if finished:
            assert steps(directory) == [5]
        rotate(directory, 1)
        assert [p.name for p in directory.iterdir()] == ["checkpoint-5"]
    assert count >= 6


def test_one_that_made_way_comes_back_under_its_name(tmp_path):
    """The process died between the two renames of publishing step 5 again."""
    aside = saved(tmp_path, 5, b"old").rename(tmp_path / f"{STAGING}-replaced-checkpoint-5")
    staging(tmp_path, 5, b"new", sealed=False)
    assert steps(tmp_path) == [5]
    folder, problems = newest(tmp_path)
    assert (folder, problems) == (tmp_path / "checkpoint-5", [])
    assert mark(folder) == b"old"
    assert not aside.exists()
    # Beside its successor it is only a leftover.
    saved(tmp_path, 6).rename(tmp_path / f"{STAGING}-replaced-checkpoint-5")
    assert steps(tmp_path) == [5]
    assert mark(newest(tmp_path)[0]) == b"old"
    rotate(tmp_path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-5"]


def test_removing_takes_the_name_first(tmp_path, monkeypatch):
    folder = saved(tmp_path, 5)
    seen = []
    real = shutil.rmtree

    def watch(path, **options):
        seen.append((Path(path).name, folder.exists()))
        real(path, **options)

    monkeypatch.setattr(checkpoints.shutil, "rmtree", watch)
    remove(folder)
    assert seen[-1] == (f"{STAGING}-removing-checkpoint-5", False)
    assert list(tmp_path.iterdir()) == []
