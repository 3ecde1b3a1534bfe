"""Whether torch can really be imported, and on which devices it works: tried in a process of its own.

A look at the files cannot tell a missing system library or a driver that does not fit; importing torch in the
application could end it.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from .ProcessTree import describeExit
from .PythonExecutable import engineEnvironment, findPythonExecutable
from .Translation import tr as _

_SECONDS = 180.0
_PROGRAM = """
import json, sys
report = {"version": "", "devices": []}
try:
    import torch
    report["version"] = str(torch.__version__)
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        report["devices"] = [[f"cuda:{n}", torch.cuda.get_device_name(n)] for n in range(count)]
    elif getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
        report["devices"] = [["mps", "Apple GPU"]]
except BaseException as error:
    report["error"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(report))
"""


@dataclass(frozen=True)
class TorchReport:
    """``devices`` are the GPUs, as (name for the engine, name of the card); ``problem`` is empty if torch works."""

    version: str = ""
    devices: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    remedy: str = ""


def probeTorch(seconds: float = _SECONDS) -> TorchReport:
    """Import torch in a child process and return what came of it.

    :raises EngineError: there is no Python to try it with.
    """
    command = [findPythonExecutable(), "-c", _PROGRAM]
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            env=engineEnvironment(),
            timeout=seconds,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return TorchReport(
            problem=_("torch was not imported within {seconds:.0f} s.").format(seconds=seconds), remedy=_again()
        )
    lines = ended.stdout.strip().splitlines()
    try:
        report = json.loads(lines[-1])
        report["devices"]
    except (IndexError, ValueError, KeyError, TypeError):
        return TorchReport(
            problem=_("Importing torch {ended}.").format(ended=describeExit(ended.returncode)),
            remedy=_again(),
        )
    if "error" in report:
        return TorchReport(
            problem=_("torch cannot be imported: {error}.").format(error=report["error"]),
            remedy=remedyFor(report["error"]),
        )
    return TorchReport(report["version"], tuple((name, card) for name, card in report["devices"]))


def remedyFor(error: str) -> str:
    """Return what helps against an error that importing torch has raised; the first sign in it that fits counts."""
    lowered = error.lower()
    remedies = {
        ("no module named 'torch'", "torch is not installed"): _("Install torch with the panel of SlicerXAI."),
        ("cuda", "cublas", "cudnn", "nvrtc", "nccl"): _(
            "Install the build for the CPU with the PyTorch Utils module."
        ),
        ("dll load failed", "winerror 126", "winerror 1114"): _(
            "Install Microsoft's Visual C++ Redistributable, then try again."
        ),
        ("numpy",): _("torch and numpy do not fit each other. {again}").format(again=_again()),
        ("cannot allocate memory", "paging file"): _("Close other programs: the memory was not enough to load torch."),
    }
    return next((remedy for signs, remedy in remedies.items() if any(sign in lowered for sign in signs)), _again())


def _again() -> str:
    return _("In the PyTorch Utils module click Uninstall, restart Slicer, and install it again.")
