"""Measurements that are too long for a test, such as ``python -m benchmarks.recipes``; see ``benchmarks/results``."""
