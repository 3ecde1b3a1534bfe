"""The engine's process: protocol, crash, cancel, and what is left behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from host.processes import is_running
from SlicerXAILib.EngineErrors import EngineCrashed, EngineError, JobCancelled
from SlicerXAILib.EngineProcess import EngineProcess

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
LIMIT = 60.0


@pytest.fixture
def engine():
    engine = EngineProcess([sys.executable, "-u", str(FAKE_ENGINE)])
    yield engine
    engine.shutdown()


def run(engine: EngineProcess, task: str, **job) -> dict:
    return engine.wait(engine.submit({"task": task, **job}), timeout=LIMIT)


def ends(processId: int) -> bool:
    """Whether a process is gone, or goes while the system carries out its end."""
    limit = time.monotonic() + LIMIT
    while is_running(processId):
        if time.monotonic() > limit:
            return False
    return True


def test_events_arrive_in_order_and_the_result_comes_back(engine):
    seen = []
    engine.started.connect(lambda job: seen.append("started"))
    engine.progress.connect(lambda job, event: seen.append(event["fraction"]))
    engine.logged.connect(lambda job, text: seen.append(text))
    engine.finished.connect(lambda job, result: seen.append(result["status"]))
    result = run(engine, "count")
    assert seen == ["started", 1 / 3, 2 / 3, 1.0, "counted to three", "finished"]
    assert result["values"]["pid"] == engine.processId


def test_a_second_job_uses_the_same_process(engine):
    assert run(engine, "count")["values"]["pid"] == run(engine, "count")["values"]["pid"]


def test_a_failed_job_raises_with_message_and_remedy(engine):
    with pytest.raises(EngineError) as caught:
        run(engine, "fail")
    assert caught.value.message == "The volume is empty."
    assert caught.value.remedy == "Load another."
    assert caught.value.details == "where"


def test_a_refused_command_raises_with_its_remedy(engine):
    with pytest.raises(EngineError, match="This is not a job. Correct it."):
        run(engine, "refuse")


def test_a_crash_is_reported_with_its_last_words_and_the_next_job_runs(engine):
    with pytest.raises(EngineCrashed, match="exit code 17.*Segmentation fault at 0x0") as caught:
        run(engine, "crash")
    assert "about to fall over" in caught.value.details
    assert engine.processId is None
    assert run(engine, "count")["status"] == "finished"


def test_what_libraries_print_is_logged_and_events_of_other_jobs_are_ignored(engine):
    logged = []
    engine.logged.connect(lambda job, text: logged.append(text))
    assert run(engine, "chatter")["values"]["pid"] == engine.processId
    assert "a library says hello" in logged
    assert "{broken" in logged


def test_a_second_job_is_refused_while_one_runs(engine):
    job = engine.submit({"task": "count"})
    with pytest.raises(EngineError, match="busy"):
        engine.submit({"task": "count"})
    assert engine.wait(job, timeout=LIMIT)["status"] == "finished"


def test_cancel_ends_a_hanging_job_with_every_process_that_it_started(engine):
    seen = {}

    def cancelWhenHanging(job, event):
        if event["stage"] == "hanging":
            seen["child"], seen["engine"] = event["child"], engine.processId
            engine.cancel()

    engine.progress.connect(cancelWhenHanging)
    with pytest.raises(JobCancelled):
        run(engine, "hang")
    assert ends(seen["engine"])
    assert ends(seen["child"])
    assert run(engine, "count")["status"] == "finished"


def test_shutdown_in_the_middle_of_a_job_leaves_no_process(engine):
    seen, failed = {}, []

    def leave(job, event):
        seen["child"], seen["engine"] = event["child"], engine.processId
        engine.shutdown()

    engine.progress.connect(leave)
    engine.failed.connect(lambda job, error: failed.append(error))
    with pytest.raises(JobCancelled):
        run(engine, "hang")
    assert ends(seen["engine"])
    assert ends(seen["child"])
    assert len(failed) == 1


@pytest.mark.parametrize("task", ["", "hang"])
def test_a_dismissed_engine_ends_with_what_it_started_and_the_next_job_has_another(engine, task):
    seen = {"child": None}
    if task:
        engine.progress.connect(lambda job, event: seen.update(child=event.get("child")))
        engine.submit({"task": task})
        while seen["child"] is None:
            engine.processEvents(0.05)
    else:
        run(engine, "count")
    process, failed, answered = engine.processId, [], []
    engine.failed.connect(lambda job, error: failed.append(type(error)))
    engine.answered.connect(lambda question, answer: answered.append(type(answer)))
    engine.askAboutModel("m")
    engine.dismiss()
    assert engine.processId is None and engine.currentJob is None
    assert failed == ([JobCancelled] if task else []) and answered == [JobCancelled]
    assert run(engine, "count")["values"]["pid"] != process
    assert ends(process) and (seen["child"] is None or ends(seen["child"]))


def test_a_dismissed_engine_that_does_not_leave_is_ended_with_the_application():
    engine = EngineProcess([sys.executable, "-c", "import threading; threading.Event().wait()"])
    engine.askAboutModel("m")
    process = engine.processId
    engine.dismiss()
    engine.shutdown()
    assert ends(process)


def test_shutdown_of_an_idle_engine_ends_it(engine):
    processId = run(engine, "count")["values"]["pid"]
    engine.shutdown()
    assert ends(processId)
    assert engine.currentJob is None


def test_the_engine_runs_in_utf8_and_can_import_the_package(engine):
    values = run(engine, "environment")["values"]
    assert values["environment"]["PYTHONUTF8"] == "1"
    assert any((Path(folder) / "xaiengine" / "__init__.py").is_file() for folder in values["path"] if folder)


def test_choosing_the_cpu_hides_the_gpus_and_restarts_the_engine_once(engine):
    free = run(engine, "environment")["values"]
    bound = run(engine, "environment", device="cpu")["values"]
    assert bound["environment"]["CUDA_VISIBLE_DEVICES"] == "-1"
    assert free["environment"].get("CUDA_VISIBLE_DEVICES") != "-1"
    assert bound["pid"] != free["pid"]
    assert run(engine, "environment", device="cpu")["values"]["pid"] == bound["pid"]


def test_an_interpreter_that_does_not_exist_is_named():
    with pytest.raises(EngineError, match="no-such-python"):
        EngineProcess(["no-such-python"]).submit({"task": "count"})
