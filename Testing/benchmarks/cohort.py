"""What a cohort saves: CPU against one call per scan, two workers against one, and what the coordination takes.

python Testing/run.py benchmark cohort [--calls 5] [--tiny 1000]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SlicerXAI"), str(ROOT / "Testing")]

from support import cohort_runs  # noqa: E402
from xaiengine.cohorts.case import Case  # noqa: E402
from xaiengine.cohorts.cluster import DaskPool, local_cluster  # noqa: E402
from xaiengine.cohorts.plan import CohortSettings, plan_cohort  # noqa: E402
from xaiengine.cohorts.running import run_cohort  # noqa: E402
from xaiengine.cohorts.study import write_study  # noqa: E402

MODEL, TASK = "chest_xray_consolidation_classifier", "explain-prediction"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "SlicerXAI"), "OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5, help="single calls that are timed")
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--tiny", type=int, default=1000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        scans = xrays(place / "scans", chosen.cases)
        calls = [
            command("explain-prediction", scan, place / f"one{n}") for n, scan in enumerate(scans[: chosen.calls])
        ]
        single = cpu_of(calls)
        per_call = single[0] / chosen.calls
        one = cpu_of([cohort_command(place / "scans", place / "a", 1)])
        runs = [cohort_command(place / "scans", place / f"jobs{jobs}", jobs, "iba") for jobs in (1, 2)]
        slow = [cpu_of([run])[1] for run in runs]
        print("| what | figure |\n|---|---|")
        print(f"| CPU of one call | {per_call:.2f} s |")
        print(f"| CPU of a case in a cohort of {chosen.cases} | {one[0] / chosen.cases:.2f} s |")
        print(f"| {chosen.cases} calls against the cohort | {per_call * chosen.cases / one[0]:.1f} x the CPU |")
        print(f"| two workers against one process | {slow[0] / slow[1]:.2f} x the throughput (bottleneck) |")
        coordination(place / "tiny", chosen.tiny)


def xrays(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    images = np.load(ROOT / "Testing" / "data" / "chest_xray_held_out.npz")["images"][:count]
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"xray{number:03d}.png")
    return sorted(folder.glob("*.png"))


def command(task: str, scan: Path, output: Path) -> list[str]:
    return [task, str(scan), "--model", MODEL, "--methods", "gradcam", "--output", str(output)]


def cohort_command(scans: Path, output: Path, jobs: int, method: str = "gradcam") -> list[str]:
    own = ["--cases", str(scans), "--output", str(output), "--jobs", str(jobs)]
    return ["cohort", TASK, *own, "--model", MODEL, "--methods", method]


def cpu_of(commands: list[list[str]]) -> tuple[float, float]:
    """CPU seconds of all processes, and seconds by the clock."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for arguments in commands:
        subprocess.run(
            [sys.executable, "-m", "xaiengine", *arguments], env=ENVIRONMENT, check=True, capture_output=True
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - start


def coordination(folder: Path, count: int) -> None:
    """Cases that take nothing: time and memory of the coordinator."""
    folder.mkdir()
    scan = folder / "scan.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(scan)
    cases = [Case(f"case{number:05d}", {"volume": str(scan)}) for number in range(count)]
    settings = CohortSettings(TASK, folder / "out", model=MODEL)
    start = time.perf_counter()
    work = plan_cohort(cases, settings)
    planned = time.perf_counter()
    memory: list[int] = []
    pool = DaskPool(lambda: local_cluster(2))
    first: list[float] = []

    def done(item, record) -> None:
        first.append(time.perf_counter())
        if len(first) in (count // 5, count):
            memory.append(resident())

    ran = run_cohort(work, cohort_runs.run_nothing, pool, done)
    ended = time.perf_counter()
    write_study(folder / "out", settings, work, {record.case: record for record in ran.records})
    written = time.perf_counter()
    print(f"| planning {count} cases | {(planned - start) / count * 1e3:.1f} ms per case |")
    print(f"| handing over and recording | {(first[-1] - first[0]) / (count - 1) * 1e3:.1f} ms per case |")
    print(f"| coordinator's memory after a fifth and after all | {memory[0]} and {memory[-1]} MB |")
    print(f"| starting and ending two workers | {first[0] - planned + ended - first[-1]:.1f} s |")
    print(f"| table and page | {written - ended:.1f} s |")


def resident() -> int:
    """Memory of this process in MB, as far as the system tells."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
