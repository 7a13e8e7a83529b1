"""Ways to bring removed text back from a model that one holds: training, rounding, probing, and other sinks."""
