"""See `python training/export.py --help`."""

import sys

from rdi_keras.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
