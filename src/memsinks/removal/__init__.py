"""Removal as an operator runs it: plan, purge, apply, verify and record."""
