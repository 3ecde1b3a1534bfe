"""Where the cases of a cohort come from: folders, manifests, BIDS data sets, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image
from support.dicom_series import write_series
from xaiengine.cohorts.case import Case, check_names, folder_name
from xaiengine.cohorts.sources import find_cases
from xaiengine.core.errors import InputError
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume
from xaiengine.tasks import find_task

OPTIONS = find_task("explain-prediction").Options


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)
    return path


def names(cases):
    return [case.name for case in cases]


def test_a_folder_gives_its_scans_and_leaves_label_maps_out(tmp_path):
    for name in ("b.png", "ä.png", "sub/c.png", "sub/c_mask.png", ".hidden/d.png"):
        picture(tmp_path / name)
    said = []
    cases = find_cases(tmp_path, OPTIONS, say=said.append)
    assert names(cases) == ["b", "c", "ä"] and "1 label maps" in said[0]
    assert cases[0].inputs == {"volume": str(tmp_path / "b.png")}


def test_scans_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for site in ("one", "two"):
        picture(tmp_path / site / "scan.png")
    picture(tmp_path / "one" / "scan.jpg")
    assert names(find_cases(tmp_path, OPTIONS)) == ["one_scan", "one_scan 2", "two_scan"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "semicolons"])
def test_a_manifest_gives_inputs_options_and_covariates(tmp_path, ending):
    picture(tmp_path / "scans" / "a.png")
    row = {
        "case": "A",
        "volume": "scans/a.png",
        "target": "1",
        "methods": "gradcam;saliency",
        "age": "63",
        "score": "4.5",
    }
    path = tmp_path / f"list.{'csv' if ending == 'semicolons' else ending}"
    if ending == "json":
        own = {"target": "1", "methods": ["gradcam", "saliency"]}
        content = {
            "cases": [
                {"case": "A", "volume": "scans/a.png", "options": own, "covariates": {"age": "63", "score": "4.5"}}
            ]
        }
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        mark = {"csv": ",", "tsv": "\t", "semicolons": ";"}[ending]
        if ending == "semicolons":
            row["methods"] = '"gradcam;saliency"'
        path.write_text(f"{mark.join(row)}\n{mark.join(row.values())}\n", encoding="utf-8-sig")
    (case,) = find_cases(path, OPTIONS)
    assert case.name == "A" and case.inputs == {"volume": str(tmp_path / "scans" / "a.png")}
    assert case.options == {"target": "1", "methods": ["gradcam", "saliency"]} and case.covariates == {
        "age": "63",
        "score": "4.5",
    }


def test_bids_data_sets_bring_their_participants(tmp_path):
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\nsub-02\tM\n")
    for subject in ("01", "02"):
        path = tmp_path / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii"
        path.parent.mkdir(parents=True)
        path.touch()
    cases = find_cases(tmp_path, OPTIONS)
    assert names(cases) == ["sub-01_T1w", "sub-02_T1w"] and cases[1].covariates == {"sex": "M"}


def test_names_are_folders_on_every_system():
    assert (
        folder_name('a/b:c*"?') == "a_b_c___" and folder_name("NUL.nii") == "NUL.nii_" and folder_name(" . ") == "case"
    )
    assert folder_name("Ärztin 3") == "Ärztin 3"
    with pytest.raises(InputError, match="2 names.*A, a"):
        check_names([Case("a", {}), Case("A", {}), Case("b", {})])


def refused(tmp_path, text, match, name="list.csv", task="explain-prediction"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=match) as error:
        find_cases(path, find_task(task).Options)
    assert error.value.remedy


def test_bad_manifests_are_refused_in_one_sentence(tmp_path):
    picture(tmp_path / "a.png")
    refused(tmp_path, "case,image\nx,a.png\n", "no column 'volume'; it has case, image")
    refused(tmp_path, "case,volume\nx,a.png\ny,\n", "row 2 has no scan")
    refused(tmp_path, "volume\nq.png\na.png\nr.png\n", r"2 files are not there: q: .*q.png, r: .*r.png")
    refused(tmp_path, '[{"volume": "a.png", "options": {"metods": ["iba"]}}]', "no option metods", "list.json")
    refused(tmp_path, "{", "cannot be read", "list.json")
    refused(tmp_path, "case,volume\nx,a.png\nx,a.png\n", "more than one case: x")
    refused(tmp_path, "case,volume\n", "holds no cases")


def test_folders_that_cannot_be_meant_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no cases"):
        find_cases(tmp_path, OPTIONS)
    picture(tmp_path / "a.png")
    write_volume(tmp_path / "b.nrrd", Volume(np.zeros((4, 4, 4), np.int16), Grid((4, 4, 4), np.eye(4))))
    with pytest.raises(InputError, match="1 volumes, 1 pictures"):
        find_cases(tmp_path, OPTIONS)
    with pytest.raises(InputError, match="no folder or file"):
        find_cases(tmp_path / "nowhere", OPTIONS)
    with pytest.raises(InputError, match="does not take one scan"):
        find_cases(tmp_path, find_task("dissect").Options)


def test_dicom_series_of_a_folder_are_cases_and_modalities_are_not_mixed(tmp_path):
    def write(name, kind):
        write_series(tmp_path / name, np.zeros((6, 5, 4), np.int16), Grid((6, 5, 4), np.eye(4)), Modality=kind)

    write("p1", "CT")
    write("p2", "CT")
    assert names(find_cases(tmp_path, OPTIONS)) == ["p1", "p2"]
    write("p3", "MR")
    with pytest.raises(InputError, match="2 CT, 1 MR"):
        find_cases(tmp_path, OPTIONS)
    assert names(find_cases(tmp_path, OPTIONS, modality="mr")) == ["p3"]
