"""An explorer of what one layer costs and sees: sliders in a live notebook, a table anywhere else.

`docs/explorer.html` is the same explorer without Python; a browser test holds the two together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from minideeplab.blocks.atrous import mean_taps_inside
from minideeplab.cost.formulas import Cost, convolution, inverted_residual, pointwise, separable
from minideeplab.cost.table import Table
from minideeplab.geometry import effective_kernel, output_size, receptive_field

IMAGE = 513  # pixels on a side, the papers' crop
STOPS: Mapping[str, Sequence[int]] = {
    "channels": range(24, 769, 24),
    "kernel": range(1, 8, 2),
    "rate": range(1, 37),
    "towers": (1, 2, 3, 4, 6, 8, 12, 24),  # the divisors of 24: they divide whatever the first slider says
    "output_stride": (4, 8, 16, 32),
}


class Setting(NamedTuple):
    """Where the sliders stand. The layer has as many output channels as input channels."""

    channels: int = 192
    kernel: int = 3
    rate: int = 1
    towers: int = 3
    output_stride: int = 16

    @property
    def map_size(self) -> int:
        """Of the map that the image has become at this output stride."""
        return output_size(IMAGE, 1, stride=self.output_stride)

    @property
    def receptive_field(self) -> int:
        """Pixels of the image between the outermost taps of this one layer, both included."""
        return receptive_field([(1, self.output_stride, 1), (self.kernel, 1, self.rate)])

    def costs(self) -> dict[str, Cost]:
        """The same channels and the same window, four ways."""
        c, k, n = self.channels, self.kernel, self.map_size
        windows = convolution(c, c, k, n, n, groups=self.towers)
        return {
            f"dense {k} x {k}": convolution(c, c, k, n, n),
            f"1 x 1, then {k} x {k} in towers: {self.towers}": pointwise(c, c, n, n) + windows,
            f"{k} x {k} per channel, then 1 x 1": separable(c, c, k, n, n),
            f"inverted residual, {k} x {k} on 6 C": inverted_residual(c, c, k, n, n),
        }

    def table(self) -> Table:
        """Costs as rows; the caption says where the layer stands, what it sees, and how many of its taps read the map."""
        costs = self.costs()
        dense = next(iter(costs.values()))
        rows = [[name, f"{cost.params:,}", f"{cost.macs:,}", f"{cost.macs / dense.macs:.1%}"] for name, cost in costs.items()]
        n, taps = self.map_size, float(mean_taps_inside(self.map_size, self.rate, self.kernel))
        caption = (
            f"{self.channels} channels in and out, map {n} x {n} ({IMAGE} pixels at output stride {self.output_stride}). "
            f"Rate {self.rate}: window span {effective_kernel(self.kernel, self.rate)}, "
            f"receptive field {self.receptive_field} px, taps on the map {taps:.2f} of {self.kernel**2} on average. "
            "MAC: one multiply-accumulate."
        )
        return Table(["layer", "params", "MACs", "of dense"], rows, caption)


class Explorer:
    """What `explorer` returns: Jupyter shows `widget`, and everything else the table of the first setting.

    The table is what nbval compares and what a page without a kernel shows. It does not follow the sliders.
    """

    def __init__(self, setting: Setting, sliders: Sequence[str]) -> None:
        self.setting = setting
        self.widget = _widget(setting, sliders)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        live = self.widget._repr_mimebundle_() if self.widget else {}
        table = self.setting.table()
        return {**live, "text/plain": table.text(), "text/html": table.html()}

    def __repr__(self) -> str:
        return self.setting.table().text()


def explorer(
    *sliders: str, channels: int = 192, kernel: int = 3, rate: int = 1, towers: int = 3, output_stride: int = 16,
) -> Explorer:
    """Explore params, MACs, receptive field and taps of one layer.

    `sliders` names those that are shown (all of them if none is named); the keywords say where they start, and where the
    others stay. ValueError for an unknown slider or a place between its stops.

    >>> explorer("rate", rate=12).setting.receptive_field
    385
    """
    setting = Setting(channels, kernel, rate, towers, output_stride)
    for name in sliders:
        if name not in STOPS:
            raise ValueError(f"no slider {name!r}: choose from {', '.join(STOPS)}")
    for name, value in setting._asdict().items():
        if value not in STOPS[name]:
            raise ValueError(f"{name} must be one of {', '.join(map(str, STOPS[name]))}; got {value!r}")
    return Explorer(setting, sliders or tuple(STOPS))


def _widget(setting: Setting, sliders: Sequence[str]) -> Any:
    """The sliders above the table, which follows them; None where ipywidgets is not installed."""
    try:
        import ipywidgets  # type: ignore[import-untyped]
    except ImportError:
        return None
    table = ipywidgets.HTML(setting.table().html(), layout={"width": "max-content"})
    table.add_class("jp-RenderedHTMLCommon")  # JupyterLab then draws it as it draws every table
    shown = {
        name: ipywidgets.SelectionSlider(
            options=[(str(stop), stop) for stop in STOPS[name]], value=getattr(setting, name),
            description=name.replace("_", " "), style={"description_width": "7em"}, layout={"width": "32em"},
        )
        for name in sliders
    }

    def update(change: Any) -> None:
        table.value = setting._replace(**{name: slider.value for name, slider in shown.items()}).table().html()

    for slider in shown.values():
        slider.observe(update, names="value")
    return ipywidgets.VBox([*shown.values(), table])
