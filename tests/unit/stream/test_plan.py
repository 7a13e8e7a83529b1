import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memsinks.errors import InputError
from memsinks.stream import ExposurePlan, GovernedPolicy, governed


def held_out(corpus) -> int:
    return int(np.flatnonzero(corpus.is_validation)[0])


def test_plans_are_made_from_plans(corpus):
    once = ExposurePlan.once(corpus)
    assert once.counts.tolist() == (~corpus.is_validation).astype(int).tolist()
    assert once.total == 27
    repeated = once.repeat([3, "doc-04"], 9)
    assert repeated.counts[[2, 3, 4]].tolist() == [1, 9, 9]
    assert repeated.total == 27 + 16
    assert repeated.cap(4).counts[[2, 3, 4]].tolist() == [1, 4, 4]
    assert repeated.only(["doc-03", 2]).total == 10
    assert repeated.without(["doc-03", 2]).total == 27 + 16 - 10
    assert once.total == 27
    with pytest.raises(ValueError, match="read-only"):
        once.counts[0] = 5


def test_saved_plans_load(corpus, tmp_path):
    plan = ExposurePlan.once(corpus).repeat([3], 128).without([2])
    plan.save(tmp_path / "plan.parquet")
    assert (ExposurePlan.load(tmp_path / "plan.parquet", corpus).counts == plan.counts).all()
    assert [p.name for p in tmp_path.iterdir()] == ["plan.parquet"]
    with pytest.raises(InputError, match="cannot be written"):
        plan.save(tmp_path / "missing" / "plan.parquet")


BAD_FILES = {
    "unknown": (["doc-03", "doc-99"], [1, 1], r"plan\.parquet, row 2: .*no document 'doc-99'; did you mean"),
    "twice": (["doc-03", "doc-02", "doc-03"], [1, 1, 1], r"row 3: document 'doc-03' was already named in row 1"),
    "negative": (["doc-03"], [-1], r"row 1: a number of exposures .* not -1"),
    "fractional": (["doc-03"], [1.5], r"row 1: a number of exposures .* not 1\.5"),
    "null": (["doc-03"], [None], r"row 1: a number of exposures .* not None"),
    "not a name": ([3], [1], r"row 1: the document must be a string, not 3"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_plan_files(corpus, tmp_path, case):
    names, counts, message = BAD_FILES[case]
    path = tmp_path / "plan.parquet"
    pq.write_table(pa.table({"document": names, "exposures": counts}), path)
    with pytest.raises(InputError, match=message):
        ExposurePlan.load(path, corpus)


def test_plan_files_that_expose_held_out_text(corpus, tmp_path):
    name, path = corpus.documents[held_out(corpus)], tmp_path / "plan.parquet"
    pq.write_table(pa.table({"document": [name], "exposures": [1]}), path)
    with pytest.raises(InputError, match=rf"plan\.parquet: document '{name}' is held out for validation"):
        ExposurePlan.load(path, corpus)
    pq.write_table(pa.table({"document": [name], "exposures": [0]}), path)
    assert ExposurePlan.load(path, corpus).total == 0
    pq.write_table(pa.table({"document": [name], "times": [0]}), path)
    with pytest.raises(InputError, match="no column 'exposures'"):
        ExposurePlan.load(path, corpus)
    path.write_text("{}")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        ExposurePlan.load(path, corpus)


def test_bad_plans(corpus):
    once, n = ExposurePlan.once(corpus), len(corpus)
    for bad, message in (
        (lambda: once.repeat([held_out(corpus)], 2), "is held out for validation"),
        (lambda: once.repeat([3], -1), "not -1"),
        (lambda: once.repeat([3], 1.5), r"not 1\.5"),
        (lambda: once.repeat([3], True), "not True"),
        (lambda: once.repeat([n], 1), f"no document {n}; the corpus has documents 0 to {n - 1}"),
        (lambda: once.repeat([-1], 1), "no document -1"),
        (lambda: once.repeat([1.0], 1), r"a name or a number, not 1\.0"),
        (lambda: once.repeat("doc-03", 1), "not the single string 'doc-03'"),
        (lambda: once.only(["doc-3"]), "no document 'doc-3'"),
        (lambda: once.cap(-2), "not -2"),
        (lambda: ExposurePlan(corpus, np.ones(n)), "must be 30 integers, .* not float64"),
        (lambda: ExposurePlan(corpus, np.ones(n - 1, dtype=int)), "must be 30 integers"),
        (lambda: ExposurePlan(corpus, np.full(n, -1)), "document 'doc-00' has a negative count"),
    ):
        with pytest.raises(InputError, match=message):
            bad()


def test_governed_documents(corpus):
    once = ExposurePlan.once(corpus)
    plan = once.repeat([3], 2)

    def chosen(*args, **kwargs):
        return np.flatnonzero(governed(corpus, plan, GovernedPolicy(*args, **kwargs))).tolist()

    assert chosen() == list(range(30))
    # Documents 0 and 1 are copies: each is planned once, but their sequence ID twice.
    assert chosen("repeated") == [0, 1, 3]
    assert governed(corpus, once.without([1]), GovernedPolicy("repeated")).sum() == 0
    assert chosen("sources", ("odd",)) == list(range(1, 30, 2))
    assert chosen("column", ("o0", "o3"), "owner") == [i for i in range(30) if i % 4 in (0, 3) and i != 4]
    assert chosen("column", ("true",), "private") == list(range(0, 30, 5))


def test_bad_policies(corpus):
    plan = ExposurePlan.once(corpus)
    for bad, message in (
        (lambda: GovernedPolicy("some"), "unknown policy 'some'; choose from all, repeated"),
        (lambda: GovernedPolicy("sources"), "takes at least one value"),
        (lambda: GovernedPolicy("all", ("x",)), "takes no value"),
        (lambda: GovernedPolicy("column", ("x",)), "a column goes with policy 'column'"),
        (lambda: GovernedPolicy("sources", ("x",), "owner"), "a column goes with policy 'column'"),
        (lambda: governed(corpus, plan, GovernedPolicy("sources", ("evn",))), "source 'evn'; did you mean 'even'"),
        (lambda: governed(corpus, plan, GovernedPolicy("column", ("x",), "owner")), "value of column 'owner' 'x'"),
        (lambda: governed(corpus, plan, GovernedPolicy("column", ("x",), "team")), "no metadata column 'team'"),
    ):
        with pytest.raises(InputError, match=message):
            bad()
