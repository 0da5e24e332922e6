"""`python -m waystation`: the same as the command `waystation`."""

from __future__ import annotations

import sys

from waystation.cli.main import main

sys.exit(main())
