"""Arguments of console functions: sorted for the task, refused with a list of what is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
from SlicerXAILib.EngineErrors import EngineError, NodeError
from SlicerXAILib.LoadedResult import LoadedResult
from SlicerXAILib.TaskArguments import ArgumentError, sortArguments
from SlicerXAILib.TaskDescriptions import describeOptions, findTask, readTasks


@pytest.fixture
def prediction():
    return findTask("explainPrediction")


@pytest.fixture
def segmentation():
    return findTask("explain-segmentation")


def test_arguments_are_sorted_into_inputs_options_and_model(a_scan, prediction):
    lungs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lungs")
    found = sortArguments(
        prediction,
        {"volume": a_scan, "model": Path("a/bundle"), "segments": lungs, "methods": "iba", "top_k": 2, "roi": None},
    )
    assert found.inputs == {"volume": a_scan, "segments": lungs}
    assert found.options == {"methods": ["iba"], "top_k": 2}
    assert found.model == str(Path("a/bundle"))


def test_a_single_node_is_a_folder_of_one(a_scan):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Scans")
    task = findTask("fitReference")
    assert sortArguments(task, {"scans": a_scan, "model": "m"}).inputs == {"scans": [a_scan]}
    assert sortArguments(task, {"scans": [a_scan, "b.nrrd"], "model": "m"}).inputs == {"scans": [a_scan, "b.nrrd"]}
    assert sortArguments(task, {"scans": sequence, "model": "m"}).inputs == {"scans": sequence}
    assert sortArguments(task, {"scans": "folder", "model": "m"}).inputs == {"scans": "folder"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"metods": ["iba"]}, "no argument called metods. Did you mean methods?"),
        ({"volume": None}, "needs volume and model"),
        ({"score": "odds"}, "score cannot be 'odds'. Choose from logit, probability, log_probability"),
        ({"methods": ["grad-kam"]}, "methods cannot hold 'grad-kam'. Did you mean gradcam"),
        ({"top_k": 0}, "top_k cannot be 0. Give a whole number from 1 up to 50"),
        ({"top_k": 1.5}, "top_k takes a whole number; found 1.5"),
        ({"noise": "much"}, "noise takes a number; found 'much'"),
        ({"noise": 0}, "noise cannot be 0. Give a number from 0 up to 2"),
        ({"extra_maps": 1}, "extra_maps takes True or False; found 1"),
        ({"occlusion_mm": -3}, "occlusion_mm cannot be -3. Give a number in mm from 0"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(prediction, arguments, said):
    with pytest.raises(ArgumentError) as caught:
        sortArguments(prediction, arguments)
    assert said in str(caught.value)


def test_hyphens_and_case_do_not_matter_in_lists(a_scan, prediction):
    given = {"volume": a_scan, "model": "m", "methods": ["Multilayer-IBA", "grad-cam"]}
    assert sortArguments(prediction, given).options["methods"] == ["Multilayer-IBA", "grad-cam"]


def test_former_names_of_options_still_serve_in_scripts(a_scan):
    task = findTask("explain-segmentation")
    given = {"volume": a_scan, "model": "m", "block": 6.0, "batch": 2}
    assert sortArguments(task, given).options == {"occlusion_mm": 6.0, "batch_size": 2}


def test_a_node_of_another_kind_is_refused_by_name(scene, prediction):
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "Surface")
    with pytest.raises(NodeError, match="volume takes a volume.*found the Model Surface"):
        sortArguments(prediction, {"volume": model, "model": "m"})
    with pytest.raises(NodeError, match="segments takes a segmentation.*found 5"):
        sortArguments(prediction, {"volume": "scan.nrrd", "model": "m", "segments": 5})


def test_a_point_is_a_markup_or_three_numbers(scene, segmentation):
    markup = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Here")
    assert sortArguments(segmentation, {"volume": "s.nrrd", "point": markup}).options["point"] is markup
    found = sortArguments(segmentation, {"volume": "s.nrrd", "point": np.array([1.5, -2.0, 3.0]).tolist()})
    assert found.options["point"] == "1.5,-2.0,3.0"


def test_a_segment_is_a_segmentation_with_a_name(scene, segmentation):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    found = sortArguments(segmentation, {"volume": "s.nrrd", "segmentation": (node, "Liver")})
    assert found.inputs["segmentation"] == (node, "Liver")


def test_tasks_are_found_by_function_and_by_name_and_near_misses_are_offered():
    assert findTask("quantifyLesions") is findTask("quantify-lesions")
    with pytest.raises(EngineError, match="no task called explainPredictions. Did you mean .*explain-prediction"):
        findTask("explainPredictions")


@pytest.mark.parametrize("name", sorted(readTasks()))
def test_every_option_is_told_with_its_limits(name):
    text = describeOptions(findTask(name))
    for field in findTask(name)["options"]:
        assert f"  {field['name']}" in text and field["description"] in text
        assert all(choice in text for choice in field["choices"] if field["type"] == "choice")


@pytest.mark.parametrize("name", sorted(readTasks()))
def test_every_node_of_a_result_can_be_an_attribute_of_it(name):
    assert {item["role"] for item in findTask(name)["outputs"]}.isdisjoint(dir(LoadedResult("")))
