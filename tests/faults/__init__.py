"""Forks that fail at every VMA, in every way: python -m tests.faults (make faults)."""
