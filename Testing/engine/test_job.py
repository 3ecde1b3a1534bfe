"""Jobs, results and what a failed run leaves behind."""

import json

import pytest
from xaiengine.app.run import run_job
from xaiengine.core.errors import CancelledError, InputError, OptionError
from xaiengine.core.job import Job, read_job, read_result
from xaiengine.core.options import TaskOptions, given, option
from xaiengine.core.output import PARTIAL_MARK, OutputFolder, csv_text
from xaiengine.core.progress import Progress
from xaiengine.tasks import TASKS, Context, Outcome, Task, find_task


class WriteOptions(TaskOptions):
    volume: str = given("volume", "Volume", "Any file.")
    size: float = option(1.0, "Size", "How much.", unit="mm", gt=0)


class WriteTask(Task):
    """Writes a table and then does what a test tells it to."""

    name, title, description, Options, needs_model = "write", "Write", "Writes a table.", WriteOptions, False
    then = staticmethod(lambda context: None)

    def run(self, options, context: Context) -> Outcome:
        context.output.table("table.csv", ["size"], [{"size": options.size}], "Sizes", "table")
        context.warn("only a test")
        type(self).then(context)
        return Outcome(values={"size": options.size})


@pytest.fixture
def write_task(monkeypatch):
    monkeypatch.setattr("xaiengine.app.run.find_task", lambda name: WriteTask())
    monkeypatch.setattr(WriteTask, "then", staticmethod(lambda context: None))
    return WriteTask


def job_in(folder, **changes):
    scan = folder / "given" / "ct.nrrd"
    scan.parent.mkdir(exist_ok=True)
    scan.touch()
    return Job(**{"task": "write", "inputs": {"volume": str(scan)}, "output": str(folder / "out"), **changes})


def files_of(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_job_leaves_its_artifacts_and_result(tmp_path, write_task):
    result = run_job(job_in(tmp_path, options={"size": 2.5}, seed=7))
    assert result.status == "finished" and result.values == {"size": 2.5}
    assert files_of(tmp_path / "out") == ["result.json", "table.csv"]
    assert (tmp_path / "out" / "table.csv").read_bytes() == b"size\n2.5\n"
    stored = read_result(tmp_path / "out")
    assert stored == result
    assert stored.warnings == ["only a test"] and stored.provenance["seed"] == 7
    assert stored.provenance["options"] == {"volume": str(tmp_path / "given" / "ct.nrrd"), "size": 2.5}


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InputError("The scan is empty.", "Give another."), "failed", "input"),
        (CancelledError(), "cancelled", "cancelled"),
        (MemoryError(), "failed", "resource"),
        (ZeroDivisionError("by zero"), "failed", "error"),
    ],
)
def test_a_failed_job_leaves_only_the_result_with_the_error(tmp_path, write_task, monkeypatch, error, status, kind):
    def fail(context):
        raise error

    monkeypatch.setattr(write_task, "then", staticmethod(fail))
    result = run_job(job_in(tmp_path))
    assert (result.status, result.error.kind) == (status, kind)
    assert result.error.message and (result.error.remedy or kind == "cancelled")
    assert files_of(tmp_path / "out") == ["result.json"]
    assert read_result(tmp_path / "out") == result


def test_a_disk_that_is_full_is_said(tmp_path, write_task, monkeypatch):
    import errno

    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("xaiengine.core.output.write_text_atomically", full)
    result = run_job(job_in(tmp_path))
    assert result.error.kind == "resource" and "full" in result.error.message
    assert files_of(tmp_path / "out") == ["result.json"]


def test_a_new_run_replaces_the_old_result_when_it_is_complete_and_clears_up_after_a_killed_one(tmp_path, write_task):
    run_job(job_in(tmp_path))
    killed, foreign = tmp_path / "out" / ".partial-killed", tmp_path / "out" / ".partial-mine"
    for folder in (killed, foreign):
        folder.mkdir()
    (killed / PARTIAL_MARK).touch()
    (foreign / "notes.txt").write_text("mine", encoding="utf-8")
    output = OutputFolder(tmp_path / "out")
    assert (tmp_path / "out" / "result.json").exists()
    assert not killed.exists()
    output.discard()
    assert files_of(tmp_path / "out") == [".partial-mine", "result.json", "table.csv"]
    assert (foreign / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_failure_sets_the_earlier_result_aside_whole(tmp_path, write_task):
    run_job(job_in(tmp_path))
    before = (tmp_path / "out" / "table.csv").read_bytes()
    result = run_job(job_in(tmp_path, options={"no_such_option": 1}))
    assert result.status == "failed"
    assert files_of(tmp_path / "out") == ["previous-result", "result.json"]
    assert (tmp_path / "out" / "previous-result" / "table.csv").read_bytes() == before
    assert read_result(tmp_path / "out" / "previous-result").status == "finished"
    assert run_job(job_in(tmp_path)).status == "finished"
    assert files_of(tmp_path / "out") == ["previous-result", "result.json", "table.csv"]


@pytest.mark.parametrize("is_input", [True, False])
def test_a_file_of_the_user_in_the_output_folder_is_never_overwritten(tmp_path, write_task, is_input):
    (tmp_path / "out").mkdir()
    mine = tmp_path / "out" / "table.csv"
    mine.write_text("mine", encoding="utf-8")
    changes = {"inputs": {"volume": str(mine)}} if is_input else {}
    result = run_job(job_in(tmp_path, **changes))
    assert result.status == "failed" and result.error.kind == "input" and "table.csv" in result.error.message
    assert mine.read_text(encoding="utf-8") == "mine"


def test_a_result_json_of_another_program_is_kept(tmp_path, write_task):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text('{"mine": 1}', encoding="utf-8")
    result = run_job(job_in(tmp_path))
    assert result.error.kind == "input" and "result.json" in result.error.message
    assert (tmp_path / "out" / "result.json").read_text(encoding="utf-8") == '{"mine": 1}'


def test_two_jobs_do_not_share_an_output_folder(tmp_path, write_task):
    first = OutputFolder(tmp_path / "out")
    result = run_job(job_in(tmp_path))
    assert result.error.kind == "input" and "Another job" in result.error.message
    first.discard()
    assert run_job(job_in(tmp_path)).status == "finished"


def test_cells_that_a_spreadsheet_would_run_are_text_and_numbers_stay_numbers():
    text = csv_text(["a"], [{"a": cell} for cell in ("=1+1", "@x", "+x", "-x", "-3.5", "+2", -4, -0.25, "plain")])
    assert text.splitlines()[1:] == ["'=1+1", "'@x", "'+x", "'-x", "-3.5", "+2", "-4", "-0.25", "plain"]


def test_an_output_that_is_a_file_is_refused_and_kept(tmp_path, write_task):
    (tmp_path / "out").write_text("mine")
    result = run_job(job_in(tmp_path))
    assert result.error.kind == "input" and "not a folder" in result.error.message
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": -1}, ["size", "greater than 0", "-1"]),
        ({"sizes": 1}, ["sizes", "not permitted"]),
        ({"size": "wide"}, ["size", "number", "wide"]),
    ],
)
def test_wrong_options_are_named_with_what_was_found_and_expected(tmp_path, write_task, options, words):
    result = run_job(job_in(tmp_path, options=options))
    assert result.error.kind == "option"
    assert all(word in result.error.message for word in words)
    assert "volume, size" in result.error.remedy


def test_an_unknown_task_offers_near_names(tmp_path):
    with pytest.raises(OptionError, match="quantify-lesions"):
        find_task("quantify-lesion")
    assert run_job(job_in(tmp_path, task="quantifylesions")).error.kind == "option"


def test_paths_in_a_job_file_count_from_its_folder(tmp_path):
    content = {"task": "write", "inputs": {"volume": "scans/ct.nrrd"}, "output": "out"}
    (tmp_path / "job.json").write_text(json.dumps(content))
    job = read_job(tmp_path / "job.json")
    assert job.inputs["volume"] == str(tmp_path / "scans" / "ct.nrrd")
    assert job.output == str(tmp_path / "out")


@pytest.mark.parametrize("content", ["{", '{"task": 1}', '{"output": "x"}', '{"task": "a", "output": "b", "sed": 1}'])
def test_a_broken_job_file_is_refused_with_a_remedy(tmp_path, content):
    (tmp_path / "job.json").write_text(content)
    with pytest.raises((InputError, OptionError)) as caught:
        read_job(tmp_path / "job.json")
    assert caught.value.remedy


def test_a_missing_job_file_is_said(tmp_path):
    with pytest.raises(InputError, match="no job file"):
        read_job(tmp_path / "nothing.json")


def test_csv_quotes_commas_and_leaves_nothing_empty():
    text = csv_text(["a", "b"], [{"a": 'x, "y"', "b": None}, {"a": 1 / 3}])
    assert text == 'a,b\n"x, ""y""",\n0.333333,\n'


def test_cancel_arrives_at_the_next_report(tmp_path, write_task, monkeypatch):
    asked = []
    progress = Progress(cancelled=lambda: bool(asked))

    def work(context):
        context.progress.stage("work", 10)
        context.progress.advance()
        asked.append(True)
        context.progress.advance()
        raise AssertionError("the work went on")

    monkeypatch.setattr(write_task, "then", staticmethod(work))
    assert run_job(job_in(tmp_path), progress).status == "cancelled"
    assert files_of(tmp_path / "out") == ["result.json"]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_option_of_every_task_has_a_title_and_a_description(name):
    from xaiengine.app.describe import option_fields

    for field in option_fields(find_task(name).Options):
        assert field.title and len(field.description) > 10, field.name
        assert not field.title.islower(), field.name
