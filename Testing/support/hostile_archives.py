"""Archives and links that lead out of the model's folder, or grow without measure."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from support.hostile_corpus import UNET, entry, honest_weights, hostile


def packed(folder: Path, extra: Callable[[zipfile.ZipFile], None]) -> Path:
    path = folder / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("configs/inference.json", json.dumps({"network_def": UNET}))
        archive.writestr("models/model.pt", honest_weights())
        extra(archive)
    return path


@hostile("leads out")
def zip_path_traversal(folder, canary):
    return packed(folder, lambda archive: archive.writestr(f"../../{canary.name}", "x"))


@hostile("leads out")
def zip_absolute_path(folder, canary):
    return packed(folder, lambda archive: archive.writestr(str(canary), "x"))


@hostile("leads out")
def zip_windows_path(folder, canary):
    return packed(folder, lambda archive: archive.writestr("C:\\evil\\canary", "x"))


@hostile("is a link")
def zip_symbolic_link(folder, canary):
    link = zipfile.ZipInfo("configs/metadata.json")
    link.external_attr = 0o120777 << 16
    return packed(folder, lambda archive: archive.writestr(link, "/etc/passwd"))


@hostile("grows from")
def zip_bomb(folder, canary):
    return packed(folder, lambda archive: archive.writestr("configs/metadata.json", bytes(2**28)))


@hostile("files, which no model does")
def zip_of_countless_files(folder, canary):
    def fill(archive):
        for number in range(20_000):
            archive.writestr(f"configs/{number}.json", "{}")

    return packed(folder, fill)


@hostile("outside the model")
def link_to_weights_outside(folder, canary):
    root = entry(folder)
    (folder / "elsewhere.pt").write_bytes(honest_weights())
    (root / "models" / "model.pt").unlink()
    (root / "models" / "model.pt").symlink_to(folder / "elsewhere.pt")
    return root


@hostile("outside the model|leads nowhere")
def link_to_a_device(folder, canary):
    root = entry(folder)
    (root / "configs" / "metadata.json").symlink_to("/dev/zero")
    return root


@hostile("leads nowhere")
def link_to_itself(folder, canary):
    root = entry(folder)
    (root / "models" / "loop").symlink_to(root / "models" / "loop")
    return root
