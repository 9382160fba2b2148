"""Tests: laws, theory, oracles, naive twins, then examples; one file per module."""
