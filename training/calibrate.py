"""See `python training/calibrate.py --help`."""

import sys

from rdi_keras.cli.calibrate import main

if __name__ == "__main__":
    sys.exit(main())
