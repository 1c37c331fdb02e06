"""The network is JoyTag's: its parameters by name and shape, its numbers, and a training step that works."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from joytag.fast import FastViT
from joytag.Models import SinePositions, StochasticDepth, ViT, normalise, sine_table
from tagcheck.pictures import preparation

REFERENCE = Path(__file__).parents[1] / "data" / "joytag"
EXPECTED = json.loads((REFERENCE / "expected.json").read_text())
TINY = {"image_size": 32, "patch_size": 16, "d_model": 16, "mlp_dim": 32, "num_heads": 2, "num_blocks": 2, "n_tags": 5}


def config(**changes: object) -> dict:
    return json.loads((REFERENCE / "config.json").read_text()) | changes


@pytest.fixture
def one_thread():
    """Many tiny steps on a busy machine: two threads would wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network() -> ViT:
    made = ViT.from_config(config()).eval()
    made.load_state_dict(load_file(REFERENCE / "model.safetensors"), strict=True)
    return made


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.cat(
        [
            torch.from_numpy(preparation.prepare_bytes((REFERENCE / name).read_bytes(), 448))
            for name in EXPECTED["images"]
        ]
    )


@pytest.mark.parametrize(
    "published, frozen",
    [(REFERENCE / "config.json", "state_dict_small.json"), (Path("joytag/config.json"), "state_dict_full.json")],
)
def test_every_parameter_has_its_published_name_and_shape(published, frozen):
    project = Path(__file__).parents[2]
    with torch.device("meta"):
        made = ViT.from_config(json.loads((project / published).read_text()))
    here = [{"name": name, "shape": list(tensor.shape)} for name, tensor in made.state_dict().items()]
    assert here == json.loads((REFERENCE / frozen).read_text())


def test_the_prepared_pictures_are_those_of_the_original(pictures):
    for picture, expected in zip(normalise(pictures), EXPECTED["preprocessed"]):
        assert picture.mean().item() == pytest.approx(expected["mean"], abs=1e-5)
        assert picture.std().item() == pytest.approx(expected["std"], abs=1e-5)
        for key, (y, x) in {"corner": (0, 0), "centre": (224, 224), "probe_100_350": (100, 350)}.items():
            assert picture[:, y, x].tolist() == pytest.approx(expected[key], abs=1e-6)


def test_embeddings_and_logits_agree_with_the_original_to_a_ten_thousandth(network, pictures):
    with torch.inference_mode():
        embeddings = network.features(normalise(pictures))
        logits = network(normalise(pictures))
    torch.testing.assert_close(embeddings, torch.tensor(EXPECTED["embeddings"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, torch.tensor(EXPECTED["logits"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits.sigmoid(), torch.tensor(EXPECTED["tag_probabilities"]), atol=1e-4, rtol=0)


def test_the_sine_table_is_the_formula_place_by_place():
    side, d = 3, 8
    slow = [
        [
            f(place * 10_000 ** (-j / (d / 4 - 1)))
            for place in (x, y)
            for f in (torch.sin, torch.cos)
            for j in range(d // 4)
        ]
        for y in torch.arange(side, dtype=torch.float64)
        for x in torch.arange(side, dtype=torch.float64)
    ]
    torch.testing.assert_close(sine_table(side, d), torch.tensor(slow).float())


def test_learned_positions_and_a_patch_convolution_carry_their_published_names():
    names = ViT(**TINY, use_sine=False).state_dict()
    assert names["pos_embedding.embedding.weight"].shape == (4, 16)
    assert names["patch_embeddings.weight"].shape == (16, 3, 16, 16)


@pytest.mark.parametrize("blocks, init", [(18, 0.1), (24, 1e-5), (25, 1e-6)])
def test_the_layer_scale_starts_smaller_in_deeper_networks(blocks, init):
    made = ViT(**TINY | {"num_blocks": blocks})
    assert made.blocks[-1].skip_init2.skip.unique().tolist() == pytest.approx([init])


def test_stochastic_depth_leaves_out_whole_pictures_in_training_only():
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.5), torch.ones(200, 3, 4)
    kept = layer(x).flatten(1)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(kept.min(dim=1).values, kept.max(dim=1).values)
    assert 60 < (kept[:, 0] > 0).sum() < 140
    assert torch.equal(layer.eval()(x), x)


def test_a_few_training_steps_learn_a_colour(one_thread):
    torch.manual_seed(0)
    made = ViT(
        **TINY | {"n_tags": 1, "num_blocks": 1}, cnn_stem="conv:c=8;ln;relu;conv:c=8;bn;gelu;conv:c=8;ln;relu;conv:c=16"
    )
    red = torch.tensor([0.0, 1.0] * 8)
    pixels = torch.rand(16, 3, 32, 32) * 100
    pixels[red == 1, 0] = 255
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(made(normalise(pixels))[:, 0], red)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert isinstance(made.pos_embedding, SinePositions) and not list(made.pos_embedding.parameters())


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"class": "CNN"}, "its class is 'CNN'"),
        ({"window": 7}, "unexpected keyword argument 'window'"),
        ({"num_heads": 5}, "must be a multiple of num_heads 5"),
        ({"cnn_stem": "conv:c=8;swish"}, "a layer 'swish' that is not known"),
        ({"cnn_stem": "conv:c=8,dilation=2"}, "a layer 'conv:c=8,dilation=2' that is not known"),
    ],
)
def test_a_configuration_of_another_network_is_refused_in_words(changes, says):
    with pytest.raises(ValueError, match=says):
        ViT.from_config(config(**changes))


# --- the fast network ----------------------------------------------------------------------------------


def trained_like(network: ViT) -> ViT:
    """The same network with norms and scales that are not at their start, so that folding them matters."""
    torch.manual_seed(3)
    made = copy.deepcopy(network)
    for name, parameter in made.named_parameters():
        if "norm" in name or "skip" in name:
            parameter.data += torch.randn_like(parameter) * 0.1
    return made


def centred_cosine(ours: torch.Tensor, exact: torch.Tensor) -> float:
    """The lowest over the pictures, the mean embedding taken away: the plain cosine flatters."""
    return torch.nn.functional.cosine_similarity(ours - exact.mean(0), exact - exact.mean(0)).min().item()


def test_the_fast_network_in_float32_is_the_plain_one(network, pictures):
    for exact in (network, trained_like(network)):
        with torch.inference_mode():
            expected = exact.features(normalise(pictures))
        torch.testing.assert_close(FastViT(exact, torch.float32)(pictures), expected, atol=2e-5, rtol=1e-5)


def test_in_bfloat16_it_keeps_the_centred_cosine_and_the_probabilities(network, pictures):
    for exact in (network, trained_like(network)):
        with torch.inference_mode():
            expected = exact.features(normalise(pictures))
            ours = FastViT(exact, torch.bfloat16)(pictures)
            assert centred_cosine(ours, expected) > 0.999
            assert (exact.head(ours).sigmoid() - exact.head(expected).sigmoid()).abs().max() < 0.01


def test_a_picture_s_embedding_does_not_depend_on_its_batch(network, pictures):
    for dtype in (torch.float32, torch.bfloat16):
        fast = FastViT(network, dtype)
        whole = fast(pictures)
        assert torch.equal(torch.cat([fast(one) for one in pictures.split(1)]), whole)
        assert torch.equal(fast(pictures.flip(0)).flip(0), whole)


def test_without_packed_operators_the_ordinary_ones_give_the_same(network, pictures, monkeypatch):
    packed = FastViT(network, torch.float32)(pictures)
    monkeypatch.setattr("joytag.fast._packing_works", lambda dtype: False)
    plain = FastViT(network, torch.float32)
    assert not plain.blocks[0].qkv.packed
    torch.testing.assert_close(plain(pictures), packed, atol=2e-5, rtol=1e-5)


def test_the_network_it_is_made_from_is_left_as_it_is(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    FastViT(network, torch.bfloat16)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_learned_positions_and_a_patch_convolution_are_computed_fast_too():
    torch.manual_seed(0)
    made = ViT(**TINY, use_sine=False).eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(
            FastViT(made, torch.float32)(pixels), made.features(normalise(pixels)), atol=1e-5, rtol=1e-5
        )
