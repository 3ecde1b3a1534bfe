"""Cases of a cohort that are most like a scan: by what the explained layer responds to, and by where the map lies.

A case's features are mean and standard deviation of every channel of a layer over the scan (its slices, windows or
volume), standardized over the cohort; near is near in the Euclidean distance per feature. The search is exact. A
map's profile is its share in each region; profiles are compared by half the sum of absolute differences: 0 alike, 1
disjoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import InputError
from ..core.job import read_result
from ..io.tensor_file import read_tensors, write_tensors
from ..io.volume import Volume
from .record import CaseRecord, read_record
from .table import region_shares

if TYPE_CHECKING:
    from ..models.explained_model import ExplainedModel

INDEX_NAME = "similar.safetensors"
FORMAT = "slicerxai-similar-1"


@dataclass(frozen=True)
class SimilarCase:
    """One case of the cohort. ``distance``: of features, in SD per feature; ``profile``: of region shares, 0..1."""

    case: str
    distance: float
    profile: float | None
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SimilarityIndex:
    """Features (n, F) of n cases, by one layer of one model."""

    cases: tuple[str, ...]
    digests: tuple[str, ...]
    features: np.ndarray
    layer: str
    model_digest: str

    def nearest(self, features: np.ndarray, count: int, leave_out: Sequence[str] = ()) -> list[tuple[str, float]]:
        """The ``count`` nearest cases to features (F,), with their distance in SD per feature."""
        center, spread = self.features.mean(0), self.features.std(0)
        used = spread > 1e-6 * max(float(np.abs(self.features).max()), 1e-12)
        known = (self.features[:, used] - center[used]) / spread[used]
        asked = (np.asarray(features)[used] - center[used]) / spread[used]
        distance = np.sqrt(((known - asked) ** 2).mean(1)) if used.any() else np.zeros(len(self.cases))
        order = [number for number in np.argsort(distance, kind="stable") if self.cases[number] not in set(leave_out)]
        return [(self.cases[number], float(distance[number])) for number in order[:count]]

    def save(self, path: Path) -> None:
        """Write the index as safetensors."""
        import torch

        told = {"format": FORMAT, "layer": self.layer, "model": self.model_digest}
        told |= {"cases": json.dumps(self.cases), "digests": json.dumps(self.digests)}
        write_tensors(path, {"features": torch.from_numpy(np.asarray(self.features, np.float32))}, told)

    @classmethod
    def load(cls, path: Path) -> SimilarityIndex:
        """Raises InputError for a file that is no index."""
        tensors, told = read_tensors(path)
        try:
            if told["format"] != FORMAT:
                raise ValueError(told["format"])
            names, digests = (tuple(json.loads(told[key])) for key in ("cases", "digests"))
            features = tensors["features"].numpy()
            if features.shape[0] != len(names) or len(digests) != len(names):
                raise ValueError("counts differ")
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{path} is no index of similar cases: {error}.", "Delete it; it is made again."
            ) from error
        return cls(names, digests, features, told["layer"], told["model"])


def scan_features(model: ExplainedModel, layer: str, volume: Volume) -> np.ndarray:
    """Mean and standard deviation (2 C,) of the channels of a layer over a scan."""
    from ..attribution.bottleneck.reference_fit import ReferenceFit

    fit = ReferenceFit(model, (layer,), scope="channel", examples=0)
    if fit.add(volume) < 2:
        fit.add(volume)  # statistics want two samples; the same twice has the same mean and deviation
    found = fit.finish()[layer]
    return np.concatenate([found.mean.double().numpy(), found.std.double().numpy()])


def cohort_index(
    study: Path,
    model: ExplainedModel,
    layer: str,
    read: Callable[[dict[str, Any]], Volume],
    advance: Callable[[str], None] = lambda case: None,
) -> SimilarityIndex:
    """The index of a cohort's finished cases, brought up to date: only cases that are new or changed are read again.

    ``read`` gives the scan of a job (as ``result.json`` keeps it).

    Raises:
        InputError: the folder holds no finished cases.
    """
    path = study / INDEX_NAME
    before = SimilarityIndex.load(path) if path.is_file() else None
    if before is not None and (before.layer, before.model_digest) != (layer, model.digest):
        before = None
    kept = {} if before is None else dict(zip(zip(before.cases, before.digests), before.features))
    records = finished_cases(study)
    if not records:
        raise InputError(f"{study} holds no finished cases of a cohort.", "Give the output folder of a cohort.")
    rows = []
    for folder, record in records:
        known = kept.get((record.case, record.digest))
        if known is None:
            job = read_result(folder).provenance["job"]
            known = scan_features(model, layer, read(job))
            advance(record.case)
        rows.append(np.asarray(known, np.float32))
    cases = tuple(record.case for _, record in records)
    index = SimilarityIndex(cases, tuple(item.digest for _, item in records), np.stack(rows), layer, model.digest)
    index.save(path)
    return index


def finished_cases(study: Path) -> list[tuple[Path, CaseRecord]]:
    """The folders and records of the finished cases of a cohort, by name."""
    found = []
    for folder in sorted(item for item in study.iterdir() if item.is_dir()) if study.is_dir() else []:
        record = read_record(folder)
        if record is not None and record.status == "finished":
            found.append((folder, record))
    return found


def profile_distance(first: dict[str, float], second: dict[str, float]) -> float | None:
    """Half the sum of absolute differences of two region profiles (%), as a share 0..1; None without regions."""
    if not first or not second:
        return None
    return sum(abs(first.get(name, 0.0) - second.get(name, 0.0)) for name in {*first, *second}) / 200.0


def similar_to(
    study: Path, index: SimilarityIndex, features: np.ndarray, count: int, result: Path | None = None
) -> list[SimilarCase]:
    """The nearest cases with their values; ``result`` is the scan's own result folder, for the profile."""
    own = region_shares(result) if result is not None else {}
    by_name = {record.case: (folder, record) for folder, record in finished_cases(study)}
    leave_out = [] if result is None else [name for name, (folder, _) in by_name.items() if folder == result]
    found = []
    for case, distance in index.nearest(features, count, leave_out):
        folder, record = by_name[case]
        profile = profile_distance(own, region_shares(folder)) if own else None
        found.append(SimilarCase(case, distance, profile, folder, dict(record.values)))
    return found
