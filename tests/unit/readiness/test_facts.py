"""What is repeated, governed and copied, counted by hand on planted corpora."""

from memsinks.readiness.facts import text_facts
from memsinks.readiness.suitability import suitability
from tests.unit.readiness.conftest import prepared, rows, text

GOVERNED = {"govern": "sources", "govern_values": ["press"]}


def facts_of(planned, corpus, exposures=None):
    return text_facts(planned(corpus, exposures)[1].text)


def test_clean_text_is_ready(tmp_path, planned):
    corpus = prepared(tmp_path, rows(4, "press") + rows(6, "web", 100))
    facts = facts_of(planned, corpus, GOVERNED | {"repeat": ["press-0", "press-1", "press-2", "press-3"], "times": 5})
    sizes = dict(zip(corpus.documents, corpus.lengths.tolist(), strict=True))
    press = 5 * sum(size for name, size in sizes.items() if name.startswith("press"))
    assert (facts.documents, facts.governed_documents, facts.most_seen) == (10, 4, 5)
    assert facts.governed_tokens == facts.repeated_tokens == facts.repeated_governed == press
    assert facts.tokens == press + sum(size for name, size in sizes.items() if name.startswith("web"))
    assert suitability(facts).verdict == "ready"


def test_a_copy_that_trains_with_sinks_off_is_grave(tmp_path, planned):
    documents = rows(4, "press") + rows(6, "web", 100)
    documents[5]["text"] = documents[1]["text"].upper()
    corpus = prepared(tmp_path, documents)
    facts = facts_of(planned, corpus)
    assert facts.copies == ["web-1"]
    assert facts.copies_tokens == int(corpus.lengths[corpus.index("web-1")])
    found = suitability(facts)
    assert found.verdict == "not ready"
    assert "'web-1'" in found.says


def test_copies_together_make_a_text_repeated(tmp_path, planned):
    documents = rows(4, "press") + rows(6, "web", 100)
    for i in (5, 6, 7):
        documents[i]["text"] = documents[4]["text"]
    facts = facts_of(planned, prepared(tmp_path, documents))
    assert facts.most_seen == 4
    assert facts.repeated_loose == ["web-0"]
    assert facts.repeated_governed == 0 < facts.repeated_tokens
    assert suitability(facts).verdict == "attention"


def test_epochs_alone_repeat_nothing(tmp_path, planned):
    corpus = prepared(tmp_path, rows(4, "press") + rows(6, "web", 100))
    facts = facts_of(planned, corpus, GOVERNED | {"epochs": 3})
    assert facts.most_seen == 3
    assert facts.repeated_tokens == 0
    assert "No text is seen more often" in suitability(facts).says


def test_text_that_may_be_recalled_has_to_be_governed(tmp_path, planned):
    documents = rows(4, "press", deletion_terms="30 days") + rows(5, "web", 100, deletion_terms=None)
    documents[6]["deletion_terms"] = "on request"
    facts = facts_of(planned, prepared(tmp_path, documents))
    assert (facts.with_terms, facts.with_terms_loose) == (5, ["web-2"])
    found = suitability(facts)
    assert found.verdict == "not ready"
    assert "1 document with deletion terms trains with sinks off ('web-2')" in found.says


def test_a_shared_clause_is_counted_once_a_pair(tmp_path, planned):
    documents = rows(4, "press") + rows(6, "web", 100)
    clause = text(999, 40)
    for i in (0, 6):
        documents[i]["text"] += " " + clause
    facts = facts_of(planned, prepared(tmp_path, documents))
    assert facts.passages == 1
    assert not facts.copies
    assert "1 pair of a governed and another document shares a passage" in suitability(facts).says


def test_text_left_out_of_the_plan_does_not_count(tmp_path, planned):
    documents = rows(4, "press") + rows(6, "web", 100)
    documents[5]["text"] = documents[1]["text"]
    weights = {"press": 1.0, "web": 0.0}
    facts = facts_of(planned, prepared(tmp_path, documents), GOVERNED | {"weights": weights})
    assert (facts.documents, facts.copies) == (4, [])
