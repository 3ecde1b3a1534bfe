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
    assert receive(engine)["event"] == "finished"
    assert engine.wait(20) == 0


def test_a_line_that_is_no_command_is_answered_and_the_next_one_works(engine):
    assert receive(engine)["event"] == "ready"
    for wrong in ("garbage", '{"command": "dance"}', "[]", '{"id": 3, "command": "run", "job": {"task": 5}}'):
        send(engine, wrong)
        assert receive(engine)["event"] == "error"
    send(engine, {"id": 4, "command": "describe"})
    assert receive(engine)["id"] == 4


def send_bytes(child, line):
    child.stdin.buffer.write(line + b"\n")
    child.stdin.buffer.flush()


STRANGE_LINES = [
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"command": "cancel", "id": [1]}',
    b'{"command": "cancel", "id": {"a": 1}}',
    b'{"command": "run", "id": NaN, "job": {}}',
    b'{"command": "run", "id": 1e999, "job": {}}',
    b'{"command": "run", "id": true, "job": {}}',
    b'{"command": ["run"]}',
    b'{"command": "cancel", "id": "none"}',
    b'{"command": "cancel"}',
    b'"run"',
    b"null",
    b"1" * 10_000,
    b'{"command": "inspect", "id": 1, "model": "\\udcff"}',
    b'{"command": "inspect", "id": 1, "model": "a\\u0000b"}',
    b'{"command": "inspect", "id": 1, "model": ["x"]}',
    b'{"command": "inspect", "id": 1, "device": {"a": 1}}',
    b'{"command": "run", "id": "\\ud800", "job": null}',
    b'{"command": "run", "id": 9, "job": {"task": "x", "output": "\\ud800", "inputs": [1]}}',
]


def test_every_strange_line_is_answered_and_the_next_one_works(engine):
    assert receive(engine)["event"] == "ready"
    for line in STRANGE_LINES:
        send_bytes(engine, line)
        assert receive(engine)["event"] == "error", line[:80]
    send(engine, {"id": 4, "command": "describe"})
    assert receive(engine)["id"] == 4


def test_a_cancel_reaches_only_the_job_that_waits_or_runs(engine, tmp_path):
    receive(engine)
    send(engine, {"id": "a", "command": "cancel"})
    assert receive(engine)["event"] == "error"
    missing = str(tmp_path / "none.nrrd")
    send(
        engine,
        {
            "id": "a",
            "command": "run",
            "job": {"task": "quantify-lesions", "inputs": {"volume": missing}, "output": str(tmp_path / "o")},
        },
    )
    assert receive(engine)["event"] == "started"
    assert receive(engine)["result"]["status"] == "failed"  # not cancelled by what came before it


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of stdin"])
def test_an_end_from_outside_is_quick_and_leaves_nothing(engine, tmp_path, how):
    import signal
    import time

    receive(engine)
    fifo = tmp_path / "volume.nrrd"
    os.mkfifo(fifo)  # a job that waits for its input in a library, without end
    job = {"task": "quantify-lesions", "inputs": {"volume": str(fifo)}, "output": str(tmp_path / "o")}
    send(engine, {"id": 1, "command": "run", "job": job})
    assert receive(engine)["event"] == "started"
    while not (tmp_path / "o").exists():
        time.sleep(0.01)
    if how == "end of stdin":
        engine.stdin.close()
    else:
        engine.send_signal(getattr(signal, how))
    assert engine.wait(20) == (0 if how == "end of stdin" else 128 + getattr(signal, how))
    assert {path.name for path in (tmp_path / "o").iterdir()} <= {"result.json"}


def test_a_failing_job_is_finished_with_its_error(engine, tmp_path):
    receive(engine)
    job = {
        "task": "quantify-lesions",
        "inputs": {"volume": str(tmp_path / "none.nrrd")},
        "output": str(tmp_path / "o"),
    }
    send(engine, {"id": "a", "command": "run", "job": job})
    events = [receive(engine)]
    while events[-1]["event"] not in ("finished", "error"):
        events.append(receive(engine))
    assert events[0]["event"] == "started"
    assert events[-1]["result"]["status"] == "failed" and events[-1]["result"]["error"]["remedy"]
    assert json.loads((tmp_path / "o" / "result.json").read_text())["status"] == "failed"


@pytest.fixture
def engine_with_broken_torch(tmp_path, monkeypatch):
    """The engine with a torch before all others that lacks a library."""
    (tmp_path / "torch").mkdir()
    message = "libcublas.so.12: cannot open shared object file"
    (tmp_path / "torch" / "__init__.py").write_text(f"raise ImportError({message!r})", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ENGINE), str(tmp_path)]))
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", "xaiengine", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    yield child
    child.kill()
    child.wait()


def test_a_broken_torch_is_told_from_other_errors(engine_with_broken_torch, tmp_path):
    engine = engine_with_broken_torch
    receive(engine)
    for identity in (1, 2):  # nor does the second attempt fail in another way
        send(engine, {"id": identity, "command": "inspect", "model": "lung_lesion_slice_classifier"})
        answer = receive(engine)
        assert (answer["event"], answer["kind"]) == ("error", "torch")
        assert "libcublas.so.12" in answer["message"] and answer["remedy"]
    job = {"task": "quantify-lesions", "inputs": {"volume": str(tmp_path)}, "output": str(tmp_path / "o")}
    send(engine, {"id": 3, "command": "run", "job": job})
    assert receive(engine)["event"] == "started"
    error = receive(engine)["result"]["error"]
    assert error["kind"] == "torch" and "libcublas.so.12" in error["message"]
    send(engine, {"id": 4, "command": "describe"})
    assert receive(engine)["event"] == "finished"


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
