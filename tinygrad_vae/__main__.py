"""``python -m tinygrad_vae``: the command, if its script is not on the path."""

import sys

from .app.cli import main

sys.exit(main())
