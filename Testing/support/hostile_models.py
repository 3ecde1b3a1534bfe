"""Models made to do harm: each builder writes one below a folder and says by which words it must be refused.

Every payload, if it ran, would create the canary file. Run as a program, this loads every model of the corpus and
prints, as JSON, how each was refused and what that took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

# They register what they build.
from support import (  # noqa: F401
    hostile_archives,
    hostile_configurations,
    hostile_details,
    hostile_programs,
    hostile_targets,
    hostile_weights,
)
from support.hostile_corpus import CORPUS, UNET, bundle


def main(folder: Path) -> None:
    """Build and load every model of the corpus below a folder, and print what happened to each."""
    import torch
    from xaiengine.models import load_model

    torch.set_num_threads(1)
    witness = Witness()
    sys.addaudithook(witness)
    canary = folder / "canary"
    warm_up(folder)
    report = {}
    for name, (build, _words) in CORPUS.items():
        place = folder / name
        place.mkdir()
        try:
            path = build(place, canary)
        except (OSError, NotImplementedError) as error:  # no links on this file system
            report[name] = {"skipped": str(error)}
            continue
        before, clock = peak_bytes(), time.process_time()
        witness.seen, witness.watching = [], True
        try:
            load_model(path)
            found = {"error": "", "message": "was loaded"}
        except Exception as error:
            found = {"error": type(error).__name__, "message": str(error), "remedy": getattr(error, "remedy", "")}
        witness.watching = False
        found["events"] = witness.seen
        found["seconds"] = time.process_time() - clock
        found["bytes"] = peak_bytes() - before
        found["canary"] = canary.exists()
        canary.unlink(missing_ok=True)
        report[name] = found
    print(json.dumps(report))


class Witness:
    """Sees, as an audit hook of Python, every program that is started and every file opened for writing."""

    EVENTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename")
    EVENTS += ("os.mkdir", "os.rmdir", "socket.connect", "socket.getaddrinfo", "shutil.rmtree", "os.symlink")

    def __init__(self) -> None:
        self.watching = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments) -> None:
        if not self.watching:
            return
        writes = event == "open" and any(letter in str(arguments[1] or "") for letter in "wax+")
        if event in self.EVENTS or writes:
            self.seen.append(f"{event}: {str(arguments)[:200]}")


def warm_up(folder: Path) -> None:
    """Imports are not the hostile models' doing: load an honest one first."""
    from xaiengine.models import load_model

    (folder / "honest").mkdir()
    load_model(bundle(folder / "honest", {"network_def": UNET}))


def peak_bytes() -> int:
    """Maximum memory this process has held so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
