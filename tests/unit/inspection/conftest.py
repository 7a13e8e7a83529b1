"""A saved model with sinks and a lineage, without a training."""

from pathlib import Path

import pytest
from checkpoints_by_hand import saved
from families import sink_model


@pytest.fixture
def model():
    return sink_model("llama")


@pytest.fixture
def run(model, tmp_path) -> Path:
    return saved(model, tmp_path / "run")
