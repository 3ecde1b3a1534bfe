"""CPU seconds of what should answer at once, beside an import of torch in the same run.

python Testing/run.py benchmark start
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "SlicerXAI"), "PYTHONUTF8": "1"}
CASES = {
    "import torch": ["-c", "import torch"],
    "import xaiengine": ["-c", "import xaiengine"],
    "--help": ["-m", "xaiengine", "--help"],
    "explain-prediction --help": ["-m", "xaiengine", "explain-prediction", "--help"],
    "describe": ["-m", "xaiengine", "describe"],
    "a wrong option": ["-m", "xaiengine", "explain-prediction", "--wrong"],
    "a missing scan": ["-m", "xaiengine", "explain-segmentation", "nowhere.nrrd", "--model", "vessel_segmentation"],
    "a missing model": ["-m", "xaiengine", "inspect", "no_model"],
}


def cpu_seconds(arguments: list[str], repeats: int = 3) -> float:
    """The least of some runs; user and system time of the child alone."""
    return min(_once(arguments) for _ in range(repeats))


def _once(arguments: list[str]) -> float:
    before = os.times()
    subprocess.run([sys.executable, *arguments], capture_output=True, env=ENVIRONMENT, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        CASES["a missing scan"] += ["--output", str(Path(folder) / "out")]
        seconds = {name: cpu_seconds(arguments) for name, arguments in CASES.items()}
    torch = seconds["import torch"]
    print("| what | CPU seconds | share of importing torch |\n|---|---|---|")
    for name, found in seconds.items():
        print(f"| {name} | {found:.2f} | {found / torch:.0%} |")


if __name__ == "__main__":
    main()
