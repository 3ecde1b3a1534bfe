"""Models that run their own code, which the user has declared trusted."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError
from ..description import ModelDescription, assemble_described, description_of, read_description, weights_path
from ..explained_model import ExplainedModel
from ..files import SingleFile
from ..fitting import load_weights
from ..formats.weights import tensors_of

if TYPE_CHECKING:
    from torch import nn


def load_with_code(path: Path, code: Path) -> ExplainedModel:
    """A model whose class is defined in a Python file of the user; that file is run.

    ``path`` is a state dict, a checkpoint or a pickled network. The class is the one named by ``network`` in the
    description beside the weights (``{"_target_": "Net", ...}``), or the file's only ``nn.Module``; a function
    ``build()`` is taken too.

    Raises:
        ModelError: the file defines no network, or its weights do not fit.
    """
    module = _run(code)
    description = description_of(path)
    network, notes = _network(path, module, description)
    network.eval().float()
    return assemble_described(
        path, SingleFile(path), description, network, f"network of {code.name}", notes=tuple(notes)
    )


def load_with_described_code(path: Path) -> ExplainedModel | None:
    """As :func:`load_with_code`, with the file that the description names; None when it names none.

    Raises:
        ModelError: the description's code lies elsewhere than beside it.
    """
    is_description = path.suffix.lower() == ".json"
    description = read_description(path) if is_description else description_of(path)
    if not description.code:
        return None
    if Path(description.code).name != description.code:
        raise ModelError(
            f"The code {description.code} lies outside the model's folder.", "Put the files side by side."
        )
    weights = weights_path(path, description) if is_description else path
    return load_with_code(weights, path.with_name(description.code))


def _run(code: Path) -> Any:
    if not code.is_file():
        raise ModelError(f"There is no Python file {code}.", "Give the file that defines the network's class.")
    name = f"trusted_{code.stem}"
    spec = importlib.util.spec_from_file_location(name, code)
    if spec is None or spec.loader is None:
        raise ModelError(f"{code.name} is not a Python file.", "Give the file that defines the network's class.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    places = [str(code.parent), str(Path.cwd())]
    sys.path[:0] = places
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(
            f"{code.name} failed: {type(error).__name__}: {error}.", "Make it run by itself: python " + code.name
        ) from error
    finally:
        for place in places:
            sys.path.remove(place)
    return module


def _network(path: Path, module: Any, description: ModelDescription) -> tuple[nn.Module, tuple[str, ...]]:
    import torch
    from torch import nn

    if path.suffix.lower() == ".safetensors":
        from ..formats.weights import read_state

        checkpoint: Any = read_state(SingleFile(path), path.name)
    else:
        for name, value in vars(module).items():  # pickles of a script name their classes as __main__
            if inspect.isclass(value) and value.__module__ == module.__name__:
                setattr(sys.modules["__main__"], name, value)
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    if isinstance(checkpoint, nn.Module):
        return checkpoint, ()
    if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get("model"), nn.Module):
        return checkpoint["model"], ()
    network = _built(module, description)
    return network, load_weights(network, tensors_of(checkpoint, path.name), path.name)


def _built(module: Any, description: ModelDescription) -> nn.Module:
    from torch import nn

    arguments = dict(description.network or {})
    wanted = str(arguments.pop("_target_", "")).rpartition(".")[2]
    classes = {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    }
    if wanted:
        maker = classes.get(wanted) or getattr(module, wanted, None)
    else:
        maker = getattr(module, "build", None) or (next(iter(classes.values())) if len(classes) == 1 else None)
    if maker is None:
        raise ModelError(
            f"Which class of {Path(module.__file__).name} is the network is not known (it has {', '.join(classes)}).",
            'Define a function build(), or name the class: {"network": {"_target_": "Net"}} in a description.',
        )
    try:
        return maker(**arguments)
    except TypeError as error:
        raise ModelError(
            f"{getattr(maker, '__name__', maker)} cannot be made: {error}.",
            'Give its arguments in a description beside the weights: {"network": {"_target_": "Net", ...}}.',
        ) from error
