"""`python -m minideeplab`, and what the installed command calls."""

import sys

from minideeplab.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
