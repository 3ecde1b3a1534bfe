"""The shipped demo of counterfactual X-rays on held-out images: what its model card says of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from xaiengine.counterfactual.explained_score import training_score
from xaiengine.counterfactual.generator.loading import load_generator
from xaiengine.counterfactual.generator_context import generator_path
from xaiengine.counterfactual.series.similarity import similarity_map
from xaiengine.counterfactual.series.slice_replacement import blank_frame
from xaiengine.models import find_model, load_model

DATA = Path(__file__).resolve().parents[1] / "data" / "chest_xray_held_out.npz"
GENERATOR, CLASSIFIER = "chest_xray_counterfactual", "chest_xray_consolidation_classifier"
LARGEST = 6_000_000


def in_engines_order(images: np.ndarray) -> torch.Tensor:
    """(n, rows, columns) to (n, I, J)."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 2, 1)))


@pytest.fixture(scope="module")
def xrays():
    with np.load(DATA) as content:
        return {name: content[name] for name in content.files}


@pytest.fixture(scope="module")
def images(xrays):
    return in_engines_order(xrays["images"])[:, None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def stored():
    return load_generator(generator_path(GENERATOR))


@pytest.fixture(scope="module")
def score(stored, images):
    return training_score(load_model(find_model(CLASSIFIER)), blank_frame(64, 1, "axial", (0.0, 255.0), None), images)


@pytest.fixture(scope="module")
def rebuilt(stored, images):
    with torch.no_grad():
        return stored.space.decode(stored.space.encode(images))


def test_classifier_and_generator_are_small():
    folders = [generator_path(GENERATOR), find_model(CLASSIFIER)]
    weights = [item for folder in folders for item in folder.rglob("*.safetensors")]
    assert len(weights) >= 3
    assert sum(item.stat().st_size for item in weights) < LARGEST


def test_generator_was_trained_with_the_shipped_classifier(stored, score):
    assert stored.description.explained_model == score.answer.predictor.model.digest
    assert "CC BY-SA 4.0" in stored.description.license


def test_classifier_follows_the_hidden_share_of_the_lungs(xrays, images, score):
    with torch.no_grad():
        found = score.shown(score.target.score(images)).numpy()
    burden = xrays["burden"]
    order = np.argsort(np.argsort(found[burden > 0])), np.argsort(np.argsort(burden[burden > 0]))
    assert np.corrcoef(*order)[0, 1] > 0.85
    assert np.median(found[burden == 0]) < 0.1
    assert np.median(found[burden > 0.15]) > 0.75


def test_reconstructions_keep_image_and_prediction(images, rebuilt, score):
    with torch.no_grad():
        said, again = (score.shown(score.target.score(pictures)) for pictures in (images, rebuilt))
    assert float((said - again).abs().median()) <= 0.05
    assert float((rebuilt - images).abs().mean()) < 0.06


def test_consolidation_goes_and_the_rest_stays(xrays, stored, images, rebuilt, score):
    """Of clearly seen consolidations: the planted brightness falls, the image elsewhere stays as it is."""
    with torch.no_grad():
        chosen = torch.from_numpy(xrays["burden"]) > 0.06
        latents = stored.space.encode(images[chosen])
        latents[:, 0] = score.target.low / 2
        cleared = stored.space.decode(latents)
        assert float((score.target.score(cleared) < 0).float().mean()) >= 0.9
    opacity = in_engines_order(xrays["opacity"])[chosen].float() / 255
    inside, near = opacity > 0.3, torch.nn.functional.max_pool2d(opacity[:, None], 9, 1, 4)[:, 0] > 0.05
    change = (cleared - rebuilt[chosen])[:, 0]
    fell = [float(one[where].mean()) < 0 for one, where in zip(change, inside)]
    assert np.mean(fell) >= 0.9
    similar = similarity_map(cleared, rebuilt[chosen])
    assert np.median([float(one[~where].mean()) for one, where in zip(similar, near)]) >= 0.9


def test_domain_is_that_of_held_out_images(stored):
    path = generator_path(GENERATOR) / "generator.json"
    domain = json.loads(path.read_text(encoding="utf-8"))["training"]["domain"]
    assert 0 < domain["l1"] < 0.1 and 0 < domain["distance"]
