"""Durable runs: who owns one, what is journaled of it, and how it goes on from there."""
