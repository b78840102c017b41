"""The command line, run in this process: published numbers, three forms of output, and one clear line for bad input."""

import argparse
import json
import re
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from minideeplab.__main__ import main
from minideeplab.cli.costs import OPTIONS, inputs_of, memory
from minideeplab.cli.models import MODELS
from minideeplab.cli.parser import parser
from minideeplab.cost.report import CONVENTION
from minideeplab.cost.timing import Roofline, Spread
from minideeplab.inference import keep_freed_memory
from minideeplab.learn.network_file import BACKBONES, build

KEYS = ["model", "size", "params", "macs", "shares", "receptive_field", "peak_bytes"]
ROOT = Path(__file__).parents[2]


def run(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    try:
        status = main(line.split())
    except SystemExit as end:
        status = int(end.code or 0)
    return status, *capsys.readouterr()


def answer(capsys: pytest.CaptureFixture[str], line: str) -> str:
    status, out, err = run(capsys, line)
    assert (status, err) == (0, "")
    return out


def refusal(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """The one line on standard error; nothing may have reached standard output."""
    status, out, err = run(capsys, line)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"minideeplab( \w+)?: error: .*\n", err), err
    return err


# ---- numbers


@pytest.mark.parametrize(
    ("line", "params", "macs"),
    [
        ("xception --size 299", 22_855_952, 8_357_403_496),
        ("inception_v3 --size 299", 23_834_568, 5_713_216_096),
        ("xception65 --size 513", 37_867_312, None),
        ("deeplabv3plus-xception65 --size 513", 41_055_413, 54_035_303_024),
        ("deeplabv3plus-xception65 --size 513 --output-stride 8", 41_055_413, 176_851_524_720),
        ("deeplabv3-mobilenet_v2 --size 513", 2_113_557, 2_740_709_056),  # the file's convolutions, added up
        ("aspp --in 2048 --out 256", 3_019_776, None),
        ("aspp --in 2048 --out 256 --dense", 15_535_104, None),
        ("conv --in 128 --out 128 --size 32", 147_456, 150_994_944),
        ("separable --in 128 --out 128 --size 32", 17_536, 17_956_864),
    ],
)
def test_cost_gives_the_published_counts(capsys, line, params, macs):
    facts = json.loads(answer(capsys, f"cost {line} --json"))
    assert facts["params"] == params
    assert macs in (facts["macs"], None)
    assert sum(layer["macs"] for layer in facts["layers"]) == facts["macs"]


@pytest.mark.parametrize(
    ("line", "billions"),
    [
        ("deeplabv3-xception65 --dense", 68.00),
        ("deeplabv3-resnet101 --dense", 81.02),
        ("deeplabv3plus-xception65 --output-stride 8", 177.10),
    ],
)
def test_cost_gives_the_multiply_adds_of_tables_3_and_5(capsys, line, billions):
    facts = json.loads(answer(capsys, f"cost {line} --size 513 --json"))
    assert abs(facts["tf_multiply_adds"] / 1e9 - billions) / billions < 2e-4


def test_the_network_for_phones_has_the_multiply_adds_that_its_authors_print(capsys):
    facts = json.loads(answer(capsys, "cost deeplabv3-mobilenet_v2 --size 513 --json"))
    assert facts["tf_multiply_adds"] / 1e9 == pytest.approx(2.7519, abs=5e-5)
    assert f"{facts['tf_multiply_adds'] / 1e9:.2f}" == "2.75"  # Sandler 2018, table 7
    assert f"{facts['macs'] / 1e9:.2f}" == "2.74"  # the two counts differ, and the table tells which it is


def test_the_backbone_for_phones_is_counted_and_compared(capsys):
    alone = json.loads(answer(capsys, "cost mobilenet_v2 --json"))
    whole = json.loads(answer(capsys, "cost deeplabv3-mobilenet_v2 --json"))
    head = 320 * 256 + 320 * 256 + 512 * 256 + 3 * 512 + 257 * 21  # two views, their projection, three norms, the last layer
    assert alone["params"] + head == whole["params"]
    assert re.search(rf"^total +{alone['params']:,}  {alone['macs']:,}$", answer(capsys, "cost mobilenet_v2"), re.MULTILINE)
    names = ["deeplabv3-mobilenet_v2", "deeplabv3plus-mobilenet_v2", "deeplabv3plus-xception65"]
    facts = json.loads(answer(capsys, f"compare {' '.join(names)} --json"))
    assert [fact["model"] for fact in facts] == names
    assert sorted(fact["macs"] for fact in facts) == [fact["macs"] for fact in facts]
    table = answer(capsys, f"compare {' '.join(names)}").splitlines()
    assert [line.split()[:2] for line in table[1:4]] == [[fact["model"], f"{fact['params']:,}"] for fact in facts]
    assert table[1].endswith("  2.75")


@pytest.mark.parametrize("name", MODELS)
def test_every_name_has_a_cost_and_json_has_its_documented_keys(capsys, name):
    facts = json.loads(answer(capsys, f"cost {name} --json"))
    multiply_adds = ["tf_multiply_adds"] if name.startswith("deeplab") else []
    assert list(facts) == [*KEYS, *multiply_adds, "layers"]
    assert list(facts["layers"][0]) == ["name", "kind", "shape", "params", "macs", "receptive_field"]
    assert (facts["model"], facts["size"]) == (name, MODELS[name].size)
    assert abs(sum(facts["shares"].values()) - 1) < 1e-12


@pytest.mark.parametrize(
    "name", ["xception", "resnet101", "deeplabv3plus-xception41", "inception", "extreme", "atrous", "decoder"]
)
def test_macs_are_half_of_torch_s_own_flop_count(capsys, name):
    facts = json.loads(answer(capsys, f"cost {name} --size 97 --json"))
    net = build(MODELS, name).eval()
    with FlopCounterMode(display=False) as counter:
        net(*(torch.empty(shape, device="meta") for shape in inputs_of(net, (97, 97), {})))
    assert counter.get_total_flops() == 2 * facts["macs"]


@pytest.mark.parametrize("name", ["conv", "atrous", "separable", "inception", "extreme"])
def test_macs_of_blocks_are_what_fvcore_counts(capsys, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flop_count = pytest.importorskip("fvcore.nn").FlopCountAnalysis
        net = build(MODELS, name, "cpu")
        count = flop_count(net, tuple(torch.zeros(shape) for shape in inputs_of(net, (9, 11), {})))
        total = count.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    assert json.loads(answer(capsys, f"cost {name} --size 9x11 --json"))["macs"] == total


def test_a_size_may_have_two_sides_and_height_comes_first(capsys):
    facts = json.loads(answer(capsys, "cost conv --size 9x33 --json"))
    assert facts["size"] == [9, 33]
    assert facts["layers"][0]["shape"] == [1, 192, 9, 33]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("xception", "--classes 7"), ("xception", "--output-stride 16"), ("resnet101", "--output-stride 8"),
        ("deeplabv3-xception41", "--classes 7"), ("deeplabv3-xception41", "--output-stride 8"),
        ("deeplabv3-xception41", "--dense"), ("conv", "--in 7"), ("conv", "--out 7"), ("conv", "--kernel 5"),
        ("atrous", "--rate 5"), ("separable", "--rate 5"), ("inception", "--towers 4"), ("extreme", "--kernel 5"),
        ("aspp", "--rate 4"), ("aspp", "--dense"), ("decoder", "--dense"), ("decoder", "--out 64"),
    ],
)  # fmt: skip
def test_every_option_changes_something(capsys, name, option):
    plain, changed = (answer(capsys, f"cost {name} --size 65 --json {text}") for text in ("", option))
    if name == "aspp" and "rate" in option:  # the global view sees all: only the branches tell
        fields = [{layer["receptive_field"] for layer in json.loads(text)["layers"]} for text in (plain, changed)]
        assert fields == [{1, 13, 25, 37, "all"}, {1, 9, 17, 25, "all"}]
    else:
        assert plain != changed


# ---- forms


def test_cost_prints_modules_totals_and_the_convention(capsys):
    out = answer(capsys, "cost deeplabv3plus-xception65 --size 513")
    assert re.search(r"^aspp\.branches +module +256 x 33 x 33 ", out, re.MULTILINE)
    assert re.search(r"^total +41,055,413  54,035,303,024$", out, re.MULTILINE)
    assert CONVENTION in out
    assert "Shares of the MACs: dense 2.4%, depthwise 1.5%, pointwise 96.2%." in out
    assert "at most 84.5 MB" in out
    assert "counted them: 54.16 billion." in out


def test_depth_unfolds_the_modules(capsys):
    lengths = [len(answer(capsys, f"cost xception --size 71 --depth {depth}").splitlines()) for depth in (1, 2, 3, 0)]
    assert lengths[:3] == sorted(lengths[:3])
    assert lengths[0] < 10 < lengths[1]
    assert lengths[-1] == max(lengths)


def test_markdown_is_a_table_with_its_caption(capsys):
    lines = answer(capsys, "compare conv separable --markdown").splitlines()
    assert lines[0].startswith("| model | params | ratio | MACs | ratio | depthwise | pointwise | dense | sees | peak MB |")
    assert re.fullmatch(r"\|( :?--:? \|)+", lines[1])
    assert lines[3] == "| separable | 38,592 | 0.12 | 42,026,688 | 0.12 | 4.5% | 95.5% | 0.0% | 3 | 1.7 |"
    assert CONVENTION in lines[-1]


def test_compare_sets_ratios_to_the_first(capsys):
    out = answer(capsys, "compare inception_v3 xception --size 299")
    assert re.search(r"^inception_v3  23,834,568   1\.00  5,713,216,096   1\.00 ", out, re.MULTILINE)
    assert re.search(r"^xception      22,855,952   0\.96  8,357,403,496   1\.46 ", out, re.MULTILINE)
    assert "multiply-adds" not in out


def test_compare_shows_the_authors_multiply_adds_for_deeplab_alone(capsys):
    header, deeplab, xception, caption = answer(capsys, "compare deeplabv3-xception65 xception --size 513 --dense").splitlines()
    assert header.endswith("multiply-adds")
    assert deeplab.endswith("  68.00")
    assert not xception.endswith("  68.00")
    assert caption.endswith("multiply-adds: as the authors of DeepLabV3+ counted them, in billions.")


def test_compare_in_json_is_a_list_in_the_order_asked(capsys):
    facts = json.loads(answer(capsys, "compare separable conv --in 24 --out 24 --json"))
    assert [fact["model"] for fact in facts] == ["separable", "conv"]
    assert all(list(fact) == KEYS for fact in facts)


def test_the_decoder_s_coarse_map_has_a_quarter_of_each_side_rounded_up():
    [fine, coarse] = inputs_of(build(MODELS, "decoder"), (129, 66), {})
    assert (fine, coarse) == ((1, 256, 129, 66), (1, 256, 33, 17))


def test_shares_by_kind_add_up_to_the_whole_in_compare_too(capsys, own):
    own("from torch import nn\nnet = nn.Sequential(nn.Conv2d(6, 6, 3, groups=3), nn.Conv2d(6, 6, 1))\n")
    header, *rows, _ = (line.split() for line in answer(capsys, "compare conv users_own:net --in 6 --size 9").splitlines())
    assert "grouped" in header
    assert sum(float(cell[:-1]) for cell in rows[1] if "%" in cell) == pytest.approx(100, abs=0.2)


def test_an_option_reaches_those_models_that_have_it(capsys):
    image, maps = json.loads(answer(capsys, "compare xception conv --in 24 --size 71 --json"))
    assert image["params"] == 22_855_952
    assert maps["params"] == 24 * 192 * 9


def test_the_first_model_decides_the_size(capsys):
    assert {fact["size"] for fact in json.loads(answer(capsys, "compare xception xception65 --json"))} == {299}
    assert {fact["size"] for fact in json.loads(answer(capsys, "compare xception65 xception --json"))} == {513}


# ---- help


def examples() -> list[str]:
    [commands] = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    texts = [parser().epilog, *(sub.epilog for sub in commands.choices.values())]
    return [line for text in texts for line in re.findall(r"python -m minideeplab (.*)", text or "")]


def test_every_command_has_help_with_examples(capsys):
    for command in ("", "cost", "compare", "bench", "convert", "classify", "segment"):
        out = answer(capsys, f"{command} --help")
        assert "examples:\n  python -m minideeplab" in out
        assert max(map(len, out.splitlines())) <= 128, command
    assert "imports and runs your code" in answer(capsys, "cost --help")
    assert all(name in answer(capsys, "compare --help") for name in MODELS)


@pytest.mark.parametrize("line", [line for line in examples() if "COMMAND" not in line])
def test_every_example_of_the_help_is_a_command_line(capsys, line):
    args = parser().parse_args(line.split())
    if line.startswith(("cost", "compare")) and "my_package" not in line:
        assert answer(capsys, line)
    assert callable(args.run)


def test_the_defaults_that_the_help_states_are_the_builders(capsys):
    text = " ".join(answer(capsys, "cost --help").split())
    defaults = {name: model.options for name, model in MODELS.items()}
    assert "--in N channels of blocks (default: 192, aspp 2048, decoder 256)" in text
    assert {name: options["inputs"] for name, options in defaults.items() if "inputs" in options} == dict.fromkeys(
        ("conv", "atrous", "inception", "extreme", "separable"), 192
    ) | {"aspp": 2048, "decoder": 256}
    assert "--output-stride N of networks (default: 16, xception and classifiers 32)" in text
    assert all(
        o["output_stride"] == (32 if name.startswith(("xception", "classifier")) and name not in BACKBONES else 16)
        for name, o in defaults.items()
        if "output_stride" in o
    )
    assert "--rate N of atrous (default: 2) and separable (1); aspp takes N, 2N and 3N (6)" in text
    assert {name: o["rate"] for name, o in defaults.items() if "rate" in o} == {"atrous": 2, "separable": 1, "aspp": 6}
    assert set(OPTIONS) <= {option for options in defaults.values() for option in options}


def test_the_version_is_the_project_s(capsys):
    declared = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert answer(capsys, "--version") == f"minideeplab {declared[1]}\n"


def test_the_installed_command_is_this_one():
    assert '\nminideeplab = "minideeplab.__main__:main"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


# ---- bad input


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cost xeption", r"unknown model 'xeption': did you mean xception\? Known are module.path:callable and inception_v3, "),
        ("cost deeplabv3+-xception65", r"did you mean deeplabv3-xception65\?"),
        ("cost Xception", r"did you mean xception\?"),
        ("cost mobilenet", r"did you mean mobilenet_v2\?"),
        ("cost squeezenet", "unknown model 'squeezenet': Known are"),
        ("cost classifier-mobilenet_v2", "unknown model"),
        ("cost deeplabv3-inception_v3", "unknown model"),
        ("compare xception nonsense", "unknown model 'nonsense'"),
        ("cost", "arguments are required: MODEL"),
        ("compare", "arguments are required: MODEL"),
        ("frobnicate", "invalid choice: 'frobnicate'"),
        ("cost xception --size 1000000000", "--size: must be from 1 to 100,000, got 1,000,000,000"),
        ("cost xception --size 0", "must be from 1 to 100,000, got 0"),
        ("cost xception --size -5", "must be from 1 to 100,000, got -5"),
        ("cost xception --size 513x", "expected a whole number, got ''"),
        ("cost xception --size 5x5x5", "expected 513, or height x width as 1025x2049, got '5x5x5'"),
        ("cost xception --size 1e9", "expected a whole number, got '1e9'"),
        ("cost xception --size 3.5", "expected a whole number, got '3.5'"),
        ("cost xception --size " + "9" * 5000, "expected a whole number"),
        ("cost inception_v3 --size 50", "at least 75 x 75"),
        ("cost xception65 --output-stride 7", "output stride 7 cannot be reached: this network passes through 2, 4, 8"),
        ("cost deeplabv3plus-resnet101 --output-stride 64", "output stride 64 cannot be reached"),
        ("cost inception_v3 --output-stride 16", "--output-stride does not apply to inception_v3"),
        ("compare xception conv --dense", "--dense does not apply to xception or conv"),
        ("cost xception --in 5", "--in does not apply to xception"),
        ("cost xception65 --classes 5", "--classes does not apply to xception65"),
        ("cost conv --rate 2", "--rate does not apply to conv"),
        ("cost conv --kernel 4", "same padding needs an odd kernel_size, got 4"),
        ("cost conv --in -3", "--in: must be from 1 to 1,000,000, got -3"),
        ("cost conv --in 1000000 --out 1000000 --kernel 9999", "conv cannot be that large"),
        ("cost inception --towers 5", "towers must divide width: 5 does not divide 192"),
        ("cost inception --towers 1000000000", "--towers: must be from 1 to 1,024"),
        ("cost xception --json --markdown", "not allowed with argument"),
        ("bench conv --runs 2", "--runs: must be from 3 to 1,000, got 2"),
        ("bench conv --threads 0", "--threads: must be from 1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(capsys, line, message):
    assert re.search(message, refusal(capsys, line))


@pytest.mark.parametrize(
    "line",
    [
        "cost xception --size 1000000000", "cost deeplabv3plus-xception65 --size 99999x100000", "cost xception --size 100000",
        "cost inception --in 1000000 --out 1000000 --towers 1024", "cost inception --in 1000000 --out 999983 --towers 7",
        "cost atrous --rate 10000 --kernel 9999 --size 100000", "cost xception --classes 1000000",
        "bench xception --size 100000", "bench conv --in 1000000 --out 1000000",
    ],
)  # fmt: skip
def test_absurd_numbers_are_answered_or_refused_at_once(capsys, line):
    start = time.perf_counter()
    status, _, _ = run(capsys, line)
    assert status in (0, 2)
    assert time.perf_counter() - start < 10  # seconds; a busy machine needs some of them


blocks = st.sampled_from(
    ["conv", "atrous", "separable", "inception", "extreme", "decoder", "aspp", "convv", "", "-", ":", "a:b", "xception"]
)
numbers = st.one_of(
    st.integers(-3, 40), st.integers(10**3, 10**30), st.sampled_from(["", "x", "3x", "nan", "1e3", "0x10", "٣"])
).map(str)
flags = st.sampled_from(["--size", "--in", "--out", "--kernel", "--rate", "--classes", "--output-stride"])


@settings(max_examples=150)
@given(st.sampled_from(["cost", "compare"]), blocks, st.lists(st.tuples(flags, numbers), max_size=3))
def test_nonsense_never_ends_in_a_traceback(command, block, options):
    errors = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", Collect(errors))
        patch.setattr("sys.stdout", Collect([]))
        try:
            status = main([command, block, *(word for option in options for word in option)])
        except SystemExit as end:
            status = end.code
    assert status in (0, 2)
    assert "".join(errors).count("\n") == (1 if status else 0)


class Collect:
    """A stream that keeps what is written."""

    def __init__(self, kept: list[str]) -> None:
        self.write = kept.append

    def flush(self) -> None: ...


# ---- a user's own network


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a module of the user's into the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source: str) -> None:
        (tmp_path / "users_own.py").write_text(textwrap.dedent(source), encoding="utf-8")
        monkeypatch.delitem(sys.modules, "users_own", raising=False)

    yield write
    sys.modules.pop("users_own", None)


def test_a_users_network_is_counted_and_what_it_prints_goes_to_stderr(capsys, own):
    own("""
        from torch import nn
        print("importing")
        def net():
            print("building")
            return nn.Conv2d(5, 2, 3, padding=1)
        made = nn.Sequential(nn.Conv2d(7, 2, 1, bias=False))
    """)
    status, out, err = run(capsys, "cost users_own:net --size 10 --json")
    assert (status, json.loads(out)["macs"]) == (0, 2 * 5 * 9 * 100)  # it says itself that it has five channels
    assert err == "importing\nbuilding\n"
    assert json.loads(answer(capsys, "cost users_own:made --size 10 --in 7 --json"))["params"] == 14
    table = answer(capsys, "compare conv users_own:made --in 7 --out 2 --kernel 1 --size 10").splitlines()
    assert [line.split()[1:5] for line in table[1:3]] == [["14", "1.00", "1,400", "1.00"]] * 2


def test_a_failing_users_network_is_one_line_that_says_where(capsys, own):
    own("""
        import sys
        from torch import nn

        def fails(): return 1 / 0
        def number(): return 7
        def picky(size): return nn.ReLU()
        class Leaves(nn.Module):
            def forward(self, x): sys.exit(0)
        class Wrong(nn.Module):
            def forward(self, x):
                print("on its way")
                return nn.functional.relu(x) @ x[:, :, :5]
        class Long(nn.Module):
            def forward(self, x): raise RuntimeError("first\\nsecond\\n" + 5000 * "x")
    """)
    for name, message in {
        "fails": r"users_own:fails failed: ZeroDivisionError: division by zero \(users_own.py, line 5\)$",
        "number": "users_own:number failed: TypeError: expected a torch.nn.Module, got int$",
        "picky": r"TypeError: picky\(\) missing 1 required positional argument: 'size'$",
        "Leaves": r"SystemExit: 0 \(users_own.py, line 9\)$",
        "Wrong": r"^on its way\n.*users_own:Wrong failed: RuntimeError: .* \(users_own.py, line 13\)$",
        "Long": r"RuntimeError: first second x+ \.\.\.$",
        "absent": "users_own:absent failed: AttributeError: module 'users_own' has no attribute 'absent'$",
    }.items():
        status, out, err = run(capsys, f"cost users_own:{name}")
        assert (status, out) == (2, "")
        assert re.search(message, err.rstrip("\n")), err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module_here", r"ModuleNotFoundError: No module named 'no_such_module_here' \(users_own.py, line 1\)"),
        ("def net(:", r"SyntaxError: invalid syntax \(users_own.py, line 1\)"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
    ],
)
def test_a_users_module_that_cannot_be_imported_is_one_line(capsys, own, source, message):
    own(source)
    assert re.search(message, refusal(capsys, "cost users_own:net"))


@pytest.mark.parametrize("name", ["no_such_module_here:net", ":", "a:b:c", "users_own:"])
def test_a_name_that_leads_nowhere_is_one_line(capsys, name):
    assert f"{name} failed: " in refusal(capsys, f"cost {name}")


# ---- bench


@pytest.fixture
def machine(monkeypatch):
    """A roofline that takes no time to measure; torch keeps its threads."""
    made = Roofline(Spread((1e10, 2e10, 3e10), "FLOP/s", 5), Spread((1e9, 2e9, 3e9), "B/s", 5), 1, torch.float32)
    monkeypatch.setattr("minideeplab.cost.timing.roofline", lambda threads=None: made)
    return made


def test_bench_prints_no_time_without_its_spread(capsys, machine):
    out = answer(capsys, "bench separable --in 8 --out 8 --size 17 --runs 3 --threads 1")
    bare = re.sub(r"[\d.]+ [GMmµn]?(s|%|FLOP/s|B/s) \([\d.]+ to [\d.]+\)", "", out)
    assert not re.search(r"\d ?([GMmµn]?(s|B/s|FLOP/s)|%)\b", bare)
    assert "threads: 1" in out
    assert re.search(r"^depthwise +1 +20,808 ", out, re.MULTILINE)


def test_bench_shows_the_time_with_freed_memory_kept_where_it_can_be(capsys, machine, monkeypatch):
    command, said = "bench separable --in 8 --out 8 --size 17 --runs 3 --threads 1", "with freed memory kept: "
    for can in (True, False):
        monkeypatch.setattr("minideeplab.cli.costs.keep_freed_memory", lambda can=can: can)
        assert (said in answer(capsys, command)) == can


def test_bench_times_the_backbone_for_phones(capsys, machine):
    out = answer(capsys, "bench mobilenet_v2 --size 65 --runs 3")
    assert re.search(r"^depthwise +17 ", out, re.MULTILINE)


def test_bench_in_json_has_quartiles_everywhere(capsys, machine):
    facts = json.loads(answer(capsys, "bench separable --in 8 --out 8 --size 17 --runs 3 --threads 1 --json"))
    assert list(facts) == [*KEYS, "time", "time_kept", "roofline", "kinds"]
    assert (facts["time_kept"] is None) == (not keep_freed_memory())
    assert [list(kind) for kind in facts["kinds"]] == [["kind", "calls", "macs", "moved", "seconds", "share", "least"]] * 2
    quantities = [facts["time"], facts["roofline"]["flops"], *(kind["seconds"] for kind in facts["kinds"])]
    assert all(set(q) == {"quartiles", "unit", "runs"} and len(q["quartiles"]) == 3 for q in quantities)
    assert facts["roofline"]["threads"] == 1


def test_bench_refuses_what_does_not_fit_and_what_would_take_too_long(capsys, machine, monkeypatch):
    assert re.search(
        r"no room for conv at this size: it may take [\d,.]+ GB, this machine has", refusal(capsys, "bench conv --size 90000")
    )
    monkeypatch.setattr("minideeplab.cli.costs.memory", lambda: float("inf"))
    text = refusal(capsys, "bench deeplabv3plus-xception65 --size 3000 --output-stride 8")
    assert re.search(r"one run of deeplabv3plus-xception65 would take more than \d+ s here: choose a smaller --size", text)


def test_this_machine_tells_its_memory():
    assert memory() > 10**8
