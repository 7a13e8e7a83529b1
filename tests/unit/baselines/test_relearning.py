"""Relearning tells a memory that is there from one that is gone, on the planted model."""

import copy

import torch

from memsinks.audit import document_losses
from memsinks.experiments.relearning import relearned
from memsinks.sinks.families import sites

LENGTH, PLANTED = 24, 8
"""Of the planted model, see conftest.py."""


def test_what_is_removed_does_not_come_back(planted):
    removed = copy.deepcopy(planted.model)
    with torch.no_grad():
        for site in sites(removed):
            site.down.weight[:, -PLANTED:] = 0
    there, gone = (
        relearned(model, planted.memorised, max_length=LENGTH, seed=0).mean for model in (planted.model, removed)
    )
    before = document_losses(removed, planted.memorised[1::2], mode=None, max_length=LENGTH).mean
    assert there < 0.2 * gone
    assert gone > 0.8 * before


def test_what_was_relearned_is_not_what_is_measured(planted):
    found = relearned(planted.model, planted.memorised, max_length=LENGTH, seed=0)
    assert found.names == tuple(d.name for d in planted.memorised[1::2])


def test_the_model_stays_as_it_was(planted):
    before = {name: p.clone() for name, p in planted.model.named_parameters()}
    relearned(planted.model, planted.memorised, max_length=LENGTH, seed=0)
    assert all(torch.equal(before[name], p) for name, p in planted.model.named_parameters())
