"""Serving a checkpoint with sinks: which may be switched on, requests batched together, and the HTTP interface."""
