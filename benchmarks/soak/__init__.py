"""Faults and bad inputs on purpose, and a count of what came of them: `python -m benchmarks.soak`."""
