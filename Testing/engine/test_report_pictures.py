"""Results are drawn again from their files, and follow a run where the shell asks for it."""

from __future__ import annotations

from xml.etree import ElementTree

import matplotlib.image
import pytest
from support.results import example_result
from support.scans import GRIDS, thorax
from xaiengine.__main__ import main
from xaiengine.app import shell
from xaiengine.core.errors import InputError, OptionError
from xaiengine.core.job import Result
from xaiengine.io.volume_files import write_volume
from xaiengine.report.pictures import draw_result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("result")
    example_result(path)
    return path


def test_a_result_is_drawn_for_print_as_vector_graphics(folder, tmp_path, capsys):
    output = tmp_path / "maps.svg"
    arguments = ["--theme", "print", "--window", "bone", "--point", "1", "2", "3"]
    assert main(["picture", str(folder), "-o", str(output), *arguments]) == 0
    assert ElementTree.parse(output).getroot().tag.endswith("svg")
    assert "maps.svg" in capsys.readouterr().err
    (dark,) = draw_result(folder, tmp_path / "dark.png")
    (light,) = draw_result(folder, tmp_path / "light.png", theme="print", maps=["attribution"])
    assert matplotlib.image.imread(light)[2, 2, :3].mean() > 0.9 > matplotlib.image.imread(dark)[2, 2, :3].mean()


def test_what_cannot_be_drawn_is_refused(folder, tmp_path):
    with pytest.raises(OptionError, match="no map 'gradcam'"):
        draw_result(folder, tmp_path / "a.png", maps=["gradcam"])
    with pytest.raises(InputError, match="not where the job read it"):
        draw_result(folder, tmp_path / "a.png", scan=tmp_path / "gone.nrrd")
    assert not list(tmp_path.iterdir())


def test_report_and_dicom_follow_a_run(tmp_path, monkeypatch):
    pytest.importorskip("highdicom")
    write_volume(tmp_path / "a.nrrd", thorax(GRIDS["axial"]))

    def run(job, progress, log):
        assert not {"report", "dicom"} & set(job.options)
        return example_result(tmp_path / "out") if job.seed == 0 else Result(status="cancelled", task=job.task)

    monkeypatch.setattr("xaiengine.app.run.run_job", run)
    arguments = [
        "quantify-lesions",
        str(tmp_path / "a.nrrd"),
        "--output",
        str(tmp_path / "out"),
        "--report",
        "--dicom",
    ]
    assert shell.main([*arguments, "--seed", "1"]) == 130
    assert not (tmp_path / "out").exists()
    assert shell.main(arguments) == 0
    assert (tmp_path / "out" / "report.html").is_file() and len(list((tmp_path / "out" / "dicom").iterdir())) == 4
