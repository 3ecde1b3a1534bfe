"""The engine as a process: real child, real pipes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "SlicerXAI"


@pytest.fixture
def engine():
    settings = {**os.environ, "PYTHONPATH": str(ENGINE), "PYTHONUTF8": "1"}
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", "xaiengine", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=settings,
        text=True,
        encoding="utf-8",
    )
    yield child
    child.kill()
    child.wait()


def send(child, line):
    child.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    child.stdin.flush()


def receive(child):
    return json.loads(child.stdout.readline())


def test_it_says_ready_describes_itself_and_shuts_down(engine):
    assert receive(engine)["event"] == "ready"
    send(engine, {"id": 1, "command": "describe"})
    answer = receive(engine)
    assert answer["id"] == 1
    assert "quantify-lesions" in [task["name"] for task in answer["description"]["tasks"]]
    send(engine, {"command": "shutdown"})
    assert engine.wait(20) == 0


def test_a_line_that_is_no_command_is_answered_and_the_next_one_works(engine):
    assert receive(engine)["event"] == "ready"
    for wrong in ("garbage", '{"command": "dance"}', "[]", '{"id": 3, "command": "run", "job": {"task": 5}}'):
        send(engine, wrong)
        assert receive(engine)["event"] == "error"
    send(engine, {"id": 4, "command": "describe"})
    assert receive(engine)["id"] == 4


def test_a_failing_job_is_finished_with_its_error(engine, tmp_path):
    receive(engine)
    job = {"task": "quantify-lesions", "inputs": {"volume": str(tmp_path / "none.nrrd")}, "output": str(tmp_path / "o")}
    send(engine, {"id": "a", "command": "run", "job": job})
    events = [receive(engine)]
    while events[-1]["event"] not in ("finished", "error"):
        events.append(receive(engine))
    assert events[0]["event"] == "started"
    assert events[-1]["result"]["status"] == "failed" and events[-1]["result"]["error"]["remedy"]
    assert json.loads((tmp_path / "o" / "result.json").read_text())["status"] == "failed"


def test_it_ends_with_its_parent(engine):
    receive(engine)
    engine.stdin.close()
    assert engine.wait(20) == 0


def test_it_says_what_a_model_is_and_keeps_it(engine):
    receive(engine)
    for identity in (1, 2):
        send(engine, {"id": identity, "command": "inspect", "model": "lung_lesion_slice_classifier"})
        answer = receive(engine)
        assert answer["id"] == identity
        assert answer["inspection"]["labels"] == ["no lesion", "lesion"]
        assert [layer["name"] for layer in answer["inspection"]["layers"] if layer["default"]] == ["features.5"]
    send(engine, {"id": 3, "command": "inspect", "model": "none-such"})
    answer = receive(engine)
    assert answer["event"] == "error" and "lung_lesion_slice_classifier" in answer["remedy"]
