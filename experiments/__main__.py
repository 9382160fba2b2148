"""`python -m experiments` is the same program as `servecast`."""

from experiments.cli import main

if __name__ == "__main__":
    main()
