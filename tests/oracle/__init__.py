"""The oracle: recorded decisions of the real vLLM scheduler, replayed through the public API and compared step by step.

Reading order: case (what was recorded), replay (a case played by sim), compare (where the two part), cases (small ones
computed by hand), `__main__` (the command line: `python -m tests.oracle PATH…`).
"""
