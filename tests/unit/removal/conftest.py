"""Small runs on a corpus of three publishers."""

from publishers import corpus, run_of, subject_of, trained

__all__ = ["corpus", "run_of", "subject_of", "trained"]
