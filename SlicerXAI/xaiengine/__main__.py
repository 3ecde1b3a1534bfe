"""``python -m xaiengine``: run a job file, serve jobs, describe tasks, or do a task by its name."""

from __future__ import annotations

import sys

from .app.shell import main

if __name__ == "__main__":
    sys.exit(main())
