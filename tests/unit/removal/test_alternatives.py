"""The alternatives of a plan: their figures are those of carrying each out."""

import shutil

import numpy as np
import pytest

import memsinks
from memsinks.removal.plan import make_plan
from memsinks.removal.policy import Policy
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target
from memsinks.removal.text import plan_text
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.attach import sinks_of

CEDAR = Target(documents=("cedar-0",))


def by_way(plan):
    return {own.way: own for own in plan.alternatives.ways}


@pytest.mark.parametrize("choice", [None, "remove", "keep"])
def test_figures_do_not_depend_on_the_decision_and_are_those_of_the_models(subject_of, trained, choice):
    subject = subject_of("hashed")
    planned = make_plan(subject, CEDAR, Policy(shared_rows=choice))
    found, wanted = by_way(planned.plan), planned.scope.ids
    survivors = np.setdiff1d(subject.trained, wanted)
    assert list(found) == ["remove-shared", "keep-shared", "everything", "deny", "attenuate"]

    def rows(ids, **options):
        """Rows that a removal takes out of a model in memory, and in part of each survivor."""
        model = memsinks.load(trained("hashed"))
        before = sum(len(sinks.up) for sinks in sinks_of(model))
        share = memsinks.collateral(model, wanted, survivors)
        memsinks.remove(model, ids, **options)
        return before - sum(len(sinks.up) for sinks in sinks_of(model)), share

    gone, share = rows(wanted)
    removing, keeping = found["remove-shared"], found["keep-shared"]
    assert (removing.rows, removing.stay, removing.affected) == (gone, 0, (share.lost > 0).sum())
    assert (removing.mean, removing.most) == (share.mean, share.most)
    kept, _ = rows(wanted, survivors=survivors)
    assert (keeping.rows, keeping.rows + keeping.stay) == (kept, gone)
    assert kept < gone
    assert (keeping.affected, keeping.sources, keeping.most) == (0, 0, 0)
    every, _ = rows(None)
    dropped = found["everything"]
    assert (dropped.rows, dropped.stay, dropped.survivors, dropped.mean) == (every, 0, 0, 1)
    assert (dropped.affected, dropped.sources) == (len(survivors), 3)
    for way in ("deny", "attenuate"):
        assert (found[way].rows, found[way].stay, found[way].survivors) == (0, gone, len(survivors))
    assert (found["attenuate"].mean, found["attenuate"].affected) == (share.mean, removing.affected)
    assert (found["deny"].mean, found["deny"].affected) == (0, 0)


def test_owners_of_their_rows_leave_nothing_to_choose(subject_of):
    plan = make_plan(subject_of(), CEDAR).plan
    found = by_way(plan)
    same = [(w.rows, w.stay, w.affected, w.most) for w in (found["remove-shared"], found["keep-shared"])]
    assert same == [(16, 0, 0, 0)] * 2
    assert found["attenuate"].affected == 0
    assert plan.alternatives.disjoint is None
    assert 'sinks.allocation = "disjoint"' not in plan_text(plan)


def test_rows_of_their_own_in_the_same_pool(subject_of):
    subject = subject_of("hashed")
    hint = make_plan(subject, CEDAR).plan.alternatives.disjoint
    config = subject.files.config
    assert (hint.ids, hint.pool, hint.active) == (14, config.pool, config.active)
    assert hint.own * hint.ids <= hint.pool < (hint.own + 1) * hint.ids
    # What a pool of that kind is refused without.
    enough = memsinks.SinkConfig(pool=hint.needed, active=hint.active, allocation="disjoint").resolve(64)
    assert len(AllocationTable.initial(enough).with_owners(subject.trained, hint.active).owner_ids) == hint.ids


def test_what_can_be_complete_is_what_nothing_of_the_request_stays_of(run_of, corpus):
    run = run_of("hashed")

    def complete(target, **policy):
        plan = make_plan(Subject.open(run, corpus.path), target, Policy(**policy)).plan
        return {way: (own.complete, own.hindered) for way, own in by_way(plan).items()}

    found = complete(CEDAR)
    assert [way for way, (ok, _) in found.items() if ok] == ["remove-shared", "everything"]
    assert found["keep-shared"][1] == ("shared rows stay",)
    birch = Target(sources=("birch",))
    assert complete(birch, shared_ids="keep", near_copies="remove")["remove-shared"][1] == ("--shared-ids keep",)
    assert complete(birch)["remove-shared"][0], "a decision that is open can be taken so"
    mixed = Target(documents=("web-20", "cedar-0"))
    assert complete(mixed)["remove-shared"][1] == ("--without-sinks keep",)
    shutil.copytree(run, run.parent / "sibling")
    assert [way for way, (ok, _) in complete(CEDAR).items() if ok] == []
    assert complete(CEDAR)["everything"][1] == ("other weights learned from it",)


def test_an_export_of_others_stands_only_against_dropping_all(run_of, corpus):
    run = run_of("hashed")
    other = int(corpus.sequence_ids[corpus.index("birch-0")])
    memsinks.export(memsinks.load(run), run.parent / "folded", mode=memsinks.Mode("chosen", (other,)))
    found = by_way(make_plan(Subject.open(run, corpus.path), CEDAR).plan)
    assert found["remove-shared"].complete
    assert found["everything"].hindered == ("other weights learned from it",)


def test_a_request_for_everything_has_only_the_reversible_ones_beside_it(subject_of):
    plan = make_plan(subject_of("hashed"), Target(everything=True)).plan
    found = by_way(plan)
    assert list(found) == ["everything", "deny", "attenuate"]
    assert (found["everything"].rows, found["everything"].affected) == (128, 0)
    assert found["deny"].stay == 128


def test_the_text_has_every_way_and_what_the_reversible_ones_do_not_do(subject_of):
    text = plan_text(make_plan(subject_of("hashed"), CEDAR).plan)
    table = text[text.index("## Alternatives") :]
    for words in (
        "| as asked, shared rows go | 32 | 0 |",
        "| all sinks go | 128 | 0 | 13, of 3 sources | 100.0% | 100.0% |",
        "| deny-list, reversible | 0 | 32 | none | 0.0% | 0.0% | no |",
        "Nothing leaves the files",
        "can still come out word for word",
        "shared rows stay",
        "each of 14 IDs could own 4",
    ):
        assert words in table
