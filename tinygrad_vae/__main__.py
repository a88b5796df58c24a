"""``python -m tinygrad_vae``: the command, where its script is not on the path.

It knows the command and nothing else.
"""

import sys

from .app.cli import main

sys.exit(main())
