"""Activations and masks of a cohort on disk, so that it is sent through the network once and memory stays flat."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...core.output import disk_errors


@dataclass(frozen=True)
class Record:
    """One sample: its image, the shape of its activation and of its voxels, and where its bytes lie."""

    image: int
    cells: tuple[int, ...]
    voxels: tuple[int, ...]
    start: int
    concepts: tuple[int, ...]
    mask_start: int


@dataclass(frozen=True, eq=False)
class StoredSample:
    """``activation`` (U, cells...) float32; ``masks`` (k, voxels...) bool of the concepts numbered ``concepts``."""

    image: int
    activation: torch.Tensor
    voxels: tuple[int, ...]
    concepts: tuple[int, ...]
    masks: np.ndarray


class ActivationStore:
    """Samples of one layer in the order in which they were added. Files go with their folder."""

    def __init__(self, folder: Path, name: str, masks: MaskStore) -> None:
        self._path = folder / f"{name}.activations"
        self._masks = masks
        self.records: list[Record] = []
        self.units = 0
        self._size = 0
        with disk_errors(folder):
            self._path.write_bytes(b"")

    def add(self, image: int, activation: torch.Tensor, voxels: tuple[int, ...], mask: tuple[tuple, int]) -> None:
        """Append one sample; ``mask`` is what :meth:`MaskStore.add` returned."""
        values = activation.detach().cpu().contiguous().numpy()
        self.units = values.shape[0]
        concepts, mask_start = mask
        self.records.append(Record(image, values.shape[1:], voxels, self._size, concepts, mask_start))
        with disk_errors(self._path.parent), open(self._path, "ab") as stream:
            stream.write(values.data)
        self._size += values.nbytes

    @property
    def voxel_count(self) -> int:
        """Voxels of all samples together."""
        return sum(int(np.prod(record.voxels)) for record in self.records)

    def samples(self, chosen: Container[int] | None = None, *, masks: bool = True) -> Iterator[StoredSample]:
        """Every sample in order, or those whose numbers are ``chosen``."""
        with open(self._path, "rb") as stream, self._masks.reading() as mask_stream:
            for number, record in enumerate(self.records):
                if chosen is not None and number not in chosen:
                    continue
                stream.seek(record.start)
                count = self.units * int(np.prod(record.cells))
                values = np.fromfile(stream, np.float32, count).reshape(self.units, *record.cells)
                found = self._masks.read(mask_stream, record) if masks else np.zeros((0, *record.voxels), bool)
                yield StoredSample(record.image, torch.from_numpy(values), record.voxels, record.concepts, found)


class MaskStore:
    """Masks of the concepts that are present in each sample, a bit for each voxel."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "masks.bits"
        self._size = 0
        with disk_errors(folder):
            self._path.write_bytes(b"")

    def add(self, masks: Mapping[int, np.ndarray]) -> tuple[tuple[int, ...], int]:
        """Append the masks of one sample by concept; the concepts and the place of their bits come back."""
        concepts, start = tuple(sorted(masks)), self._size
        if concepts:
            bits = np.packbits(np.stack([masks[number] for number in concepts]).reshape(len(concepts), -1), axis=1)
            with disk_errors(self._path.parent), open(self._path, "ab") as stream:
                stream.write(bits.data)
            self._size += bits.nbytes
        return concepts, start

    def reading(self):
        return open(self._path, "rb")

    @staticmethod
    def read(stream, record: Record) -> np.ndarray:
        count = int(np.prod(record.voxels))
        if not record.concepts:
            return np.zeros((0, *record.voxels), dtype=bool)
        stream.seek(record.mask_start)
        width = (count + 7) // 8
        bits = np.fromfile(stream, np.uint8, len(record.concepts) * width).reshape(-1, width)
        return np.unpackbits(bits, axis=1, count=count).view(bool).reshape(-1, *record.voxels)
