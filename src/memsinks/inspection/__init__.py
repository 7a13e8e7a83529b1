"""Looking at checkpoints: what one is, how two differ, and what is wrong."""
