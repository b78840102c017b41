"""The explorer says what the layers themselves cost and see, follows its sliders, and stays still where nothing slides."""

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from minideeplab import InvertedResidual, SeparableConv2d, SimplifiedInception, mean_taps_inside
from minideeplab.cost import profile
from minideeplab.course import explorer as explorer_module
from minideeplab.course.explorer import STOPS, Explorer, Setting, explorer

LIVE = "application/vnd.jupyter.widget-view+json"

settings = st.builds(Setting, **{name: st.sampled_from(list(stops)) for name, stops in STOPS.items()})
small = st.builds(
    Setting,
    channels=st.sampled_from([24, 48, 96]),
    kernel=st.sampled_from([1, 3, 5]),
    rate=st.sampled_from([1, 2, 18]),
    towers=st.sampled_from(STOPS["towers"]),
    output_stride=st.sampled_from(STOPS["output_stride"]),
)


@given(small)
def test_the_explorer_says_what_the_layers_cost(setting):
    c, k, rate = setting.channels, setting.kernel, setting.rate
    layers = [
        nn.Conv2d(c, c, k, padding=rate * (k // 2), dilation=rate, bias=False),
        SimplifiedInception(c, c, towers=setting.towers, kernel_size=k),
        SeparableConv2d(c, c, k, dilation=rate),
        nn.Sequential(nn.Conv2d(c, 6 * c, 1, bias=False), SeparableConv2d(6 * c, c, k, dilation=rate)),
    ]
    reports = [profile(layer, (1, c, setting.map_size, setting.map_size)) for layer in layers]
    assert [(report.params, report.macs) for report in reports] == [(c.params, c.macs) for c in setting.costs().values()]


@given(small)
def test_the_explorer_says_what_a_layer_sees(setting):
    strided = nn.MaxPool2d(1, stride=setting.output_stride)
    window = nn.Conv2d(1, 1, setting.kernel, dilation=setting.rate, padding=setting.rate * (setting.kernel // 2))
    report = profile(nn.Sequential(strided, window), (1, 1, 513, 513))
    assert report.rows[-1].shape[2:] == (setting.map_size, setting.map_size)
    assert report.receptive_field == setting.receptive_field


def test_a_rate_moves_what_a_layer_sees_and_not_what_it_costs():
    near, far = Setting(rate=1), Setting(rate=12)
    assert near.costs() == far.costs()
    assert (near.receptive_field, far.receptive_field) == (33, 385)


@given(settings)
def test_the_table_carries_the_numbers(setting):
    table = setting.table()
    assert [[*map(int, (row[1].replace(",", ""), row[2].replace(",", "")))] for row in table.rows] == [
        [*cost] for cost in setting.costs().values()
    ]
    taps = float(mean_taps_inside(setting.map_size, setting.rate, setting.kernel))
    assert f"map {setting.map_size} x {setting.map_size}" in table.caption
    assert f"receptive field {setting.receptive_field} px, taps on the map {taps:.2f} of {setting.kernel**2}" in table.caption


def test_towers_divide_the_channels_wherever_the_sliders_stand():
    assert all(channels % towers == 0 for channels in STOPS["channels"] for towers in STOPS["towers"])


def test_the_widget_follows_its_sliders():
    made = explorer("channels", "rate", channels=96)
    channels, rate, table = made.widget.children
    assert table.value == Setting(channels=96).table().html()
    channels.value, rate.value = 240, 18
    assert table.value == Setting(channels=240, rate=18).table().html()
    assert table.value != Setting(channels=96).table().html()


@pytest.mark.parametrize("sliders", [("rate",), ("output_stride", "kernel"), tuple(STOPS)])
def test_only_the_sliders_that_were_named_are_shown(sliders):
    *shown, _ = explorer(*sliders).widget.children
    assert [slider.description for slider in shown] == [name.replace("_", " ") for name in sliders]
    assert [[value for _, value in slider.options] for slider in shown] == [list(STOPS[name]) for name in sliders]


def test_all_sliders_are_shown_if_none_is_named():
    assert len(explorer().widget.children) == len(STOPS) + 1


def test_what_is_compared_stays_the_same_and_only_the_live_view_has_an_id():
    first, second = (explorer("rate", rate=6)._repr_mimebundle_() for _ in range(2))
    assert first.pop(LIVE) != second.pop(LIVE)
    assert first == second == {"text/plain": Setting(rate=6).table().text(), "text/html": Setting(rate=6).table().html()}


def test_moving_a_slider_leaves_the_static_table_alone():
    made = explorer("rate")
    before = repr(made), made._repr_mimebundle_()["text/html"]
    made.widget.children[0].value = 36
    assert (repr(made), made._repr_mimebundle_()["text/html"]) == before


def test_without_ipywidgets_the_table_remains(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    made = explorer("rate")
    assert made.widget is None
    assert set(made._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_the_library_does_not_import_ipywidgets_until_an_explorer_is_made():
    tree = ast.parse(Path(explorer_module.__file__).read_text(encoding="utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("ipywidgets" in ast.unparse(node) for node in imported)
    assert "import ipywidgets" in ast.unparse(tree)


@pytest.mark.parametrize(
    ("sliders", "places", "message"),
    [
        (("depth",), {}, r"no slider 'depth': choose from channels, kernel, rate, towers, output_stride"),
        ((), {"channels": 100}, r"channels must be one of 24, 48, .* 768; got 100"),
        ((), {"kernel": 4}, r"kernel must be one of 1, 3, 5, 7; got 4"),
        ((), {"rate": 0}, r"rate must be one of 1, 2, .* 36; got 0"),
        ((), {"towers": 5}, r"towers must be one of 1, 2, 3, 4, 6, 8, 12, 24; got 5"),
        ((), {"output_stride": "16"}, r"output_stride must be one of 4, 8, 16, 32; got '16'"),
    ],
)
def test_an_unknown_slider_and_a_place_between_stops_are_refused(sliders, places, message):
    with pytest.raises(ValueError, match=message):
        explorer(*sliders, **places)


def test_an_explorer_is_what_the_function_returns():
    assert isinstance(explorer("kernel"), Explorer)


def test_the_inverted_residual_is_that_of_the_network_for_phones():
    """Without its batch norms."""
    block = InvertedResidual(48, 48)
    cost = Setting(channels=48).costs()["inverted residual, 3 x 3 on 6 C"]
    report = profile(block, (1, 48, 33, 33))
    assert report.macs == cost.macs
    assert report.params - sum(row.params for row in report.rows if row.kind == "batch norm") == cost.params
