"""Small runs on a corpus of three publishers; a test file may have fixtures of these names of its own."""

from publishers import corpus, run_of, trained

__all__ = ["corpus", "run_of", "trained"]
