"""Bundles with several image keys: each channel gets its own key's steps, as MONAI itself would run them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from xaiengine.core.errors import ModelError
from xaiengine.inference.preprocessing import preprocess
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.models.transforms import preprocessing_of
from xaiengine.models.trust.safe_config import SafeConfig

SHAPE = (16, 14, 12)
RNG = np.random.default_rng(0)
CT, PET, T2 = RNG.normal(0, 300, SHAPE), RNG.gamma(2, 2, SHAPE), RNG.normal(200, 50, SHAPE)
GUIDANCE = (RNG.random(SHAPE) > 0.99).astype(float)


def scaled(key, low, high):
    step = {"_target_": "ScaleIntensityRanged", "keys": key, "a_min": low, "a_max": high}
    return {**step, "b_min": 0, "b_max": 1, "clip": True}


def smooth(key):
    return {"_target_": "GaussianSmoothd", "keys": key, "sigma": 2.0}


def spacing(keys, pixdim=(2.0, 2.0, 2.0), mode="bilinear"):
    return {"_target_": "Spacingd", "keys": keys, "pixdim": list(pixdim), "mode": mode}


def joined(*keys, name="image"):
    return {"_target_": "ConcatItemsd", "keys": list(keys), "name": name}


ZSCORE = {"_target_": "NormalizeIntensityd", "keys": ["a", "b"]}
CASES = {
    "CT and PET": (["a", "b"], CT, PET, [scaled("a", -1000, 1000), scaled("b", 0, 20), joined("a", "b")]),
    "the other order": (["b", "a"], CT, PET, [scaled("a", 0, 20), scaled("b", -1000, 1000), joined("b", "a")]),
    "each normalized": (["a", "b"], T2, CT, [ZSCORE, joined("a", "b")]),
    "guidance": (["a", "b"], CT, GUIDANCE, [scaled("a", -1000, 1000), smooth("b"), joined("a", "b", name="a")]),
    "steps after the joint": (["a", "b"], CT, PET, [scaled("b", 0, 20), joined("a", "b"), scaled("image", -5, 5)]),
    "resampled at once": (["a", "b"], CT, PET, [spacing(["a", "b"]), scaled("a", -9, 9), joined("a", "b")]),
    "resampled one by one": (["a", "b"], CT, PET, [spacing("a"), scaled("a", -9, 9), spacing("b"), joined("a", "b")]),
    "modes by key": (["a", "b"], CT, GUIDANCE, [spacing(["a", "b"], mode=["bilinear", "nearest"]), joined("a", "b")]),
}


def ours(first, second, steps):
    chain = preprocessing_of(SafeConfig({"p": {"_target_": "Compose", "transforms": steps}}).resolve("p"))
    volume = Volume(np.stack([first, second]).astype(np.float32), Grid(SHAPE, np.eye(4)))
    return preprocess(volume, chain()).tensor.numpy()


@pytest.mark.parametrize("case", CASES)
def test_each_channel_is_prepared_as_monai_prepares_its_key(case):
    import monai.transforms

    order, first, second, steps = CASES[case]
    built = [
        vars(monai.transforms)[step["_target_"]](**{name: value for name, value in step.items() if name != "_target_"})
        for step in steps
    ]
    data = {
        key: MetaTensor(torch.from_numpy(array[None].astype(np.float32)), affine=torch.eye(4))
        for key, array in zip(order, (first, second))
    }
    expected = Compose(built)(data)[steps[-1]["keys"] if "Concat" not in steps[-1]["_target_"] else steps[-1]["name"]]
    np.testing.assert_allclose(ours(first, second, steps), expected.numpy(), atol=2e-3)


def test_steps_that_cannot_be_told_apart_are_refused_by_name():
    load = {"_target_": "LoadImaged", "keys": ["t1", "t2"]}
    with pytest.raises(ModelError, match="t1, t2.*no step joins"):
        ours(CT, PET, [load, scaled("t1", 0, 1)])
    with pytest.raises(ModelError, match="Spacingd moves the voxels of a "):
        ours(CT, PET, [spacing("a"), joined("a", "b")])
    with pytest.raises(ModelError, match="same voxels"):
        ours(CT, PET, [spacing("a"), spacing("b", (3.0, 3.0, 3.0)), joined("a", "b")])
    with pytest.raises(ModelError, match="--channels") as caught:
        chain = preprocessing_of(SafeConfig({"p": [scaled("a", 0, 1), joined("a", "b")]}).resolve("p"))
        preprocess(Volume(CT.astype(np.float32), Grid(SHAPE, np.eye(4))), chain())
    assert "a, b" in caught.value.message
