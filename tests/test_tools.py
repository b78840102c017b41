"""Every network works under PyTorch's own tools and gives the same numbers there: a table, network x tool."""

import copy
import pickle
import warnings

import pytest
import torch
from catalog import NETWORKS
from strategies import scrambled
from torch import fx, nn
from torch.testing import assert_close

import minideeplab as m


def traced(net, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch 2.13 would rather see torch.export
        return torch.jit.trace(net, x, check_trace=False)


def compiled(net, x):
    torch.compiler.reset()  # it compiles a forward for so many networks and no more
    try:
        answer = torch.compile(net, dynamic=False, backend="eager", fullgraph=True)
        answer(x)
    except (RuntimeError, ImportError) as error:
        pytest.skip(f"no compiler here: {error}")
    return answer


def autocast(net, x):
    def answer(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net(x)

    return answer


TOOLS = {  # what it makes of a network; how far its answer may be, in standard deviations of the answer
    "fx": (lambda net, x: fx.symbolic_trace(net), 0),
    "jit.trace": (traced, 0),
    "export": (lambda net, x: torch.export.export(net, (x,)).module(), 0),
    "compile": (compiled, 1e-5),
    "deepcopy": (lambda net, x: copy.deepcopy(net), 0),
    "pickle": (lambda net, x: pickle.loads(pickle.dumps(net)), 0),  # our own bytes
    "DataParallel": (lambda net, x: nn.DataParallel(net), 0),
    "channels last": (lambda net, x: copy.deepcopy(net).to(memory_format=torch.channels_last), 1e-5),
    "float64": (lambda net, x: lambda x: copy.deepcopy(net).double()(x.double()), 1e-5),
    "autocast": (autocast, 0.1),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    row = NETWORKS[request.param]
    net = scrambled(copy.deepcopy(row.make())).float()
    x = torch.randn(row.shapes[0])
    with torch.no_grad():
        return net, x, maps(net(x))


def maps(answer):
    return list(answer) if isinstance(answer, tuple) else [answer]


SLOW = {"compile", "export"}
OLDEST = torch.__version__.startswith("2.4.")


def skip_what_the_oldest_torch_cannot(net, tool):
    if OLDEST and tool in SLOW and isinstance(net, m.Segmenter):
        pytest.skip("torch 2.4's dynamo makes no subclass of a named tuple, which a Pyramid is")
    if OLDEST and tool == "fx" and isinstance(getattr(net, "head", None), m.SegNetHead):
        pytest.skip("torch 2.4's max_unpool2d takes no size that stands in for one")


@pytest.mark.parametrize("tool", TOOLS)
def test_every_network_gives_the_same_numbers_under_every_tool(network, tool):
    net, x, expected = network
    if tool in SLOW and len(list(net.modules())) > 200 and isinstance(net, m.AlignedXception | m.ResNet):
        pytest.skip("its class is in the table with fewer rows")
    if tool == "autocast" and isinstance(getattr(net, "head", None), m.SegNetHead):
        pytest.skip("of nearly equal neighbors another is the maximum: see tests/test_inference_boundary.py")
    skip_what_the_oldest_torch_cannot(net, tool)
    use, tolerance = TOOLS[tool]
    with torch.no_grad():
        answers = maps(use(net, x)(x.contiguous(memory_format=torch.channels_last) if tool == "channels last" else x))
    for answer, right in zip(answers, expected, strict=True):
        assert right.std() > 0.01  # a network of zeros would agree with everything
        assert (answer.double() - right.double()).abs().max() <= tolerance * right.std()


@pytest.mark.parametrize("tool", ["jit.trace", "fx"])
def test_a_graph_is_good_for_other_sizes_too(network, tool):
    """Even and odd: TensorFlow's padding depends on the size, and is written down, not looked up."""
    net, x, _ = network
    skip_what_the_oldest_torch_cannot(net, tool)
    graph = TOOLS[tool][0](net, x)
    for size in ((x.shape[2] + 4, x.shape[3] + 1), (x.shape[2] + 1, x.shape[3] + 2)):
        other = torch.randn(1, 3, *size)
        with torch.no_grad():
            for answer, right in zip(maps(graph(other)), maps(net(other)), strict=True):
                assert_close(answer, right, rtol=0, atol=0)


def test_a_network_in_training_can_be_written_down_too(network):
    skip_what_the_oldest_torch_cannot(network[0], "fx")
    net = copy.deepcopy(network[0]).train()
    graph, x = fx.symbolic_trace(net), network[1]
    torch.manual_seed(1)
    right = maps(net(x))
    torch.manual_seed(1)
    for answer, expected in zip(maps(graph(x)), right, strict=True):
        assert_close(answer, expected, rtol=0, atol=0)


def test_a_check_on_values_would_be_noticed():
    class Asks(nn.Module):
        def forward(self, x):
            return x if x.shape[0] > 1 else -x

    with pytest.raises(fx.proxy.TraceError):
        fx.symbolic_trace(Asks())


@pytest.mark.parametrize("name", ["Xception", "DeepLabV3Plus"])
def test_onnx_answers_the_same(name, tmp_path):
    """Needs onnx, onnxscript and onnxruntime; nothing else here does."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    row = NETWORKS[name]
    net, x = scrambled(copy.deepcopy(row.make())).float(), torch.randn(row.shapes[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), tmp_path / "net.onnx", dynamo=True)
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        right = net(x)
    assert (torch.from_numpy(answer) - right).abs().max() < 1e-4 * right.std()
