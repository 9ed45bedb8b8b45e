"""`python -m benchmarks.soak`: see `make soak` and docs/reliability.md."""

from benchmarks.soak.command import main

if __name__ == "__main__":
    raise SystemExit(main())
