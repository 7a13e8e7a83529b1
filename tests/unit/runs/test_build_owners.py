"""Which IDs own rows of the pool, and how large it is for them."""

import re

import numpy as np
import pytest
import torch

from memsinks.errors import ConfigError, InputError
from memsinks.ids import to_tensor
from memsinks.runs.build import build_model, plan_run

from .conftest import WIDTH, ids, training


def test_a_disjoint_pool_has_rows_for_each_governed_id(configured, corpus):
    names = training(corpus, 5)
    config = configured(sinks__allocation="disjoint", exposures__repeat=names[::-1], exposures__times=3)
    blueprint = plan_run(config)
    # In the order of their documents, not of the list; the copies are planned twice by having one ID.
    twice = [i for i in (2, 5) if not corpus.is_validation[i]]
    expected = [corpus.index(n) for n in names] + (twice[:1] if len(twice) == 2 else [])
    assert blueprint.owners.dtype == np.uint64
    assert blueprint.owners.tolist() == [int(corpus.sequence_ids[i]) for i in sorted(expected)]
    active = round(0.1 * WIDTH)
    assert (blueprint.sinks.active, blueprint.sinks.pool) == (active, active * len(expected))
    assert blueprint.sinks.owned == blueprint.sinks.pool
    model = build_model(blueprint)
    rows = model.sink_allocation.rows(to_tensor(blueprint.owners), model.sink_config, 1)[0]
    # Slots are given away in that order, and all rows with them.
    assert rows.flatten().tolist() == list(range(active * len(expected)))


def test_copies_own_rows_once(configured, corpus):
    """Two documents with one sequence ID are one owner."""
    blueprint = plan_run(configured(sinks__allocation="disjoint", exposures__govern="all"))
    planned = corpus.sequence_ids[~corpus.is_validation]
    assert len(blueprint.owners) == len(set(planned.tolist())) == len(set(blueprint.owners.tolist()))
    assert blueprint.owners.tolist() == list(dict.fromkeys(planned.tolist()))


@pytest.mark.parametrize(
    ("settings", "active"), [({"sinks__active": 6}, 6), ({"sinks__block": 3}, 3), ({"sinks__block": 16}, 16)]
)
def test_the_rows_of_an_owner_come_in_blocks(configured, settings, active):
    config = configured(
        sinks__allocation="disjoint", exposures__govern="sources", exposures__govern_values=["p0"], **settings
    )
    blueprint = plan_run(config)
    assert blueprint.sinks.active == active
    assert blueprint.sinks.pool == active * len(blueprint.owners)
    build_model(blueprint)


def test_a_disjoint_pool_too_small_for_its_owners_is_refused(configured):
    settings = {"sinks__allocation": "disjoint", "exposures__govern": "all", "sinks__active": 4, "sinks__pool": 8}
    with pytest.raises(
        ConfigError, match=r"sinks\.pool=8: (\d+) governed IDs own 4 rows each; make it (\d+)"
    ) as caught:
        plan_run(configured(**settings))
    needed = int(re.search(r"make it (\d+)", str(caught.value))[1])
    build_model(plan_run(configured(**{**settings, "sinks__pool": needed})))
    del settings["sinks__pool"]
    with pytest.raises(ConfigError, match=r"sinks\.active=0\.5.*whole number"):
        plan_run(configured(**{**settings, "sinks__active": 0.5}))


def test_hybrid_owners_are_governed_documents_of_their_sources(configured, corpus):
    hybrid = {"sinks__allocation": "hybrid", "sinks__owned": 80, "sinks__owners": ["p1"], "sinks__active": 4}
    p1 = [i for i in np.flatnonzero(~corpus.is_validation) if corpus.sources[i] == "p1"]
    blueprint = plan_run(configured(exposures__govern="all", **hybrid))
    assert blueprint.owners.tolist() == corpus.sequence_ids[p1].tolist()
    assert (blueprint.sinks.pool, blueprint.sinks.owned) == (4 * WIDTH, 80)
    model = build_model(blueprint)
    own = model.sink_allocation.rows(to_tensor(blueprint.owners), model.sink_config, 2)
    assert own.min() >= 4 * WIDTH - 80
    rest = model.sink_allocation.rows(torch.arange(50), model.sink_config, 2)
    assert rest.max() < 4 * WIDTH - 80
    # Only governed ones, of those that are planned at all.
    some = [corpus.documents[i] for i in p1[:2]]
    repeated = plan_run(configured(exposures__repeat=some, exposures__times=2, **hybrid))
    assert repeated.owners.tolist() == ids(corpus, some)
    with pytest.raises(InputError, match="p9"):
        plan_run(configured(**{**hybrid, "sinks__owners": ["p9"]}))
