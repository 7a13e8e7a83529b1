"""Whether a corpus and a run file are ready to train a model whose memories can be removed: six questions, answered."""
