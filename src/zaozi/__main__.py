"""`python -m zaozi` is the `zaozi` command."""

import sys

from zaozi.cli.main import main

sys.exit(main())
