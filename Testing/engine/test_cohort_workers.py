"""Worker processes of a real Dask cluster: a killed worker, isolation, the scheduler's address, batch scripts."""

import numpy as np
import pytest
import xaiengine as xai
from PIL import Image
from support import cohort_runs
from xaiengine.cohorts.cluster import DaskPool, batch_cluster, local_cluster, part_of, worker_count
from xaiengine.cohorts.plan import CohortSettings, plan_cohort
from xaiengine.cohorts.record import read_record
from xaiengine.cohorts.running import run_cohort
from xaiengine.cohorts.sources import find_cases
from xaiengine.core.errors import InputError, OptionError, ResourceError
from xaiengine.tasks import find_task

pytest.importorskip("distributed")
MODEL, TASK = "chest_xray_consolidation_classifier", "explain-prediction"


def planned(tmp_path, names):
    scans = tmp_path / "scans"
    scans.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (64, 64), np.uint8)).save(scans / f"{name}.png")
    cases = find_cases(scans, find_task(TASK).Options)
    return plan_cohort(cases, CohortSettings(TASK, tmp_path / "out", model=MODEL, options={"methods": ["saliency"]}))


@pytest.mark.slow
def test_a_killed_worker_is_replaced_its_case_tried_once_more_and_marked(tmp_path):
    work = planned(tmp_path, ["a", "b", "c", "d killed", "e", "f"])
    ended = []
    ran = run_cohort(
        work,
        cohort_runs.run_or_die,
        DaskPool(lambda: local_cluster(2)),
        lambda item, record: ended.append(record.case),
    )
    status = {record.case: record.status for record in ran.records}
    assert status == {name: "lost" if "killed" in name else "finished" for name in status} and len(status) == 6
    record = read_record(tmp_path / "out" / "d killed")
    assert record.attempts == 2 and "killed, or out of memory" in record.reason and "--only-failed" in record.remedy
    assert sorted(ended) == sorted(status)


@pytest.mark.slow
def test_two_workers_give_what_one_process_gives(tmp_path):
    planned(tmp_path, ["a", "b", "c", "ünïcode"])
    options = {"model": MODEL, "methods": ["saliency"]}
    one = xai.cohort(TASK, tmp_path / "scans", tmp_path / "one", **options)
    two = xai.cohort(TASK, tmp_path / "scans", tmp_path / "two", jobs=2, **options)
    own = [{key: value for key, value in row.items() if key != "seconds"} for row in one.rows]
    assert own == [{key: value for key, value in row.items() if key != "seconds"} for row in two.rows]
    for name in ("a", "ünïcode"):
        first, second = ((tmp_path / side / name / "attribution.nrrd").read_bytes() for side in ("one", "two"))
        assert first == second


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("xaiengine.cohorts.cluster.CONNECT_SECONDS", 0.5)
    planned(tmp_path, ["a", "b"])
    with pytest.raises(ResourceError, match="tcp://127.0.0.1:9 does not answer"):
        xai.cohort(TASK, tmp_path / "scans", tmp_path / "out", model=MODEL, scheduler="tcp://127.0.0.1:9")


def test_the_batch_script_asks_for_what_the_file_says(tmp_path):
    pytest.importorskip("dask_jobqueue")
    path = tmp_path / "slurm.yaml"
    path.write_text(
        "queue: gpu\ncores: 4\nmemory: 8GB\nwalltime: '02:00:00'\njob_extra_directives: ['--gres=gpu:1']\n"
    )
    cluster = batch_cluster("slurm", path, 0)
    try:
        script = cluster.job_script()
    finally:
        cluster.close()
    for line in ("#SBATCH -p gpu", "#SBATCH --cpus-per-task=4", "#SBATCH -t 02:00:00", "#SBATCH --gres=gpu:1"):
        assert line in script
    path.write_text("queeu: gpu\ncores: 4\nmemory: 8GB\n")
    with pytest.raises(OptionError, match="does not describe slurm workers"):
        batch_cluster("slurm", path, 1)


def test_workers_fit_cores_cases_and_memory():
    assert worker_count(100, None, 0, 8) == 8 and worker_count(3, None, 0, 8) == 3
    assert worker_count(100, 4e9, int(9e9), 8) == 2 and worker_count(100, 4e9, int(1e9), 8) == 1


def test_parts_are_two_numbers():
    assert part_of("2/8") == (2, 8)
    for text in ("2", "a/b", "1/0", "-1/3"):
        with pytest.raises(InputError, match="--part"):
            part_of(text)
