"""See `python training/fit.py --help`."""

import sys

from rdi_keras.cli.fit import main

if __name__ == "__main__":
    sys.exit(main())
