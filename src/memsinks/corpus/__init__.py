"""Corpora: read documents, split them, tokenise them, and open the result."""

from memsinks.corpus.corpus import Corpus
from memsinks.corpus.executors import Executor, Local
from memsinks.corpus.prepare import prepare
from memsinks.corpus.readers import Columns, Document, read_documents
from memsinks.corpus.settings import GroupConfig, PrepareConfig
from memsinks.corpus.tokenizer import encode_document, load_tokenizer, train_tokenizer
from memsinks.corpus.why import Why, why

__all__ = [
    "Columns",
    "Corpus",
    "Document",
    "Executor",
    "GroupConfig",
    "Local",
    "PrepareConfig",
    "Why",
    "encode_document",
    "load_tokenizer",
    "prepare",
    "read_documents",
    "train_tokenizer",
    "why",
]
