"""Sinks: selection, routing, the layer, and attaching them to a model."""
