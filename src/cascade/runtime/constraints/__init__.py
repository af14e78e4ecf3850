"""Limits on a running engine."""
