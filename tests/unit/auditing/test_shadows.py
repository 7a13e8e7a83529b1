"""Shadow runs: who is left out of which, and the likelihood-ratio attack on runs that were trained for it."""

import numpy as np
import pytest
from publishers import SMALL, configured

from memsinks.auditing.sections.membership import tasks
from memsinks.auditing.shadows import Shadows, shadow_plans
from memsinks.errors import ConfigError, InputError
from memsinks.runs.run import execute
from memsinks.stream import ExposurePlan

from .test_section_membership import areas, bench_of, findings_of


def ashford(corpus):
    sources = np.array(corpus.sources)
    return np.flatnonzero((sources == "ashford") & ~corpus.is_validation)


@pytest.fixture(scope="session")
def shadow_runs(corpus, tmp_path_factory):
    home = tmp_path_factory.mktemp("shadows")
    for i, plan in enumerate(shadow_plans(ExposurePlan.once(corpus), ashford(corpus), 4)):
        plan.save(home / f"{i}.parquet")
        exposures = {**SMALL["exposures"], "plan": str(home / f"{i}.parquet")}
        execute(configured(corpus, home / f"run-{i}", {"attach": False}, exposures=exposures))
    return tuple(str(home / f"run-{i}") for i in range(4))


def test_each_document_is_left_out_by_half(corpus):
    plan = ExposurePlan.once(corpus)
    plans = shadow_plans(plan, ashford(corpus), 6)
    counts = np.stack([p.counts for p in plans])
    copies = np.isin(corpus.content_ids, corpus.content_ids[ashford(corpus)])
    assert copies.sum() == len(ashford(corpus)) + 1, "a document of another publisher is a copy"
    assert ((counts[:, copies] == 0).sum(axis=0) == 3).all()
    assert (counts[:, ~copies] == plan.counts[~copies]).all()
    assert not (counts[0::2, copies] == counts[1::2, copies]).any(), "pairs complete each other"
    assert len({p.hash for p in plans}) == 6


def test_plans_that_do_not_balance_are_refused(corpus):
    plan = ExposurePlan.once(corpus)
    for shadows in (2, 5):
        with pytest.raises(InputError, match="equally often"):
            shadow_plans(plan, ashford(corpus), shadows)
    with pytest.raises(InputError, match="cannot be halved"):
        shadow_plans(plan, ashford(corpus)[:1], 4)


def test_the_attack_finds_a_planted_leak(trained, shadow_runs, tmp_path):
    bench = bench_of(trained("leaky"), tmp_path, conditions=["removed"], shadows=shadow_runs)
    figure = areas(findings_of(bench), "removed")["LiRA, 4 shadow models"]
    assert figure.low > 0.5
    assert figure.question == "member"
    costs = [t.cost.forward for t in tasks(bench, bench.config) if t.name in ("likelihood", "shadow")]
    assert costs[1] == 5 / 2 * costs[0], "the model and four others, against twice the model"


def test_what_runs_saw_comes_from_their_plans(corpus, shadow_runs):
    shadows = Shadows.open(shadow_runs, corpus)
    assert shadows.trained_on.shape == (4, len(corpus))
    assert (shadows.trained_on[:, ashford(corpus)].sum(axis=0) == 2).all()
    assert not shadows.trained_on[:, corpus.is_validation].any()


def test_runs_that_do_not_do_are_refused(corpus, shadow_runs, trained, tmp_path):
    for folders, words in (
        (shadow_runs[:3], "3 runs are too few"),
        ((*shadow_runs[:3], str(tmp_path)), "is no run"),
        ((*shadow_runs[:3], str(trained("hashed"))), "has sinks"),
    ):
        with pytest.raises(ConfigError, match=words):
            Shadows.open(folders, corpus)
