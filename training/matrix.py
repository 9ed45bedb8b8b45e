"""See `python training/matrix.py --help`."""

import sys

from rdi_keras.cli.matrix import main

if __name__ == "__main__":
    sys.exit(main())
