"""See `python training/evaluate.py --help`."""

import sys

from rdi_keras.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
