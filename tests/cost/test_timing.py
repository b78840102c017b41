"""Measured time: the numbers around it are exact, and no time can be taken out without its spread."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.benchmark import Measurement, TaskSpec

from minideeplab import DeepLabV3Plus, SeparableConv2d, xception65
from minideeplab.cost import profile, timing
from minideeplab.cost.timing import Measured, Roofline, Spread, measure, roofline
from minideeplab.inference import optimize_for_inference

SPREAD = r"[\d.]+ [TGMkmµn]?(s|%|FLOP/s|B/s) \([\d.]+ to [\d.]+\)"
MACHINE = Roofline(Spread((1e9, 2e9, 4e9), "FLOP/s", 5), Spread((1e9, 1e10, 1e11), "B/s", 7), 1, torch.float32)


# ---- spreads


@given(st.lists(st.floats(1e-6, 1e3), min_size=3, max_size=30))
def test_quartiles_are_those_of_torch_s_own_benchmark(times):
    spread = Spread.of(times, "s")
    witness = Measurement(1, times, TaskSpec("", ""))
    first, median, third = spread.quartiles
    torch.testing.assert_close((median, third - first), (witness.median, witness.iqr))
    assert spread.runs == len(times)


def test_a_spread_has_no_bare_number():
    spread = Spread.of([1.0, 2.0, 3.0], "s")
    with pytest.raises(TypeError):
        float(spread)
    assert not any(hasattr(spread, name) for name in ("median", "mean", "value", "seconds", "__float__", "__index__"))
    assert len(spread.quartiles) == 3


@pytest.mark.parametrize("times", [[], [1.0], [1.0, 2.0]])
def test_fewer_than_three_runs_make_no_spread(times):
    with pytest.raises(ValueError, match=f"at least 3 runs, got {len(times)}"):
        Spread.of(times, "s")


@pytest.mark.parametrize(
    ("values", "unit", "text"),
    [
        ([1.5, 2.5, 3.5], "s", "2.50 s (2.00 to 3.00)"),
        ([0.0125] * 3, "s", "12.5 ms (12.5 to 12.5)"),
        ([4e-7] * 3, "s", "400 ns (400 to 400)"),
        ([0.0] * 3, "s", "0.00 s (0.00 to 0.00)"),
        ([3.21e11] * 3, "FLOP/s", "321 GFLOP/s (321 to 321)"),
        ([0.001, 33.3333, 100], "%", "33.3 % (16.7 to 66.7)"),
    ],
)
def test_a_spread_reads_as_a_quantity(values, unit, text):
    assert repr(Spread.of(values, unit)) == text


# ---- the roofline


def test_a_copy_reads_every_byte_and_writes_it(monkeypatch):
    monkeypatch.setattr(timing, "_times", lambda run: [1.0, 1.0, 2.0])
    measured = timing.roofline()
    assert measured.bandwidth.quartiles[1] == 2 * timing.COPIED
    assert measured.flops.quartiles[1] == max(2 * timing.SIDE**3, 2 * timing.MAP[2] * timing.MAP[3] * timing.MAP[1] ** 2 * 9)


@pytest.mark.parametrize(
    ("macs", "moved", "least"),
    [
        (10**9, 0, (0.5, 1.0, 2.0)),  # arithmetic alone: two operations a MAC
        (0, 10**10, (0.1, 1.0, 10.0)),  # memory alone
        (10**9, 10**10, (0.5, 1.0, 10.0)),  # whichever takes longer, quartile by quartile
    ],
)
def test_the_roofline_is_the_longer_of_arithmetic_and_memory(macs, moved, least):
    torch.testing.assert_close(MACHINE.seconds([(macs, moved)]).quartiles, least)


def test_operations_do_not_share_the_roof():
    together = MACHINE.seconds([(10**9, 10**10)]).quartiles[1]
    one_after_the_other = MACHINE.seconds([(10**9, 0), (0, 10**10)]).quartiles[1]
    assert (together, one_after_the_other) == (1.0, 2.0)


def test_the_peak_is_that_of_the_faster_product(monkeypatch):
    monkeypatch.setattr("minideeplab.cost.timing.SIDE", 64)
    monkeypatch.setattr("minideeplab.cost.timing.MAP", (1, 8, 16, 16))
    monkeypatch.setattr("minideeplab.cost.timing.COPIED", 2**12)
    product, convolution = 2 * 64**3, 2 * 8 * 8 * 9 * 16 * 16
    for times, faster in (([1.0, 2.0], product), ([3.0, 1.0], convolution)):
        left = iter([[times[0]] * 3, [times[1]] * 3, [1e-6] * 3])
        monkeypatch.setattr("minideeplab.cost.timing._times", lambda run, left=left: run() is not None and next(left))
        assert roofline().flops.quartiles == (faster,) * 3


@pytest.mark.parametrize(("name", "looks"), [("minideeplab.cost.timing", False), ("torch.utils.benchmark", True)])
def test_to_measure_imports_nothing_that_looks_for_a_cuda_toolkit(name, looks):
    """Where it finds one and no GPU, it says so on standard error: in a cell of notebook 11, under a CUDA build."""
    check = f"import sys, {name}; print('torch.utils.cpp_extension' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == f"{looks}\n"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_machine_has_a_peak_and_a_bandwidth(monkeypatch, dtype):
    monkeypatch.setattr("minideeplab.cost.timing.SIDE", 64)
    monkeypatch.setattr("minideeplab.cost.timing.MAP", (1, 8, 16, 16))
    monkeypatch.setattr("minideeplab.cost.timing.COPIED", 2**16)
    monkeypatch.setattr("minideeplab.cost.timing.LEAST", 0.01)
    found = roofline(dtype=dtype, threads=1)
    assert min(found.flops.quartiles) > 0
    assert min(found.bandwidth.quartiles) > 0
    assert (found.threads, found.dtype) == (1, dtype)
    assert "threads: 1" in repr(found)


# ---- a network's time


class Small(nn.Module):
    """Every number can be counted by hand: a map of 8 channels and 100 places."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.mix, self.bn = (
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.Conv2d(8, 8, 1, bias=False),
            nn.BatchNorm2d(8),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.mix(self.look(x))))
        return torch.cat([x, x], dim=1)[:, :8].view(-1, 800)


def test_calls_macs_and_bytes_are_exact():
    rows = {row.kind: row for row in measure(Small(), (1, 8, 10, 10), runs=3, machine=MACHINE, threads=1).rows}
    maps = 4 * 8 * 100
    assert {kind: (row.calls, row.macs, row.moved) for kind, row in rows.items()} == {
        "dense": (1, 8 * 8 * 9 * 100, 2 * maps + 4 * 8 * 8 * 9),
        "pointwise": (1, 8 * 8 * 100, 2 * maps + 4 * 8 * 8),
        "batch norm": (1, 0, 2 * maps + 4 * 4 * 8),
        "ReLU": (1, 0, 2 * maps),
        "concatenation": (1, 0, 4 * maps),
    }


def test_macs_by_kind_are_those_of_the_report():
    net, shape = DeepLabV3Plus(xception65(width=0.125), 5), (1, 3, 65, 65)
    measured, report = measure(net, shape, runs=3, machine=MACHINE, threads=1), profile(net, shape)
    assert {row.kind: row.macs for row in measured.rows if row.macs} == {
        kind: sum(row.macs for row in report.rows if row.kind == kind) for kind in ("dense", "depthwise", "pointwise")
    }
    assert "resizing" in {row.kind for row in measured.rows}


@torch.inference_mode()
def test_macs_are_counted_in_inference_mode_too():
    net, shape = xception65(width=0.125), (1, 3, 33, 33)
    measured = measure(net, shape, runs=3, machine=MACHINE, threads=1)
    assert sum(row.macs for row in measured.rows) == profile(net, shape).macs > 0


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="the fast path's own operations are oneDNN's")
def test_an_optimized_network_is_timed_with_the_macs_and_kinds_of_the_original():
    """Its wide paddings are pixels of the map, its batch norms are gone, its weights are packed where nobody can look."""
    net, shape = DeepLabV3Plus(xception65(width=0.125), 5).eval(), (1, 3, 65, 65)
    rows = measure(optimize_for_inference(net), shape, runs=3, machine=MACHINE, threads=1).rows
    report = profile(net, shape)
    assert {row.kind: row.macs for row in rows if row.macs} == {
        kind: sum(row.macs for row in report.rows if row.kind == kind) for kind in ("dense", "depthwise", "pointwise")
    }
    assert "batch norm" not in {row.kind for row in rows}


def test_time_goes_where_the_work_is():
    net = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())
    rows = measure(net, (1, 64, 96, 96), runs=5, machine=MACHINE, threads=1).rows
    assert [row.kind for row in rows] == ["dense", "ReLU"]
    assert rows[0].share.quartiles[1] > 75
    torch.testing.assert_close(sum(row.share.quartiles[1] for row in rows), 100.0, rtol=0.05, atol=0)


def test_every_time_in_the_table_has_its_spread():
    measured = measure(Small(), (1, 8, 10, 10), runs=3, machine=MACHINE, threads=1)
    table = measured.table()
    times = [cell for row in table.rows for cell in row[4:]]
    assert len(times) == 3 * len(measured.rows)
    for cell in times:
        assert re.fullmatch(SPREAD, cell)
    assert table.caption.count("(") >= 4
    assert "threads: 1" in table.caption
    assert measured._repr_html_().startswith("<table>")
    assert repr(measured) == table.text()


def test_a_measured_network_has_no_bare_time():
    measured = measure(nn.ReLU(), (1, 1, 4, 4), runs=3, machine=MACHINE, threads=1)
    assert isinstance(measured, Measured)
    quantities = [
        measured.whole,
        measured.roofline.flops,
        *(q for row in measured.rows for q in (row.seconds, row.share, row.least)),
    ]
    assert all(isinstance(quantity, Spread) for quantity in quantities)
    assert not any(isinstance(value, float) for row in measured.rows for value in row)


def test_measuring_leaves_the_network_and_the_threads_alone():
    net = SeparableConv2d(4, 4).train()
    before, threads = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_num_threads()
    measured = measure(
        nn.Sequential(net, nn.BatchNorm2d(4)), (2, 4, 9, 9), runs=3, threads=2, machine=replace(MACHINE, threads=2)
    )
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.get_num_threads() == threads
    assert measured.roofline.threads == 2


def test_nothing_is_written_to_a_stderr_that_is_no_terminal(capfd):
    measure(nn.ReLU(), (1, 1, 4, 4), runs=3, machine=MACHINE, threads=1)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_progress(monkeypatch):
    class Terminal:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None: ...

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    measure(nn.ReLU(), (1, 1, 4, 4), runs=3, machine=MACHINE, threads=1)
    assert "3/3" in terminal.text or "0/3" in terminal.text


def test_without_tqdm_it_measures_in_silence(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert measure(nn.ReLU(), (1, 1, 4, 4), runs=3, machine=MACHINE, threads=1).whole.runs == 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("net", "shapes", "options", "message"),
    [
        (nn.ReLU(), [(1, 1, 4, 4)], {"runs": 2}, "at least 3, or there is no spread to state; got 2"),
        (nn.ReLU(), [(1, 1, 4, 4)], {"runs": 0}, "runs must be at least 1, got 0"),
        (nn.ReLU(), [], {}, "needs the shape of the input"),
        (nn.Conv2d(1, 1, 1, device="meta"), [(1, 1, 4, 4)], {}, "the network is on meta"),
        (nn.ReLU(), [(1, 1, 4, 4)], {"threads": 0}, "threads must be at least 1, got 0"),
        (nn.ReLU(), [(1, 1, 4, 4)], {"threads": 10**9}, "threads must be at most 1,024, got 1,000,000,000: use one"),
        (nn.ReLU(), [(1, 1, 4, 4)], {"threads": 2}, "measured with 1 threads and the network with 2"),
    ],
)
def test_what_cannot_be_measured_is_refused(net, shapes, options, message):
    with pytest.raises(ValueError, match=message):
        measure(net, *shapes, machine=MACHINE, **options)


def test_a_time_is_that_of_single_runs_at_least_five_of_them(monkeypatch):
    ran = []
    monkeypatch.setattr(timing, "LEAST", 0.0)
    assert len(timing._times(lambda: ran.append(1) or torch.zeros(1))) == 5
    assert len(ran) == 6  # one to warm up
