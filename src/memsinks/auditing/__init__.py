"""Audit a trained model: the same attacks on the same texts under every condition, with controls."""
