"""Break the library in known ways: each break must turn at least one notebook red (`make mutants`).

A notebook that stays green while the library is wrong teaches nothing about it. Each row below is applied to a copy of
the library and the notebooks, and the copy's notebooks are executed and compared as in `make test`, the expected
catcher first, up to the first red one. Exit status 1 if a break goes unseen, if its text is not found exactly once,
or if the unbroken copy is not green. With --all every notebook is run for every break.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutation(NamedTuple):
    """One break: the text `old`, found exactly once at a place of the library, becomes `new`."""

    name: str
    catcher: str  # the beginning of the notebook that should notice first
    place: str  # a file, file::class, file::function, or a folder: then the text stands once in one of its files
    old: str
    new: str

    def broken(self, library: Path) -> tuple[Path, str]:
        """The file and its new text; ValueError if `old` is not found exactly once."""
        file, _, name = self.place.partition("::")
        if not (library / file).exists():
            raise ValueError(f"{self.name}: there is no {file}")
        if (library / file).is_dir():
            holders = [path for path in sorted((library / file).glob("*.py")) if self.old in path.read_text(encoding="utf-8")]
            if len(holders) != 1:
                raise ValueError(f"{self.name}: its text stands in {len(holders)} files of {self.place}")
            return self._replace(place=holders[0].relative_to(library).as_posix()).broken(library)
        text = (library / file).read_text(encoding="utf-8")
        lines, first, last = text.splitlines(keepends=True), 0, None
        if name:
            node = next((n for n in ast.parse(text).body if getattr(n, "name", "") == name), None)
            if node is None:
                raise ValueError(f"{self.name}: there is no {self.place}")
            first, last = node.lineno - 1, node.end_lineno
        whole = "".join(lines[first:last])
        if whole.count(self.old) != 1:
            raise ValueError(f"{self.name}: its text stands {whole.count(self.old)} times in {self.place}")
        return library / file, "".join([*lines[:first], whole.replace(self.old, self.new), *(lines[last:] if last else [])])


# fmt: off
MUTATIONS = [
    Mutation("the kernel is flipped", "01", "blocks/convolution.py",
             "weight[o, c, u, v]", "weight[o, c, -1 - u, -1 - v]"),
    Mutation("output sizes are rounded up", "01", "geometry.py",
             "(room - extent) // stride + 1", "-(-(room - extent) // stride) + 1"),
    Mutation("the receptive field forgets strides", "01", "geometry.py",
             "        jump *= stride\n", ""),
    Mutation("a formula counts FLOPs for MACs", "01", "cost/formulas.py::convolution",
             "Cost(params, params", "Cost(params, 2 * params"),
    Mutation("the report counts weights once, not once a pixel", "01", "cost",
             "places * weight.numel()", "weight.numel()"),
    Mutation("the report takes depthwise for dense", "04", "cost",
             "places * weight.numel()", "places * weight.numel() * groups"),
    Mutation("the report lets a 1 x 1 see a neighbor", "04", "cost/receptive_field.py::window",
             "(kernel - 1) * dilation - padding)", "kernel * dilation - padding)"),
    Mutation("a tower's 5 x 5 became a 3 x 3", "02", "blocks/inception.py::Inception35",
             "ConvBNReLU(48, 64, 5)", "ConvBNReLU(48, 64, 3)"),
    Mutation("towers do not reduce", "02", "blocks/inception.py::Inception35",
             "ConvBNReLU(in_channels, 64), ConvBNReLU(64, 96, 3)", "ConvBNReLU(in_channels, 96), ConvBNReLU(96, 96, 3)"),
    Mutation("segments are ignored", "03", "blocks/extreme.py::SegmentedInception",
             "groups=segments, ", ""),
    Mutation("zero blocks stand in the wrong place", "03", "blocks/extreme.py::regroup",
             "start = group % (groups // fewer) * inputs", "start = 0"),
    Mutation("order swapped: mix, then look", "04", "blocks/separable.py::SeparableConv2d",
             "self.pointwise(self.depthwise(x))",
             "F.conv2d(self.pointwise(x), self.depthwise.weight[:1].expand(len(self.pointwise.weight), -1, -1, -1), "
             "padding=self.depthwise.padding, groups=len(self.pointwise.weight))"),
    Mutation("a ReLU between the halves", "04", "blocks/separable.py::SeparableConv2d",
             "self.pointwise(self.depthwise(x))", "self.pointwise(F.relu(self.depthwise(x)))"),
    Mutation("depthwise without groups", "04", "blocks/separable.py::SeparableConv2d",
             "groups=in_channels, ", ""),
    Mutation("a bias sneaks into the pointwise half", "04", "blocks/separable.py::SeparableConv2d",
             "out_channels, 1, bias=False", "out_channels, 1"),
    Mutation("padding does not follow dilation", "04", "geometry.py",
             "return extent // 2", "return kernel_size // 2"),
    Mutation("the sum of separable kernels forgets the singular values", "04", "blocks/separable.py",
             "(u * s[:, None])", "u"),
    Mutation("upsampling does not put corners on corners", "00", "blocks/convolution.py",
             "align_corners=True", "align_corners=False"),
    Mutation("the output stride is ignored", "00", "geometry.py",
             "return 1 if self.traded else self.figure", "return self.figure"),
    Mutation("the thin end of an inverted residual is rectified", "00", "networks/mobilenet_v2.py",
             "y = self.project(F.relu6(self.depthwise_bn(self.depthwise(y))))",
             "y = F.relu(self.project(F.relu6(self.depthwise_bn(self.depthwise(y)))))"),
    Mutation("the zero points of the shipped weights are forgotten", "00", "weights/quantized.py",
             "scale * (values.float() - zero)", "scale * values.float()"),
    Mutation("a cell of the coarse mask holds one pixel, not its average", "00", "learn/metrics.py",
             "window // 2", "0 * window"),
    Mutation("the photograph is not scaled to [-1, 1]", "01", "image.py",
             ".permute(0, 3, 1, 2).float() * (2 / 255) - 1", ".permute(0, 3, 1, 2).float()"),
    Mutation("a ReLU of Xception works in place", "05", "networks/xception.py",
             "rows += [nn.ReLU(), SeparableConv2d(", "rows += [nn.ReLU(inplace=True), SeparableConv2d("),
    Mutation("the sum of a module is rectified", "05", "networks/xception.py",
             "return self.residual(x) + self.shortcut(x)", "return F.relu(self.residual(x) + self.shortcut(x))"),
    Mutation("the last module of Xception is narrower", "05", "networks/xception.py",
             "SeparableConv2d(1536, 2048, dilation", "SeparableConv2d(1536, 2047, dilation"),
    Mutation("one hole too many between the taps", "06", "blocks/atrous.py",
             "holes[:, :, ::rate, ::rate] = weight", "holes[:, :, : rate * weight.shape[2] : rate, :: rate] = weight.flip(3)"),
    Mutation("sub-grids are woven together in the wrong order", "06", "blocks/atrous.py",
             "y[:, :, i::rate, j::rate] = F.conv2d", "y[:, :, j::rate, i::rate] = F.conv2d"),
    Mutation("ways through a dilated stack ignore the rate", "06", "blocks/atrous.py",
             "wider[tap * rate : tap * rate + len(ways)]", "wider[tap : tap + len(ways)]"),
    Mutation("the row that loses its stride is dilated already", "06", "geometry.py",
             "step = Step(stride, stride > 1 and self.current == self.output_stride, self.dilation)",
             "step = Step(stride, stride > 1 and self.current == self.output_stride, 2 * self.dilation)"),
    Mutation("the roofline forgets that a MAC is two operations", "11", "course/plot.py",
             "(2 * row.macs / row.moved,", "(row.macs / row.moved,"),
    Mutation("the fast path folds batch norm without its mean", "11", "inference.py",
             "factor * (self.bias - mean) + beta", "factor * self.bias + beta + 1"),
    Mutation("image pooling says the maximum", "07", "blocks/aspp.py",
             "x.mean((2, 3), keepdim=True)", "x.amax((2, 3), keepdim=True)"),
    Mutation("rates do not follow the output stride", "07", "geometry.py",
             "Fraction(96 * branch, output_stride)", "Fraction(96 * branch, 16)"),
    Mutation("the rate dilates the pointwise half", "07", "blocks/separable.py::SeparableConv2d",
             "nn.Conv2d(in_channels, out_channels, 1, bias=False)",
             "nn.Conv2d(in_channels, out_channels, 1, dilation=dilation, bias=False)"),
    Mutation("the bridge starts at another module", "08", "networks/aligned_xception.py",
             "self.tap = entry_flow.index((256, 2))", "self.tap = entry_flow.index((256, 2)) - 1"),
    Mutation("the low-level map is not reduced enough", "08", "networks/deeplab.py::DeepLabV3Plus",
             "low_channels: int = 48", "low_channels: int = 64"),
    Mutation("gray is put before the picture", "08", "image.py",
             "F.pad(x, (0, on_grid(width, step=step) - width, 0, on_grid(height, step=step) - height))",
             "F.pad(x, (on_grid(width, step=step) - width, 0, on_grid(height, step=step) - height, 0))"),
    Mutation("every separable layer of the backbone rectifies between its halves", "09", "networks/aligned_xception.py",
             "self.separable_1 = SeparableConvBN(in_channels, first, dilation=step.dilation)",
             "self.separable_1 = SeparableConvBN(in_channels, first, dilation=step.dilation, relu=True)"),
    Mutation("a projection is decided after the stride was traded", "09", "networks/aligned_xception.py",
             "changes = step.figure > 1 or in_channels != third", "changes = step.stride > 1 or in_channels != third"),
    Mutation("the decoder is never dense", "10", "networks/deeplab.py::DeepLabV3Plus",
             "**options, separable=separable", "**options"),
    Mutation("the low-level map is not reduced", "10", "networks/deeplab.py::DeepLabV3Plus",
             "low_channels: int = 48", "low_channels: int = 256"),
    Mutation("the report forgets linear layers", "10", "cost/trace.py",
             '("addmm", "baddbmm", "addmv")', '("baddbmm", "addmv")'),
    Mutation("sub-grids are not padded", "10", "cost/tensorflow_profiler.py",
             "2 * weight.numel() * (padded - places)", "0"),
    Mutation("a published number is mistyped", "10", "cost/published.py",
             "79.93,   89.76", "79.39,   89.76"),
    Mutation("void is learned", "12", "learn/train.py::loss",
             "labels.ne(VOID).sum().clamp(min=1)", "labels.numel()"),
    Mutation("the rate falls in a straight line", "12", "learn/train.py::poly",
             "float(rate * (1 - step / steps) ** power)", "float(rate * (1 - step / steps))"),
    Mutation("depthwise kernels decay", "12", "learn/train.py::parameter_groups",
             " and not part.groups == part.in_channels > 1", ""),
    Mutation("a band is as wide as its square", "12", "learn/confusion.py::trimap",
             "min(width, sum(labels.shape)) ** 2", "width ** 4"),
    Mutation("an interval of one standard error", "12", "learn/experiments.py::judge",
             "STUDENT[min(count, 10) - 2] * ", ""),
    Mutation("SegNet gets values, not places", "13", "networks/encoder_decoder.py::SegNetHead",
             "max_unpool2d(x, places, before.shape[2:])", "(max_unpool2d(x, places, before.shape[2:]) + before)"),
    Mutation("U-Net forgets the finest map", "13", "networks/encoder_decoder.py::UNetHead",
             "x = step(x, pyramid.maps[stride])", "x = step(x, pyramid.maps[stride] * (stride > 2))"),
    Mutation("RefineNet's pooling is no chain", "13", "blocks/refinement.py::ChainedResidualPooling",
             "F.max_pool2d(link, 5", "F.max_pool2d(x, 5"),
    Mutation("PSPNet has no view of the whole", "13", "networks/family.py::PSPNetHead",
             "self.mix(self.pool(pyramid.high))", "self.mix(self.pool(pyramid.high) * 0)"),
]
# fmt: on


def notebooks(first: str = "") -> list[str]:
    """The notebooks' names, those that begin with `first` leading."""
    names = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    return sorted(names, key=lambda name: not (first and name.startswith(first)))


def copy(folder: Path) -> None:
    """The library, the notebooks, the results that they read, and the configuration that pytest runs under."""
    for part in ("minideeplab", "notebooks", "docs/results"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def is_red(folder: Path, notebook: str) -> bool:
    """Execute and compare one notebook of the copy, against the copy's library."""
    options = "-q -x -p no:cacheprovider --nbval --nbval-current-env --nbval-cell-timeout 120"
    command = [sys.executable, "-m", "pytest", *options.split(), f"notebooks/{notebook}"]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"pytest could not run {notebook}, status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def red_notebooks(mutation: Mutation, every: bool) -> list[str]:
    """The notebooks that a break turns red; only the first unless `every`."""
    with tempfile.TemporaryDirectory(prefix="minideeplab-mutant-") as folder:
        copy(Path(folder))
        path, text = mutation.broken(Path(folder, "minideeplab"))
        path.write_text(text, encoding="utf-8")
        red: list[str] = []
        for notebook in notebooks(mutation.catcher):
            if (every or not red) and is_red(Path(folder), notebook):
                red.append(notebook)
        return red


def the_copy_is_what_runs() -> list[str]:
    """Unbroken, the copy is green; without its library it is red, so no other minideeplab is imported."""
    with tempfile.TemporaryDirectory(prefix="minideeplab-copy-") as folder, ThreadPoolExecutor(2) as pool:
        copy(Path(folder))
        reds = pool.map(is_red, [Path(folder)] * len(notebooks()), notebooks())
        found = [f"{name} is red before anything is broken" for name, red in zip(notebooks(), reds, strict=True) if red]
        (Path(folder) / "minideeplab" / "__init__.py").write_text("raise ImportError('the copy')\n", encoding="utf-8")
        greens = [name for name in notebooks("01")[:1] if not is_red(Path(folder), name)]
        return found + [f"{name} does not import the copy's library" for name in greens]


def not_once(mutation: Mutation) -> list[str]:
    """A complaint if the text to break is not there exactly once."""
    try:
        mutation.broken(ROOT / "minideeplab")
    except ValueError as error:
        return [str(error)]
    return []


def main() -> int:
    """Print one row per break; 1 if one goes unseen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only the breaks whose names contain one of these")
    parser.add_argument("--all", action="store_true", help="run every notebook for every break")
    options = parser.parse_args()
    chosen = [m for m in MUTATIONS if not options.words or any(word in m.name for word in options.words)]
    start, found = time.perf_counter(), [text for m in MUTATIONS for text in not_once(m)]
    found += [f"no break is called {' or '.join(options.words)}"] * (not chosen)
    found = found or the_copy_is_what_runs()
    if not found:
        width = max(len(m.name) for m in chosen)
        print(f"{'mutation':<{width}} | notebooks turned red")
        with ThreadPoolExecutor(2) as pool:
            for mutation, red in zip(chosen, pool.map(red_notebooks, chosen, [options.all] * len(chosen)), strict=True):
                print(f"{mutation.name:<{width}} | {', '.join(red) or 'NONE'}", flush=True)
                found += [] if red else [f"{mutation.name}: no notebook noticed"]
    print("\n".join(found))
    print(f"make mutants: {len(chosen)} breaks, {len(found)} complaints, {time.perf_counter() - start:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
