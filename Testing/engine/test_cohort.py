"""One task over many scans: resume, failures, table, page and findings, in one process and with the real task."""

import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xaiengine as xai
from PIL import Image
from xaiengine.cohorts.plan import CohortSettings, plan_cohort
from xaiengine.cohorts.record import read_record
from xaiengine.cohorts.sources import find_cases
from xaiengine.core.errors import InputError, OptionError
from xaiengine.io.volume_files import read_volume
from xaiengine.tasks import find_task

MODEL = "chest_xray_consolidation_classifier"
TASK = "explain-prediction"
OPTIONS = {"model": MODEL, "methods": ["saliency"], "baseline": "mean"}


def write_scans(folder, count=4, bad=()):
    generator = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["case,volume,group,score"]
    for number in range(count):
        name = f"röntgen {number}.png"
        if number in bad:
            (folder / name).write_text("no picture")
        else:
            Image.fromarray(generator.integers(0, 255, (64, 64), np.uint8)).save(folder / name)
        lines.append(f"p{number},{name},{'ab'[number % 2]},{number * 1.5}")
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A cohort of seven with one broken picture, run once."""
    folder = tmp_path_factory.mktemp("cohort")
    scans = write_scans(folder / "scans", 7, bad=(2,))
    done = xai.cohort(
        TASK, scans / "list.csv", folder / "out", group="group", agreement=("target_value", "score"), **OPTIONS
    )
    return folder, done


def test_a_broken_case_is_a_row_with_its_reason_and_the_others_are_done(study):
    folder, done = study
    (failed,) = done.failed
    assert failed["case"] == "p2" and failed["status"] == "failed" and "röntgen 2.png" in failed["reason"]
    assert failed["remedy"] and len(done.rows) == 7
    with open(folder / "out" / "cohort.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["finished"] * 2 + ["failed"] + ["finished"] * 4
    assert rows[1]["score"] == "1.5" and rows[1]["group"] == "b"


def test_a_case_s_result_is_the_ordinary_one(study, tmp_path):
    folder, _ = study
    scan = folder / "scans" / "röntgen 1.png"
    from xaiengine.app.run import run_job
    from xaiengine.core.job import Job

    options = {key: value for key, value in OPTIONS.items() if key != "model"}
    alone = run_job(Job(task=TASK, model=MODEL, inputs={"volume": str(scan)}, options=options, output=str(tmp_path)))
    own = json.loads((folder / "out" / "p1" / "result.json").read_text(encoding="utf-8"))
    assert own["values"] == json.loads(json.dumps(alone.values))
    ours, theirs = (read_volume(place / "attribution.nrrd") for place in (folder / "out" / "p1", tmp_path))
    assert np.array_equal(ours.array, theirs.array)


def test_a_second_run_keeps_what_stands_and_tries_again_what_failed(study):
    folder, _ = study
    place = folder / "out" / "p1" / "result.json"
    before, said, tried = place.stat().st_mtime_ns, [], []
    again = xai.cohort(
        TASK, folder / "scans" / "list.csv", folder / "out", log=said.append, progress=tried.append, **OPTIONS
    )
    assert place.stat().st_mtime_ns == before and [event["case"] for event in tried] == ["p2"]
    assert "6 kept from before, 1 tried again" in " ".join(said) and len(again.failed) == 1


def test_what_has_changed_is_done_again(tmp_path):
    scans = write_scans(tmp_path / "scans", 3)
    settings = CohortSettings(TASK, tmp_path / "out", model=MODEL, options={"methods": ["saliency"]})

    def states(settings=settings, **more):
        cases = find_cases(scans / "list.csv", find_task(TASK).Options)
        return [item.state for item in plan_cohort(cases, settings, **more)]

    assert states() == ["new"] * 3
    xai.cohort(TASK, scans / "list.csv", tmp_path / "out", model=MODEL, methods=["saliency"])
    assert states() == ["kept"] * 3 and states(force=True) == ["again"] * 3
    other = CohortSettings(TASK, tmp_path / "out", model=MODEL, options={"methods": ["gradcam"]})
    assert states(other) == ["changed"] * 3
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(scans / "röntgen 0.png")
    assert states() == ["changed", "kept", "kept"]
    (tmp_path / "out" / "p1" / "result.json").unlink()
    assert states() == ["changed", "again", "kept"]


def test_parts_have_every_case_once(tmp_path):
    scans = write_scans(tmp_path / "scans", 7)
    cases = find_cases(scans / "list.csv", find_task(TASK).Options)
    settings = CohortSettings(TASK, tmp_path / "out", model=MODEL)
    parts = [plan_cohort(cases, settings, part=(number, 3)) for number in (1, 2, 3)]
    assert sorted(item.case.name for part in parts for item in part) == [f"p{number}" for number in range(7)]
    with pytest.raises(InputError, match="Part 4 of 3"):
        plan_cohort(cases, settings, part=(4, 3))


def test_only_failed_does_nothing_else(study):
    folder, _ = study
    done = xai.cohort(TASK, folder / "scans" / "list.csv", folder / "out", only_failed=True, **OPTIONS)
    assert len(done.rows) == 7 and [row["case"] for row in done.failed] == ["p2"]


def test_the_page_shows_failures_first_and_needs_no_network(study):
    folder, _ = study
    text = (folder / "out" / "cohort.html").read_text(encoding="utf-8")
    assert text.index("cases without a result") < text.index("Pictures") < text.index("All cases")
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    assert text.count("data:image/jpeg") == 6 and "default-src 'none'" in text


def test_mean_maps_are_the_mean_of_the_cases(study):
    folder, _ = study
    maps = [read_volume(path).array for path in sorted((folder / "out").glob("p*/attribution.nrrd"))]
    mean = read_volume(folder / "out" / "mean_attribution.nrrd").array
    sd = read_volume(folder / "out" / "sd_attribution.nrrd").array
    assert len(maps) == 6
    np.testing.assert_allclose(mean, np.mean(maps, axis=0), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(sd, np.std(maps, axis=0, ddof=1), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"methods": ["gradkam"]}, OptionError, "gradkam"),
        ({"metods": ["gradcam"]}, OptionError, "metods"),
        ({"part": (3, 2)}, InputError, "Part 3 of 2"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(changes, error, words, tmp_path):
    scans = write_scans(tmp_path / "scans", 2)
    with pytest.raises(error, match=words):
        xai.cohort(TASK, scans / "list.csv", tmp_path / "out", **{**OPTIONS, **changes})
    assert not list((tmp_path / "out").glob("p*"))


def test_results_do_not_go_among_the_scans(tmp_path):
    scans = write_scans(tmp_path / "scans", 2)
    with pytest.raises(InputError, match="lies inside"):
        xai.cohort(TASK, scans, scans / "out", **OPTIONS)


def test_two_runs_into_one_folder_refuse_each_other(tmp_path):
    from xaiengine.cohorts.running import cohort_lock

    scans = write_scans(tmp_path / "scans", 1)
    with cohort_lock(tmp_path / "out"), pytest.raises(InputError, match="Another job"):
        xai.cohort(TASK, scans, tmp_path / "out", **OPTIONS)
    with cohort_lock(tmp_path / "out", (1, 2)), cohort_lock(tmp_path / "out", (2, 2)):
        with pytest.raises(InputError, match="Another job"):
            xai.cohort(TASK, scans, tmp_path / "out", **OPTIONS)
        with pytest.raises(InputError, match="Another job"), cohort_lock(tmp_path / "out", (1, 2)):
            pass


def test_a_bids_data_set_gets_derivatives(tmp_path):
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    path = tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((64, 64, 1), np.float32), np.eye(4)), path)
    code = xaiengine_main("cohort", TASK, "--cases", tmp_path, "--model", MODEL, "--methods", "saliency", "--jobs", 1)
    own = tmp_path / "derivatives" / "slicerxai"
    content = json.loads((own / "dataset_description.json").read_text())
    assert code == 0 and content["DatasetType"] == "derivative" and (own / "sub-01_T1w" / "result.json").is_file()


def xaiengine_main(*arguments):
    from xaiengine.app.shell import main

    return main([str(item) for item in arguments])


def test_the_shell_s_exit_code_and_lines_agree_with_the_table(study, capsys):
    folder, _ = study
    arguments = ("cohort", TASK, "--cases", folder / "scans" / "list.csv", "--output", folder / "out", "--jobs", 1)
    more = ("--model", MODEL, "--methods", "saliency", "--baseline", "mean", "--json-progress")
    assert xaiengine_main(*arguments, *more) == 1
    printed = capsys.readouterr()
    event = json.loads(printed.out.strip())
    assert event["case"] == "p2" and event["status"] == "failed" and event["total"] == 1
    assert "6 of 7 cases are finished" in printed.err and "p2: failed." in printed.err


def test_the_most_similar_case_of_a_case_s_own_scan_is_itself(study, tmp_path, capsys):
    folder, _ = study
    scan = folder / "scans" / "röntgen 3.png"
    found = xai.similar_cases(folder / "out", scan, count=3)
    assert found[0].case == "p3" and found[0].distance == pytest.approx(0, abs=1e-3) and len(found) == 3
    assert 0 < found[1].distance <= found[2].distance
    near = Image.fromarray(np.clip(np.asarray(Image.open(scan)).astype(int) + 2, 0, 255).astype(np.uint8))
    near.save(tmp_path / "near.png")
    assert xaiengine_main("similar", folder / "out", tmp_path / "near.png", "--count", 1) == 0
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("p3  ")
    with pytest.raises(InputError, match="no finished cases"):
        xai.similar_cases(tmp_path, scan)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process there")
def test_ctrl_c_stops_and_the_next_run_goes_on(tmp_path):
    scans = write_scans(tmp_path / "scans", 12)
    command = [sys.executable, "-m", "xaiengine", "cohort", TASK, "--cases", str(scans / "list.csv")]
    command += ["--output", str(tmp_path / "out"), "--model", MODEL, "--methods", "saliency", "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and read_record(tmp_path / "out" / "p1") is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "goes on where it stopped" in said, said
    assert not list((tmp_path / "out").rglob(".partial-*"))
    with open(tmp_path / "out" / "cohort.csv", encoding="utf-8", newline="") as stream:
        statuses = [row["status"] for row in csv.DictReader(stream)]
    assert "finished" in statuses and "not done" in statuses
    done = xai.cohort(TASK, scans / "list.csv", tmp_path / "out", model=MODEL, methods=["saliency"])
    assert not done.failed
