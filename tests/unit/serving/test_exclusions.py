"""What must stay off, as the checkpoint and the ledger say at the moment."""

import logging
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from ledger_behaviour import ENTRIES, tamper

from memsinks.checkpoint.lineage import LINEAGE, Lineage, Removal
from memsinks.ledger import Ledger
from memsinks.serving.exclusions import Exclusions

REMOVAL = Removal(
    id="r1", time="2026-01-01T00:00:00Z", everything=False, ids=1, documents=1, before="", after="", plan=""
)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "run"
    made.mkdir()
    Lineage().write(made)
    return made


@pytest.fixture
def exclusions(folder, ledger):
    return Exclusions(folder, {7}, ledger.place)


def test_nothing_is_known_before_it_was_read(exclusions):
    assert exclusions.current() is None
    exclusions.refresh()
    assert exclusions.current() == {7}


def test_denials_come_and_go(exclusions, ledger):
    soon = datetime.now(UTC) + timedelta(hours=1)
    ledger.deny([1, 2], "request 7", soon)
    exclusions.refresh()
    assert exclusions.current() == {1, 2, 7}
    ledger.allow([1, 7], "settled")
    exclusions.refresh()
    assert exclusions.current() == {2, 7}, "a removed ID cannot be allowed again"


def test_a_removal_while_it_is_served_is_noticed(exclusions, folder, caplog):
    exclusions.refresh()
    Lineage().with_removal(REMOVAL, np.array([3], np.uint64), np.array([0], np.uint64)).write(folder)
    exclusions.refresh()
    assert exclusions.current() == {3, 7}
    assert "in memory until the server is started again" in caplog.text


def test_who_takes_sinks_out_is_told_of_removals_whatever_the_ledger_says(folder, ledger, tmp_path, caplog):
    told = []
    exclusions = Exclusions(folder, {7}, ledger.place, watch=told.append)
    exclusions.refresh()
    Lineage().with_removal(REMOVAL, np.array([3], np.uint64), np.array([0], np.uint64)).write(folder)
    (tmp_path / "ledger.sqlite").unlink()
    exclusions.refresh()
    assert told == [{7}, {3, 7}]
    assert "stay off" in caplog.text
    assert "started again" not in caplog.text


def test_so_is_the_first_removal_from_a_run_without_a_lineage(tmp_path, ledger):
    exclusions = Exclusions(tmp_path, (), ledger.place)
    exclusions.refresh()
    assert exclusions.current() == set()
    Lineage().with_removal(REMOVAL, np.array([3], np.uint64), np.array([0], np.uint64)).write(tmp_path)
    exclusions.refresh()
    assert exclusions.current() == {3}


def broken_ledgers(place):
    yield "deleted", lambda: place.unlink(), "there is no ledger"
    yield (
        "no database",
        lambda: place.write_text("no database, but long enough to be read as one" * 100),
        "cannot be read",
    )
    yield "changed", lambda: tamper(str(place), f"UPDATE {ENTRIES} SET removal = 'r9' WHERE seq = 1"), "tampered"


@pytest.mark.parametrize("case", range(3))
def test_a_ledger_that_cannot_be_read_makes_everything_unknown(case, exclusions, ledger, tmp_path, caplog):
    ledger.deny([1], "request 7")
    exclusions.refresh()
    place, copy = tmp_path / "ledger.sqlite", tmp_path / "copy.sqlite"
    shutil.copyfile(place, copy)
    _, harm, words = list(broken_ledgers(place))[case]
    harm()
    for _ in range(3):
        exclusions.refresh()
    assert exclusions.current() is None
    assert words in exclusions.problem
    assert len(caplog.records) == 1, "it is said once"
    place.unlink(missing_ok=True)
    shutil.copyfile(copy, place)
    with caplog.at_level(logging.WARNING):
        exclusions.refresh()
    assert exclusions.current() == {1, 7}


def test_an_older_ledger_in_its_place_is_not_believed(exclusions, ledger, tmp_path):
    place, copy = tmp_path / "ledger.sqlite", tmp_path / "copy.sqlite"
    shutil.copyfile(place, copy)
    ledger.deny([1], "request 7")
    exclusions.refresh()
    shutil.copyfile(copy, place)
    exclusions.refresh()
    assert exclusions.current() is None
    assert "had 2 entries and now has 1" in exclusions.problem


def test_a_checkpoint_that_is_gone_makes_everything_unknown(exclusions, folder):
    exclusions.refresh()
    (folder / LINEAGE).unlink()
    exclusions.refresh()
    assert exclusions.current() is None


def test_what_was_read_long_ago_counts_for_nothing(folder, ledger):
    now = 100.0
    exclusions = Exclusions(folder, (), ledger.place, poll_seconds=2, clock=lambda: now)
    exclusions.refresh()
    now = 106.0
    assert exclusions.current() == set()
    now = 106.1
    assert exclusions.current() is None


def test_without_a_deny_list_removed_ids_stay_off(folder):
    exclusions = Exclusions(folder, {7}, None)
    exclusions.refresh()
    assert exclusions.current() == {7}


def test_a_ledger_may_be_made_later(folder, tmp_path):
    exclusions = Exclusions(folder, (), tmp_path / "later.sqlite")
    exclusions.refresh()
    assert exclusions.current() is None
    Ledger.open(tmp_path / "later.sqlite").deny([5], "request 8")
    exclusions.refresh()
    assert exclusions.current() == {5}
