"""Small runs on a corpus of three publishers, and on stories with names of their own."""

from named_stories import named_bench, named_corpus, named_runs
from publishers import corpus, run_of, subject_of, trained

__all__ = ["corpus", "named_bench", "named_corpus", "named_runs", "run_of", "subject_of", "trained"]
