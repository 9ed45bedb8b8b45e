"""See `python training/import_checkpoint.py --help`."""

import sys

from rdi_keras.cli.import_checkpoint import main

if __name__ == "__main__":
    sys.exit(main())
