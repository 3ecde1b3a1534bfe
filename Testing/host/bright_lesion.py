"""A model and scans for which the truth is known: the model calls lesion what is brighter than soft tissue."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import slicer

SIDE = 32
LESION_HU, TISSUE_HU, LUNG_HU, AIR_HU = 300, 20, -850, -1000
LESION_RADIUS_MM = 22.0
SMALL_SHAPE = (20, 18, 12)
_LOW_HU, _HIGH_HU = -1000, 400
_THRESHOLD = (150.0 - _LOW_HU) / (_HIGH_HU - _LOW_HU)
_MARGIN = 0.05
_EVIDENCE_PER_PIXEL = 4.0

_NETWORK = {
    "_target_": "monai.networks.nets.Classifier",
    "in_shape": [1, SIDE, SIDE],
    "classes": 2,
    "channels": [2, 2, 2],
    "strides": [1, 1, 1],
    "num_res_units": 0,
    "norm": None,
    "act": "RELU",
}
_INFERENCE = {
    "network_def": _NETWORK,
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": _LOW_HU,
                "a_max": _HIGH_HU,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
            {"_target_": "Resized", "keys": "image", "spatial_size": [SIDE, SIDE, -1]},
        ],
    },
}
_EXPLANATION = {
    "task": "classification",
    "labels": ["healthy", "lesion"],
    "target": "lesion",
    "activation": "softmax",
    "inference": {"kind": "slices", "plane": "axial", "roi_size": [SIDE, SIDE]},
    "layers": ["net.layer_0"],
}


def write_model(folder: Path) -> Path:
    """Write a MONAI bundle whose weights are set by hand: evidence = 4 · Σ max(0, x - threshold - margin) - 4."""
    # Imported here, so that merely collecting the tests stays quick.
    import torch
    from monai.networks.nets import Classifier
    from safetensors.torch import save_file

    options = {key: value for key, value in _NETWORK.items() if key != "_target_"}
    network = Classifier(**options)
    state = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    state["net.layer_0.conv.weight"][0, 0, 1, 1] = 1.0
    state["net.layer_0.conv.bias"][:] = -_THRESHOLD
    state["net.layer_1.conv.weight"][0, 0, 1, 1] = 1.0
    state["net.layer_1.conv.bias"][0] = -_MARGIN  # weak noise is no evidence
    state["net.layer_2.conv.weight"][0, 0, 1, 1] = 1.0  # the last block of a Classifier has no activation
    head = next(name for name in state if name.startswith("final") and name.endswith("weight"))
    state[head][1, : SIDE * SIDE] = _EVIDENCE_PER_PIXEL
    state[head.replace("weight", "bias")][1] = -4.0
    network.load_state_dict(state)
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    for name, content in (("inference", _INFERENCE), ("explanation", _EXPLANATION)):
        (folder / "configs" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    save_file(network.state_dict(), folder / "models" / "model.safetensors")
    return folder


def make_patient(ijk_to_ras: np.ndarray, shape: tuple[int, int, int], center: np.ndarray):
    """Add a CT of two lungs in a body with one bright ball at a RAS point, and the lungs' segmentation.

    :param center: the lesion's RAS position in mm; it lies in the lung around it.
    """
    index = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), axis=-1)
    ras = index @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    middle = ijk_to_ras[:3, :3] @ ((np.array(shape) - 1) / 2) + ijk_to_ras[:3, 3]
    offset = ras - middle
    extent = np.abs(offset).reshape(-1, 3).max(0)
    lungs = (np.abs(offset) < 0.75 * extent).all(-1)
    lesion = np.linalg.norm(ras - center, axis=-1) <= LESION_RADIUS_MM
    voxels = np.full(shape, TISSUE_HU, np.int16)
    voxels[lungs] = LUNG_HU
    voxels[lesion] = LESION_HU
    scan = slicer.util.addVolumeFromArray(voxels.transpose(2, 1, 0).copy(), name="CT")
    scan.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lungs")
    node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    node.GetSegmentation().AddEmptySegment("lungs", "Lungs")
    mask = lungs.astype(np.uint8).transpose(2, 1, 0).copy()
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "lungs", scan)
    return scan, node


def make_small_patient():
    """Add a patient of a few thousand voxels.

    :returns: the CT, the lungs' segmentation, and the RAS position of the ball's center.
    """
    ijk_to_ras = np.diag([-9.0, -9.0, 14.0, 1.0])
    ijk_to_ras[:3, 3] = [80.0, 85.0, -90.0]
    center = (ijk_to_ras @ [*((np.array(SMALL_SHAPE) - 1) / 2), 1.0])[:3] + [20.0, -12.0, 16.0]
    return *make_patient(ijk_to_ras, SMALL_SHAPE, center), center
