"""Placements of a scan in the patient that software tends to get wrong, as IJK-to-RAS matrices in mm."""

from __future__ import annotations

import numpy as np

SHAPE = (14, 18, 22)
"""Voxels along i, j and k of the scans on these geometries: different, so that mixed-up axes show."""


def _matrix(columns: list[list[float]], origin: list[float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(columns, dtype=float).T
    matrix[:3, 3] = origin
    return matrix


def _rotation(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _oblique() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = _rotation((1.0, 2.0, 0.5), 33.0) @ np.diag([-1.1, -1.1, 2.0])
    matrix[:3, 3] = [31.0, -17.0, 120.0]
    return matrix


IJK_TO_RAS: dict[str, np.ndarray] = {
    "axial": _matrix([[-0.8, 0, 0], [0, -0.8, 0], [0, 0, 2.5]], [90, 110, -300]),
    "sagittal-stored": _matrix([[0, -1.2, 0], [0, 0, -1.2], [-3.0, 0, 0]], [40, 80, 60]),
    "oblique": _oblique(),
    "left-handed": _matrix([[0.9, 0, 0], [0, -0.9, 0], [0, 0, 1.5]], [-70, 60, 15]),
    "anisotropic": _matrix([[-0.5, 0, 0], [0, -0.5, 0], [0, 0, 7.0]], [12, 13, 14]),
}
