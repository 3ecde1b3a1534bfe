"""What can be answered without torch is answered without it: nothing waits for an import that it does not need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCAN = ROOT / "Testing" / "data" / "chest_cta.nrrd"
PROBE = """
import json, sys
arguments = json.loads(sys.argv[1])
code = 0
try:
    from xaiengine.app.shell import main
    code = main(arguments)
except SystemExit as end:
    code = end.code
print("\\n" + json.dumps({"code": code, "heavy": [name for name in HEAVY if name in sys.modules]}))
"""
HEAVY = ("torch", "monai", "captum", "scipy")


def light(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY!r}\n{code}", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


def answered(*arguments):
    """Exit code, what was said on stderr, and the heavy packages that had been imported by then."""
    done = light(PROBE, json.dumps([str(item) for item in arguments]))
    found = json.loads(done.stdout.splitlines()[-1])
    return found["code"], done.stderr, found["heavy"]


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, xaiengine\ndir(xaiengine)\nxaiengine.__all__\nprint([n for n in HEAVY if n in sys.modules])"
    assert light(code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["describe"], ["xml", "explain-segmentation"], ["explain-prediction", "--help"]],
    ids=" ".join,
)
def test_descriptions_need_no_torch(arguments):
    code, _, heavy = answered(*arguments)
    assert (code, heavy) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain"], "invalid choice"),
        (["explain-prediction", "--nothing"], "required"),
        (["explain-prediction", SCAN, "--model", "vessel_segmentation", "--wrong", "1"], "required"),
        (["explain-prediction", "nowhere.nrrd", "--model", "vessel_segmentation"], "nowhere.nrrd does not exist"),
        (["explain-segmentation", SCAN, "--model", "no_model"], "no model 'no_model'"),
        (["explain-segmentation", SCAN, "--model", "vessel_segmentation", "--device", "gpu"], "device called 'gpu'"),
        (["fit-reference", "no_folder", "--model", "vessel_segmentation"], "no folder no_folder"),
        (
            ["evaluate-explanation", SCAN, "--explanation", SCAN, "--model", "vessel_segmentation", "--checks", "x"],
            "no check called 'x'",
        ),
        (["run", "no_job.json"], "no job file"),
        (["inspect", "no_model"], "no model 'no_model'"),
        (["describe-model", "no_file.pth"], "no file no_file.pth"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_refusals_need_no_torch(arguments, words, tmp_path):
    task = arguments[0].startswith(("explain-", "fit-", "evaluate-")) and "--nothing" not in arguments
    more = ["--output", tmp_path / "out"] if task and "--wrong" not in arguments else []
    code, said, heavy = answered(*arguments, *more)
    assert words in said
    assert code != 0 and heavy == []


def test_a_refused_job_leaves_a_result_that_says_so(tmp_path):
    answered("explain-segmentation", "nowhere.nrrd", "--model", "vessel_segmentation", "--output", tmp_path / "out")
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == "failed" and result["error"]["kind"] == "input" and result["error"]["remedy"]


def test_the_probe_sees_torch_where_it_is_imported():
    code, _, heavy = answered("inspect", "vessel_segmentation")
    assert code == 0 and "torch" in heavy
