"""Corpus of the tests with several processes."""

import pytest
from launching import write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Its folder, and the names of the documents to repeat."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))
