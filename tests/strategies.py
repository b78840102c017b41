"""What the tests draw from: integer tensors, for which equality is exact, and networks whose every number matters."""

from hypothesis import strategies as st
from torch import Tensor, nn, randint

odd_kernels = st.sampled_from([1, 3, 5])
channels = st.integers(1, 6)
sides = st.integers(1, 12)
rates = st.integers(1, 4)


def integers(*shape: int, least: int = -4, most: int = 4) -> Tensor:
    """Whole numbers as float32: sums and products of these are exact, in any order."""
    return randint(least, most + 1, shape).float()


@st.composite
def dials(draw: st.DrawFn) -> tuple[int, int]:
    """(segments, width): a width and one of its divisors."""
    segments = draw(st.integers(1, 6))
    return segments, segments * draw(st.integers(1, 4))


def with_integers(module: nn.Module) -> nn.Module:
    """The same module with whole-numbered convolution weights."""
    for parameter in module.parameters():
        parameter.data = integers(*parameter.shape)
    return module


def scrambled(net: nn.Module) -> nn.Module:
    """The same network as training might have left it, in double precision: no weight, mean or variance at its start."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.normal_(0, module.weight[0].numel() ** -0.5)
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            module.weight.data.uniform_(0.6, 1.4)
            module.bias.data.normal_(0, 0.3)
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.double().eval()
