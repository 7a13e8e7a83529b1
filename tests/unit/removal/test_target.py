"""Which documents a request names."""

import pytest

from memsinks.errors import InputError, SequenceIdError
from memsinks.ids import format_id
from memsinks.removal.target import Target, find


def names(corpus, **request):
    return [corpus.documents[i] for i in find(Target(**request), corpus).nonzero()[0]]


def test_sources_documents_groups_and_ids_add_up(corpus):
    birch = [f"birch-{i}" for i in range(6)]
    assert names(corpus, sources=("birch",)) == birch
    assert set(names(corpus, sources=("birch",), documents=("web-20",))) == {*birch, "web-20"}
    assert set(names(corpus, groups=("birch-2",))) == {"birch-2", "cedar-2"}
    shared = format_id(int(corpus.sequence_ids[corpus.index("ashford-1")]))
    assert set(names(corpus, ids=(shared,))) == {"ashford-1", "birch-1"}
    assert len(names(corpus, everything=True)) == len(corpus)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (("ends<2026",), {"ashford-0", "ashford-1", "birch-0", "birch-1", "cedar-0", "cedar-1"}),
        (("ends <= 2025", "source=cedar"), {"cedar-0", "cedar-1"}),
        (("ends>=2029", "source!=cedar"), {"ashford-5", "birch-5"}),
        (("ends = 2024", "document=birch-0"), {"birch-0"}),
    ],
)
def test_conditions_have_to_hold_all_together_and_a_missing_value_meets_none(corpus, conditions, expected):
    assert set(names(corpus, where=conditions)) == expected
    assert not any(name.startswith("web") for name in names(corpus, where=("ends!=1",)))


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({}, InputError, "nothing is named"),
        ({"everything": True, "sources": ("birch",)}, InputError, "one of the two"),
        ({"sources": ("brich",)}, InputError, "did you mean 'birch'"),
        ({"documents": ("birch-7",)}, InputError, "no document 'birch-7'; did you mean"),
        ({"ids": ("00",)}, SequenceIdError, "16 hexadecimal digits"),
        ({"ids": ("0" * 16,)}, InputError, "no document has ID"),
        ({"where": ("ends",)}, InputError, "expected COLUMN=VALUE"),
        ({"where": ("end=3",)}, InputError, "no metadata column 'end'"),
        ({"where": ("ends=soon",)}, InputError, "holds numbers, not 'soon'"),
        ({"where": ("ends>3000",)}, InputError, "no document meets"),
    ],
)
def test_requests_that_name_nothing_are_refused(corpus, request_, error, message):
    with pytest.raises(error, match=message):
        names(corpus, **request_)
