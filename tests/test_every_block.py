"""What holds for every block and every network: the input is left alone, gradients are right, every option is heard."""

import copy
from functools import cache

import pytest
import torch
from catalog import BLOCKS, MODULES, ROWS, public, without_a_row
from strategies import scrambled
from torch import nn
from torch.func import functional_call

import minideeplab as m


def test_everything_public_has_a_row_in_the_catalog():
    assert without_a_row(public()) == []


def test_a_block_without_a_row_is_told_in_a_sentence():
    class Forgotten(nn.Module):
        def __init__(self, width: int = 1) -> None:
            super().__init__()

    assert without_a_row([Forgotten]) == ["Forgotten has no row in tests/catalog.py: add one that makes it small"]


def inputs_of(row):
    return [torch.randn(shape) for shape in row.shapes]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_input_is_left_alone(name, mode):
    module, inputs = getattr(MODULES[name].make(), mode)(), inputs_of(MODULES[name])
    before = [x.clone() for x in inputs]
    with torch.no_grad():
        module(*inputs)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    assert [x._version for x in inputs] == [0] * len(inputs)  # not even written to with the same values


def test_an_in_place_relu_would_be_noticed():
    x = torch.ones(1, 1, 2, 2)
    nn.ReLU(inplace=True)(x)
    assert x._version > 0
    assert not any(getattr(part, "inplace", False) for row in MODULES.values() for part in row.make().modules())


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_of_inputs_and_weights_are_those_of_finite_differences(name):
    module = scrambled(BLOCKS[name].make())
    names, weights = zip(*module.named_parameters(), strict=True) if list(module.parameters()) else ((), ())
    inputs = [x.double().requires_grad_() for x in inputs_of(BLOCKS[name])]

    def answer(*values):
        return functional_call(module, dict(zip(names, values[len(inputs) :], strict=True)), values[: len(inputs)])

    assert torch.autograd.gradcheck(answer, (*inputs, *weights), fast_mode=True)


@pytest.mark.parametrize("name", MODULES)
def test_an_image_is_answered_the_same_alone_as_among_others(name):
    module, inputs = scrambled(copy.deepcopy(MODULES[name].make())), [x.double() for x in inputs_of(MODULES[name])]
    with torch.no_grad():
        both, alone = module(*inputs), module(*(x[:1] for x in inputs))
    pairs = zip(both, alone, strict=True) if isinstance(both, m.Features) else [(both, alone)]
    for many, one in pairs:
        torch.testing.assert_close(many[:1], one)


@pytest.mark.parametrize("name", ["ASPP", "InceptionV3", "Xception", "Classifier"])
def test_dropout_is_not_thrown_away(name):
    module = scrambled(copy.deepcopy(MODULES[name].make()))
    (x,) = (x.double() for x in inputs_of(MODULES[name]))
    assert torch.equal(module(x), module(x))
    module.dropout.train()
    assert not torch.equal(module(x), module(x))


@cache
def fingerprint(name, option=None):
    """Everything that a choice could change: the names and shapes of the weights, and the answer."""
    row = ROWS[name]
    torch.manual_seed(0)
    made = copy.deepcopy(
        row._replace(arguments=copy.deepcopy(row.arguments)).make(**({option: row.choices[option]} if option else {}))
    )
    if not isinstance(made, nn.Module):
        return repr(made)
    torch.manual_seed(1)
    with torch.no_grad():
        answer = scrambled(made)(*(torch.randn(shape).double() for shape in row.shapes))
    return {key: value.shape for key, value in made.state_dict().items()}, repr(answer)


@pytest.mark.parametrize(("name", "option"), [(name, option) for name, row in ROWS.items() for option in row.choices])
def test_every_option_changes_something(name, option):
    assert fingerprint.__wrapped__(name) == fingerprint(name)  # the same twice, so that a difference means something
    assert fingerprint(name, option) != fingerprint(name)
