"""See `python training/deploy.py --help`."""

import sys

from rdi_keras.cli.deploy import main

if __name__ == "__main__":
    sys.exit(main())
