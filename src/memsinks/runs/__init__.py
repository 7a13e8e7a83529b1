"""Runs as a whole: what one will take before it starts, and the peak rate that its speed is measured by."""
