"""See `python training/score.py --help`."""

import sys

from rdi_keras.cli.score import main

if __name__ == "__main__":
    sys.exit(main())
