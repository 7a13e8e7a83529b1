"""What a run will be able to remove, at what cost to other text, worked out before any training."""
