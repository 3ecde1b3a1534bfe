"""The generator against a plain re-implementation, its latent space, and generators on disk."""

from __future__ import annotations

import argparse
import json
import pickle

import pytest
import torch
from support.oracles import plain_stylegan2
from xaiengine.core.errors import ModelError, TrustError, XAIError
from xaiengine.counterfactual.generator.checkpoint import (
    DESCRIPTION,
    ENCODER_FILE,
    GENERATOR_FILE,
    GeneratorDescription,
    save_generator,
)
from xaiengine.counterfactual.generator.encoder import Encoder
from xaiengine.counterfactual.generator.generator import Generator, GeneratorSettings
from xaiengine.counterfactual.generator.latent_space import LatentSpace, LatentStatistics
from xaiengine.counterfactual.generator.loading import load_generator

SMALL = {"size": 32, "latent_size": 6, "width": 4, "maximum_width": 8}
LATENT = 12


def small_space(code_channels: int = 2, encoder: bool = True) -> LatentSpace:
    torch.manual_seed(0)
    settings = GeneratorSettings(**SMALL, code_channels=code_channels, code_size=8)
    return LatentSpace(Generator(settings), Encoder(settings, 4, 8) if encoder else None)


def describe(space: LatentSpace) -> GeneratorDescription:
    return GeneratorDescription(name="small", settings=space.settings, window=(-100.0, 300.0), license="CC BY 4.0")


@pytest.fixture
def rosinality_file(tmp_path):
    path = tmp_path / "faces.pt"
    state = plain_stylegan2.random_state()
    torch.save({"g_ema": state, "latent_avg": torch.arange(LATENT).float(), "args": argparse.Namespace(size=32)}, path)
    return path, state


class TestEqualsThePlainImplementation:
    def test_of_the_mapping_network(self, rosinality_file):
        path, state = rosinality_file
        z = torch.randn(5, LATENT, generator=torch.Generator().manual_seed(1))
        generator = load_generator(path).space.generator
        expected = plain_stylegan2.mapped(state, z)
        torch.testing.assert_close(generator.mapping(z).double(), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("kind", "noise"), [("fixed", True), ("none", False)])
    def test_of_the_images_for_latents_of_each_layer(self, rosinality_file, kind, noise):
        path, state = rosinality_file
        generator = load_generator(path).space.generator
        w_plus = torch.randn(3, generator.settings.layers, LATENT, generator=torch.Generator().manual_seed(2))
        expected = plain_stylegan2.images_of(state, w_plus, noise)
        found = generator.synthesis(w_plus, noise=kind).double()
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)

    def test_mean_latent_is_that_of_the_file(self, rosinality_file):
        generator = load_generator(rosinality_file[0]).space.generator
        assert generator.mean_w.tolist() == list(range(LATENT))

    def test_one_latent_is_the_same_latent_for_all_layers(self, rosinality_file):
        generator = load_generator(rosinality_file[0]).space.generator
        w = torch.randn(2, LATENT)
        repeated = w[:, None].repeat(1, generator.settings.layers, 1)
        assert torch.equal(generator.synthesis(w), generator.synthesis(repeated))


class TestForeignFiles:
    def test_nvidia_pickle_is_refused_with_the_way_to_convert(self, tmp_path):
        path = tmp_path / "ffhq.pkl"
        path.write_bytes(pickle.dumps({"G_ema": 1}))
        with pytest.raises(TrustError, match="NVIDIA") as caught:
            load_generator(path)
        assert "convert_weight.py" in caught.value.remedy

    def test_file_that_would_run_code_is_refused(self, tmp_path):
        class Hostile:
            def __reduce__(self):
                return (print, ("harm",))

        path = tmp_path / "hostile.pt"
        torch.save({"g_ema": Hostile()}, path)
        with pytest.raises(TrustError, match="print"):
            load_generator(path)

    def test_other_smoothing_filter_is_refused(self, tmp_path, rosinality_file):
        state = dict(rosinality_file[1])
        state["convs.0.conv.blur.kernel"] = torch.ones(4, 4) / 4
        torch.save({"g_ema": state}, tmp_path / "other.pt")
        with pytest.raises(ModelError, match="1, 3, 3, 1"):
            load_generator(tmp_path / "other.pt")

    def test_missing_weight_is_named(self, tmp_path, rosinality_file):
        state = dict(rosinality_file[1])
        del state["convs.1.activate.bias"]
        torch.save({"g_ema": state}, tmp_path / "part.pt")
        with pytest.raises(ModelError, match=r"styled\.2\.bias"):
            load_generator(tmp_path / "part.pt")

    def test_classifier_weights_are_no_generator(self, tmp_path):
        torch.save({"state_dict": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "classifier.pt")
        with pytest.raises(ModelError, match="holds no generator"):
            load_generator(tmp_path / "classifier.pt")


class TestSettings:
    @pytest.mark.parametrize("size", [32, 64, 128, 256, 512])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_image_has_size_and_channels(self, size, channels):
        settings = GeneratorSettings(size=size, channels=channels, latent_size=4, width=4, maximum_width=4)
        assert Generator(settings).synthesis(torch.zeros(1, 4)).shape == (1, channels, size, size)

    def test_sizes_other_than_powers_of_two_are_refused(self):
        with pytest.raises(ValueError, match="power of two, found 48"):
            GeneratorSettings(size=48)

    def test_code_moves_the_image_near_its_place(self):
        space = small_space()
        latents = torch.zeros(1, space.dimension)
        moved = latents.clone()
        code = moved[:, SMALL["latent_size"] :].view(1, 2, 8, 8)
        code[:, :, 1, 6] = 3.0
        change = (space.decode(moved) - space.decode(latents)).abs()[0, 0]
        assert change[16:, :16].sum() < 0.02 * change.sum()
        assert change[:16, 16:].sum() > 0.5 * change.sum()


class TestLatentSpace:
    def test_samples_have_the_stored_mean_and_covariance(self):
        space = small_space()
        mixing = torch.randn(space.dimension, 3, generator=torch.Generator().manual_seed(4))
        used = torch.randn(4000, 3, generator=torch.Generator().manual_seed(5)) @ mixing.T + 2.0
        space.statistics = LatentStatistics.of(used)
        drawn = space.sample(20_000, seed=6).double()
        expected = torch.cov(used.double().T)
        scale = expected.diagonal().sqrt()
        assert ((drawn.mean(0) - used.double().mean(0)) / scale).abs().max() < 0.05
        assert ((torch.cov(drawn.T) - expected) / torch.outer(scale, scale)).abs().max() < 0.06

    def test_many_latents_keep_their_variances_with_few_factors(self):
        latents = torch.randn(700, 600, generator=torch.Generator().manual_seed(7)) * torch.linspace(0.1, 2, 600)
        statistics = LatentStatistics.of(latents)
        assert statistics.factors.shape == (600, 128)
        root = statistics.covariance_root
        assert torch.equal(root, root.tril())
        torch.testing.assert_close((root @ root.T).diagonal(), latents.var(0), rtol=2e-2, atol=1e-4)

    def test_samples_repeat_for_a_seed(self):
        space = small_space()
        assert torch.equal(space.sample(3, seed=1), space.sample(3, seed=1))
        assert not torch.equal(space.sample(3, seed=1), space.sample(3, seed=2))

    def test_without_encoder_samples_come_through_the_mapping(self):
        space = small_space(0, encoder=False)
        z = torch.randn(4, SMALL["latent_size"], generator=torch.Generator().manual_seed(9))
        assert torch.equal(space.sample(4, seed=9), space.generator.mapping(z))

    def test_extended_form_gives_the_same_image(self):
        space = small_space()
        latents = space.sample(2)
        torch.testing.assert_close(space.decode_plus(*space.expand(latents)), space.decode(latents))

    def test_latents_split_and_encode_to_their_dimension(self):
        space = small_space()
        latents = space.encode(torch.rand(3, 1, 32, 32))
        w, code = space.split(latents)
        assert latents.shape == (3, space.dimension) and w.shape == (3, 6) and code.shape == (3, 2, 8, 8)
        assert torch.equal(torch.cat([w, code.flatten(1)], 1), latents)


class TestOnDisk:
    def test_round_trip_is_exact(self, tmp_path):
        space = small_space()
        save_generator(tmp_path, space, describe(space))
        stored = load_generator(tmp_path)
        latents = space.sample(2)
        assert torch.equal(stored.space.decode(latents), space.decode(latents))
        assert torch.equal(stored.space.sample(2, 3), space.sample(2, 3))
        image = torch.rand(1, 1, 32, 32)
        assert torch.equal(stored.space.encode(image), space.encode(image))
        assert stored.description.license == "CC BY 4.0"

    def test_window_maps_values_to_images_and_back(self, tmp_path):
        space = small_space()
        save_generator(tmp_path, space, describe(space))
        stored = load_generator(tmp_path)
        assert stored.images_of(torch.tensor([-500.0, -100.0, 100.0, 300.0])).tolist() == [-1, -1, 0, 1]
        assert stored.values_of(torch.tensor([-1.0, 0.0, 1.0, 2.0])).tolist() == [-100, 100, 300, 300]

    @pytest.mark.parametrize("name", [GENERATOR_FILE, ENCODER_FILE])
    def test_damaged_weights_are_noticed(self, tmp_path, name):
        space = small_space()
        save_generator(tmp_path, space, describe(space))
        content = bytearray((tmp_path / name).read_bytes())
        content[-3] ^= 0x40
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match="changed or damaged"):
            load_generator(tmp_path)

    def test_weights_of_another_shape_are_refused(self, tmp_path):
        space, other = small_space(), small_space(3)
        save_generator(tmp_path, space, describe(space))
        save_generator(tmp_path / "other", other, describe(other))
        description = json.loads((tmp_path / DESCRIPTION).read_text())
        description["sha256"] = {}
        (tmp_path / DESCRIPTION).write_text(json.dumps(description))
        (tmp_path / GENERATOR_FILE).write_bytes((tmp_path / "other" / GENERATOR_FILE).read_bytes())
        with pytest.raises(ModelError, match=r"code_entry\.weight has shape"):
            load_generator(tmp_path)

    def test_weights_that_are_no_numbers_are_refused(self, tmp_path):
        space = small_space()
        with torch.no_grad():
            space.generator.constant[0, 0, 0, 0] = torch.nan
        save_generator(tmp_path, space, describe(space))
        with pytest.raises(ModelError, match="not finite"):
            load_generator(tmp_path)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("{", "not JSON"),
            ("[]", "does not describe"),
            ('{"format": "slicerxai-generator", "version": 7}', "version 7"),
            ('{"format": "slicerxai-generator", "version": 1, "name": "x"}', "settings"),
        ],
    )
    def test_wrong_description_is_explained(self, tmp_path, content, says):
        (tmp_path / DESCRIPTION).write_text(content)
        with pytest.raises(ModelError, match=says):
            load_generator(tmp_path)

    def test_folder_without_generator_and_missing_path(self, tmp_path):
        with pytest.raises(ModelError, match="no file generator.json"):
            load_generator(tmp_path)
        with pytest.raises(XAIError, match="There is no generator"):
            load_generator(tmp_path / "nothing")

    def test_half_precision_weights_are_used_in_full(self, tmp_path):
        space = small_space()
        save_generator(tmp_path, space, describe(space), torch.float16)
        stored = load_generator(tmp_path)
        assert stored.space.generator.constant.dtype == torch.float32
        latents = space.sample(2)
        torch.testing.assert_close(stored.space.decode(latents), space.decode(latents), rtol=0.02, atol=0.02)
