"""A corpus whose own column says what is held out."""

import datasets
import pytest

from memsinks.corpus import Columns, PrepareConfig, prepare
from memsinks.errors import InputError

TEXTS = ["One fine day it rained.", "Two cats sat on a mat.", "Three hens laid an egg each.", "Four winds blew."]


def rows(held_out, texts=TEXTS):
    return datasets.Dataset.from_list(
        [{"id": f"d{i}", "text": t, "held": h} for i, (t, h) in enumerate(zip(texts, held_out, strict=True))]
    )


CONFIG = PrepareConfig(columns=Columns(), vocab_size=260, validation_column="held")


def test_the_column_decides_and_is_kept(tmp_path):
    corpus = prepare(rows([False, True, False, True]), tmp_path / "c", CONFIG)
    assert corpus.is_validation.tolist() == [False, True, False, True]
    assert corpus.metadata("held") == [False, True, False, True]
    assert corpus.manifest["config"]["validation_column"] == "held"


def test_a_copy_on_the_other_side_is_refused(tmp_path):
    texts = [*TEXTS[:3], "one  FINE day it rained."]
    with pytest.raises(InputError, match=r"row 4 and .*row 1 are copies"):
        prepare(rows([False, True, False, True], texts), tmp_path / "c", CONFIG)
    assert not (tmp_path / "c").exists()


def test_other_values_are_refused_by_row(tmp_path):
    bad = datasets.Dataset.from_list([{"id": "a", "text": "A b c.", "held": "yes"}])
    with pytest.raises(InputError, match=r"row 1: column 'held' must be true .* not 'yes'"):
        prepare(bad, tmp_path / "c", CONFIG)


def test_nothing_left_to_train_on(tmp_path):
    with pytest.raises(InputError, match="nothing to train on"):
        prepare(rows([True] * 4), tmp_path / "c", CONFIG)


def test_a_fraction_beside_a_column_is_refused():
    with pytest.raises(InputError, match="validation_fraction"):
        PrepareConfig(validation_column="held", validation_fraction=0.1)
