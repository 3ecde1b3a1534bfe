"""What mkdocs does beside its own work: the repository's pictures and model cards are part of the pages."""

from __future__ import annotations

from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]


def on_files(files: Files, config) -> Files:
    """Pictures of Resources/ appear as images/, cards of the shipped models as model-cards/."""
    for picture in sorted((ROOT / "Resources").rglob("*.png")):
        place = picture.relative_to(ROOT / "Resources").as_posix()
        files.append(File.generated(config, f"images/{place}", abs_src_path=str(picture)))
    for card in sorted((ROOT / "SlicerXAI" / "Resources" / "Models").glob("*/docs/README.md")):
        files.append(File.generated(config, f"model-cards/{card.parents[1].name}.md", abs_src_path=str(card)))
    return files
