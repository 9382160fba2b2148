"""Benchmarks: CPU seconds of what users wait for, one JSON object a line; they gate nothing."""
