"""What a checkpoint holds besides weights, and what is no checkpoint of ours."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from strategies import scrambled
from weight_files import Trap, small_checkpoint

from minideeplab import DeepLabV3, mobilenet_v2, weights


def test_tensorflow_arrays_are_renamed_and_transposed() -> None:
    state = weights.from_tensorflow(small_checkpoint())
    place = "backbone.middle_flow.2.separable_2"
    assert set(state) == {
        f"{place}.depthwise.weight",
        f"{place}.depthwise_bn.running_var",
        f"{place}.pointwise.weight",
        f"{place}.pointwise_bn.weight",
        "classify.bias",
    }
    depthwise, pointwise = state[f"{place}.depthwise.weight"], state[f"{place}.pointwise.weight"]
    assert depthwise.shape == (2, 1, 3, 3)
    assert depthwise[1, 0].flatten().tolist() == list(range(1, 18, 2))
    assert pointwise[:, :, 0, 0].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_step_counter_momentum_and_averages_are_left_out_and_said_so() -> None:
    arrays = small_checkpoint()
    extra = {
        "global_step": np.int64(30000),
        "logits/semantic/biases/Momentum": np.zeros(21, np.float32),
        "logits/semantic/biases/ExponentialMovingAverage": np.zeros(21, np.float32),
    }
    state = weights.from_tensorflow(arrays | extra)
    assert state.keys() == weights.from_tensorflow(arrays).keys()
    assert state.ignored == sorted(extra)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MobilenetV1/Conv2d_0/weights", "the second alone"),
        ("MobilenetV2/Conv_1/weights", "a classifier with a 1280-wide layer"),
        ("resnet_v1_101/conv1/weights", "7 x 7 root"),
        ("xception_65/entry_flow/block1/unit_1/xception_module/separable_conv1/depthwise_weights", "regularize_depthwise"),
        ("logits/semantic/something", "1 names are not those of a network"),
        ("xception_65/exit_flow/block2/unit_1/xception_module/shortcut/weights", "1 names are not those of a network"),
    ],
)
def test_another_network_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        weights.from_tensorflow(small_checkpoint() | {name: np.zeros((1, 1, 1, 1), np.float32)})


def test_two_networks_in_one_checkpoint_are_refused() -> None:
    scopes = ("xception_41", "xception_65")
    arrays = {f"{scope}/entry_flow/conv1_1/weights": np.zeros((3, 3, 3, 32), np.float32) for scope in scopes}
    with pytest.raises(ValueError, match="two networks in one checkpoint"):
        weights.from_tensorflow(arrays)


def test_arrays_of_a_wrong_rank_or_kind_are_refused_with_their_name() -> None:
    with pytest.raises(ValueError, match=r"logits/semantic/weights should have 4 axes, its shape is \(256, 21\)"):
        weights.from_tensorflow({"logits/semantic/weights": np.zeros((256, 21), np.float32)})
    with pytest.raises(ValueError, match="logits/semantic/biases should hold floating-point numbers, it is int64"):
        weights.from_tensorflow({"logits/semantic/biases": np.zeros(21, np.int64)})


def test_npz_is_read_with_numpy_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **small_checkpoint())
    arrays = weights.read_tensorflow(tmp_path / "w.npz")
    assert arrays.keys() == small_checkpoint().keys()
    np.testing.assert_array_equal(arrays["logits/semantic/biases"], np.ones(21))


def test_a_damaged_or_foreign_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **small_checkpoint())
    whole = (tmp_path / "w.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "foreign.npz").write_bytes(b"not an archive at all")
    np.savez(tmp_path / "objects.npz", **{"global_step": np.array([Trap()], dtype=object)})
    for name in ("half", "foreign", "objects"):
        with pytest.raises(ValueError, match=rf"{name}\.npz is no complete \.npz of plain arrays"):
            weights.read_tensorflow(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="absent"):
        weights.read_tensorflow(tmp_path / "absent.npz")


def test_a_checkpoint_without_tensorflow_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.ckpt-9.index").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    for path in ("model.ckpt-9", "model.ckpt-9.index"):
        with pytest.raises(ImportError, match=r"pip install tensorflow; or(?s:.)*numpy\.savez"):
            weights.read_tensorflow(tmp_path / path)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*absent: it would have absent\.index"):
        weights.read_tensorflow(tmp_path / "absent")


def test_the_authors_checkpoint_on_mobilenet_v2_has_names_that_lead_home() -> None:
    """slim's names, as in the released 8-bit file; the arrays of our own network, renamed and transposed there and back."""
    net = scrambled(DeepLabV3(mobilenet_v2(width=1 / 16), 3, channels=4, rates=())).float()
    rows = [(r, i) for r, row in enumerate(net.backbone.rows) for i in range(len(row))]
    scopes = {"backbone.root": "MobilenetV2/Conv", "aspp.branches.0.project": "image_pooling", "aspp.branches.1": "aspp0"}
    scopes |= {"aspp.project": "concat_projection", "classify": "logits/semantic"}
    for number, (r, i) in enumerate(rows):
        for part in ("expand", "depthwise", "project"):
            scope = f"MobilenetV2/expanded_conv{f'_{number}' if number else ''}/{part}"
            scopes[f"backbone.rows.{r}.{i}.{part}"] = scope
    leaves = {"bn.weight": "BatchNorm/gamma", "bn.bias": "BatchNorm/beta"}
    leaves |= {"bn.running_mean": "BatchNorm/moving_mean", "bn.running_var": "BatchNorm/moving_variance"}
    arrays = {}
    for name, value in net.state_dict().items():
        layer = max((ours for ours in scopes if name.startswith(ours)), key=len)
        leaf = name.removeprefix(layer).lstrip("._").removeprefix("conv.")
        if leaf == "weight" and value.dim() == 4:
            deep = layer.endswith("depthwise")
            array = value.permute((2, 3, 0, 1) if deep else (2, 3, 1, 0)).numpy()
            arrays[f"{scopes[layer]}/{'depthwise_weights' if deep else 'weights'}"] = array
        elif leaf in leaves or leaf == "bias":
            arrays[f"{scopes[layer]}/{leaves.get(leaf, 'biases')}"] = value.numpy()
    state = weights.from_tensorflow(arrays)
    kept = {name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[name], value) for name, value in kept.items())
