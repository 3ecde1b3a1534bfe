"""Demo: what two segmentation models look at.

Vessels: SlicerXAI's small vessel network on a real CT angiography; the descending aorta's component is explained, and
the places where the network differs from the label. Brain: deepbet's TorchScript network on a head MR (nilearn's
MNI152 template, which has no skull, or any scan given with --head), and its eager twin for a method at a layer.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
from pathlib import Path

from xaiengine.app.run import run_job
from xaiengine.core.console import ConsoleProgress
from xaiengine.core.job import Job, Result
from xaiengine.core.progress import Progress
from xaiengine.models import load_model
from xaiengine.models.explained_model import ExplainedModel
from xaiengine.models.session import Session

DATA = Path(__file__).resolve().parents[1] / "data"
AORTA = "3.0,136.3,582.2"
"""A point in the descending aorta, RAS in mm."""


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when everything was explained, 1 when something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo-results"))
    parser.add_argument("--only", choices=("vessels", "brain"), default=None)
    parser.add_argument("--head", type=Path, default=None, help="a T1 head MR instead of the MNI152 template")
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args(arguments)
    done = []
    if chosen.only != "brain":
        done += vessels(chosen.output / "vessels", chosen.device)
    if chosen.only != "vessels":
        done += brain(chosen.output / "brain", chosen.head, chosen.device)
    return 0 if all(result.status == "finished" for result in done) else 1


def vessels(output: Path, device: str) -> list[Result]:
    """The aorta as one component, and the errors against its label."""
    scan, label = str(DATA / "cta_aorta.nrrd"), str(DATA / "cta_aorta.seg.nrrd")
    print("Vessels: the vessel network on a CT angiography")
    aorta = {"target": "component", "point": AORTA, "methods": ["integrated_gradients", "hirescam", "iba"]}
    errors = {"target": "false-negatives", "methods": ["saliency"]}
    return [
        _explain("vessel_segmentation", {"volume": scan, "segmentation": label}, aorta, output / "aorta", device),
        _explain("vessel_segmentation", {"volume": scan, "reference": label}, errors, output / "missed", device),
    ]


def brain(output: Path, head: Path | None, device: str) -> list[Result]:
    """deepbet as TorchScript (input methods), and its twin (a method at a layer)."""
    from demo.brain_network import eager_twin, torchscript_model

    scan = str(head or head_template())
    print(f"Brain: deepbet on {scan}")
    path = torchscript_model(output / "model")
    gradients = {"methods": ["integrated_gradients"], "steps": 8}
    scripted = _explain(str(path), {"volume": scan}, gradients, output / "torchscript", device)
    twin = _with_network(load_model(path), eager_twin())
    layers = {"methods": ["hirescam"], "layers": ["down3"]}
    eager = _explain(str(path), {"volume": scan}, layers, output / "eager", device, _OneModel(twin))
    return [scripted, eager]


def head_template() -> Path:
    """The MNI152 T1 template in nilearn. Raises FileNotFoundError when nilearn is not installed."""
    spec = importlib.util.find_spec("nilearn")
    folder = Path(next(iter(spec.submodule_search_locations))) if spec else Path("nilearn")
    path = folder / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise FileNotFoundError("No head MR: run pip install --no-deps nilearn==0.14.1, or give --head SCAN")
    return path


def _with_network(model: ExplainedModel, network) -> ExplainedModel:
    """The same description with an eager network that ends in logits."""
    from dataclasses import replace

    from xaiengine.models.explained_model import Capabilities

    return replace(
        model,
        name="deepbet (eager)",
        network=network,
        activation="softmax",
        format="eager",
        notes=(),
        capabilities=Capabilities(),
    )


class _OneModel(Session):
    """A session that gives one model made in Python, whatever is asked for."""

    def __init__(self, model: ExplainedModel) -> None:
        super().__init__()
        self._model = model

    def model(self, name, device, trust=False) -> ExplainedModel:
        return self._model.to(device)


def _explain(
    model: str, inputs: dict, options: dict, output: Path, device: str, session: Session | None = None
) -> Result:
    console = ConsoleProgress()
    job = Job(
        task="explain-segmentation", model=model, inputs=inputs, options=options, device=device, output=str(output)
    )
    result = run_job(job, Progress(console), session, console.log)
    console.close()
    if result.error is not None:
        print(f"Error: {result.error.message}\n  {result.error.remedy}\n{result.error.details}")
        return result
    with open(output / "summary.csv", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            print(
                f"  {row['method']}: {row['target']} = {float(row['value']):.3g}; half of it within "
                f"{float(row['50 % within (mm)']):.1f} mm, 90 % within {float(row['90 % within (mm)']):.1f} mm, "
                f"{float(row['outside (%)']):.0f} % outside"
            )
    if "receptive_90_mm" in result.values:
        print(f"  receptive field: 90 % of the gradient within {result.values['receptive_90_mm']:.0f} mm of a voxel")
    for name, value in result.values.items():
        if name.startswith("corrected_"):
            error = name.removeprefix("corrected_").removesuffix("_percent")
            print(f"  {error}: {value:.0f} % corrected by the change that was found")
    print(f"  files: {output}")
    return result


if __name__ == "__main__":
    sys.exit(main())
