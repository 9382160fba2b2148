"""`python -m benchmarks.startup`: CPU seconds from the shell to an answer that needs no simulation; best of seven.

Each line: name, cpu_s.
"""

import json
import os
import subprocess
import sys

COMMANDS = {"--help": ["--help"], "simulate --help": ["simulate", "--help"], "profiles list": ["profiles", "list"]}


def cpu_s(words: list[str]) -> float:
    """User and system time of one run in a process of its own."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "experiments", *words], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    """Print the lines."""
    for name, words in COMMANDS.items():
        print(json.dumps({"name": f"servecast {name}", "cpu_s": round(min(cpu_s(words) for _ in range(7)), 3)}), flush=True)


if __name__ == "__main__":
    main()
