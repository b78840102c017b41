"""The exercise cards and the guesses.

Each reference solution stands once, folded in its notebook, and passes the card's own check; answers that a student might
give instead do not. And what a guess is compared with has not been told before.
"""

import ast
import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

import minideeplab.course
import minideeplab.learn.train
from minideeplab.learn.train import train

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"

WRONG: dict[tuple[str, str], list[str]] = {  # what a student might write; each card's check must refuse all of its own
    ("01", "same_size"): [
        """def same_size(n, k, s):
    return n // s  # rounded down""",
        """def same_size(n, k, s):
    return (n - k) // s + 1  # no padding""",
        """def same_size(n, k, s):
    return round(n / s)""",
        """def same_size(n, k, s):
    return n // s + 1  # one too many where s divides n""",
        """def same_size(n, k, s):
    return (n + k // 2 - k) // s + 1  # padded on one side""",
    ],
    ("01", "sees"): [
        """def sees(strides):
    return 1 + 2 * len(strides)  # strides forgotten""",
        """def sees(strides):
    field, jump = 1, 1
    for stride in strides:
        jump *= stride  # too early: a layer's own stride does not widen its view
        field += 2 * jump
    return field""",
        """def sees(strides):
    field, jump = 1, 1
    for stride in strides:
        field, jump = field + 2 * jump, jump + stride - 1  # added, not multiplied
    return field""",
        """def sees(strides):
    field = 1
    for stride in strides:  # this way around it must begin at the last layer
        field = (field - 1) * stride + 3
    return field""",
        """def sees(strides):
    field, jump = 1, 1
    for stride in strides:
        field, jump = field + 3 * jump, jump * stride  # three more, not two
    return field""",
    ],
    ("02", "widest"): [
        """def widest(c, out, k):
    return c * out * k * k // (c + out * k * k)  # as many as, not fewer than""",
        """def widest(c, out, k):
    return c * out * k * k // (c + out)  # the window forgotten""",
        """def widest(c, out, k):
    return round(c * out * k * k / (c + out * k * k))  # up, where it should go down""",
        """def widest(c, out, k):
    return (c * out * k * k - 1) // (c + out * k * k) + 1  # the first that does not pay""",
        """def widest(c, out, k):
    return (c * out * k * k - 1) // (out * k * k)  # the 1 x 1 for nothing""",
        """def widest(c, out, k):
    return (c * out * k - 1) // (c + out * k)  # a line for a square""",
    ],
    ("03", "apart"): [
        """def apart(width):
    stops = [s for s in range(1, width + 1) if width % s == 0]
    return [(a, b) for a in stops for b in stops if a < b]  # all pairs""",
        """def apart(width):
    stops = [s for s in range(1, width + 1) if width % s == 0]
    return [(a, b) for a in stops for b in stops if a != b and b % a]  # both ways around""",
        """def apart(width):
    stops = [s for s in range(1, width + 1) if width % s == 0]
    return [(a, b) for a, b in zip(stops, stops[1:]) if b % a]  # neighbors only""",
        """def apart(width):
    return [(a, b) for a in range(1, width + 1) for b in range(a + 1, width + 1) if b % a]  # not only stops""",
        """def apart(width):
    stops = [s for s in range(1, width + 1) if width % s == 0]
    return [(a, b) for a in stops for b in stops if a < b and b % a == 0]  # those that nest""",
    ],
    ("03", "segmented_params"): [
        """def segmented_params(c_in, width, segments, k):
    return c_in * width + width * width * k * k  # segments forgotten""",
        """def segmented_params(c_in, width, segments, k):
    return c_in * width + (width // segments) ** 2 * k * k  # one segment""",
        """def segmented_params(c_in, width, segments, k):
    return width * (width // segments) * k * k  # the 1 x 1 forgotten""",
        """def segmented_params(c_in, width, segments, k):
    return c_in * width + width * (c_in // segments) * k * k  # reads what the 1 x 1 reads""",
        """def segmented_params(c_in, width, segments, k):
    return c_in * width + width * segments * k * k""",
        """def segmented_params(c_in, width, segments, k):
    return (c_in * width + width * width * k * k) // segments  # the 1 x 1 cut as well""",
    ],
    ("04", "is_separable"): [
        """def is_separable(kernel):
    return all(int(torch.linalg.matrix_rank(k.flatten(1))) <= 1 for k in kernel)  # per output""",
        """def is_separable(kernel):
    return int(torch.linalg.matrix_rank(kernel[:, 0].flatten(1))) <= 1  # the first channel alone""",
        """def is_separable(kernel):
    return all(int(torch.linalg.matrix_rank(kernel[:, c].flatten(1))) == 1 for c in range(kernel.shape[1]))  # zero?""",
        """def is_separable(kernel):
    return int(torch.linalg.matrix_rank(kernel.flatten(1))) <= 2  # all channels at once""",
    ],
    ("05", "middle"): [
        """def middle(x, pairs):
    y = x
    for depthwise, pointwise in pairs:
        y = F.conv2d(F.conv2d(F.relu(y), pointwise), depthwise, padding=1, groups=x.shape[1])  # mixes first
    return x + y""",
        """def middle(x, pairs):
    y = x
    for depthwise, pointwise in pairs:
        y = F.conv2d(F.relu(F.conv2d(F.relu(y), depthwise, padding=1, groups=x.shape[1])), pointwise)  # between
    return x + y""",
        """def middle(x, pairs):
    for depthwise, pointwise in pairs:
        x = x + F.conv2d(F.conv2d(F.relu(x), depthwise, padding=1, groups=x.shape[1]), pointwise)  # a sum for each
    return x""",
        """def middle(x, pairs):
    y = x.clone()
    for depthwise, pointwise in pairs:
        y = F.conv2d(F.conv2d(F.relu(y), depthwise, padding=1, groups=x.shape[1]), pointwise)
    if pairs:
        x += y  # changes what it was given
    return x""",
        """def middle(x, pairs):
    y = F.relu(x)  # once, not before each
    for depthwise, pointwise in pairs:
        y = F.conv2d(F.conv2d(y, depthwise, padding=1, groups=x.shape[1]), pointwise)
    return x + y""",
        """def middle(x, pairs):
    y = x
    for depthwise, pointwise in pairs:
        y = F.conv2d(F.conv2d(F.relu(y, inplace=True), depthwise, padding=1, groups=x.shape[1]), pointwise)
    return x + y if pairs else x""",
        """def middle(x, pairs):
    y = x
    for depthwise, pointwise in pairs:
        y = F.relu(F.conv2d(F.conv2d(y, depthwise, padding=1, groups=x.shape[1]), pointwise))  # behind, not before
    return x + y if pairs else x""",
        """def middle(x, pairs):
    y = x
    for depthwise, pointwise in pairs:
        y = F.conv2d(F.conv2d(F.relu(y), depthwise, padding=1, groups=x.shape[1]), pointwise)
    return y  # no shortcut""",
        """def middle(x, pairs):
    y = x = F.relu(x)  # the shortcut reads behind the ReLU
    for depthwise, pointwise in pairs:
        y = F.conv2d(F.conv2d(F.relu(y), depthwise, padding=1, groups=x.shape[1]), pointwise)
    return x + y if pairs else x""",
        """def middle(x, pairs):
    y = x
    for depthwise, pointwise in pairs:
        y = F.conv2d(F.conv2d(F.relu(y), depthwise, padding=1, groups=x.shape[1]), pointwise)
    return F.relu(x + y) if pairs else x  # as ResNet does""",
    ],
    ("05", "keep"): [
        """def keep(total, each, count, budget):
    return max(0, count - -(-(total - budget) // each))  # more than there are""",
        """def keep(total, each, count, budget):
    return max(0, (budget - (total - count * each)) // each)  # more than there are""",
        """def keep(total, each, count, budget):
    return max(0, count - max(0, total - budget) // each)  # drops too few""",
        """def keep(total, each, count, budget):
    return max(0, count - round(max(0, total - budget) / each))""",
        """def keep(total, each, count, budget):
    return max(0, count - (max(0, total - budget) // each + 1))  # one too many where it fits""",
        """def keep(total, each, count, budget):
    return min(count, budget // each)  # the rest of the network forgotten""",
        """def keep(total, each, count, budget):
    return count + -(max(0, total - budget) // -each)  # the sign lost on the way""",
        """def keep(total, each, count, budget):
    return count - -(-max(0, total - budget) // each)  # fewer than none""",
    ],
    ("06", "with_holes"): [
        """def with_holes(weights, rate):
    return [number for w in weights for number in (w, *[0] * (rate - 1))]  # holes behind the last weight, too""",
        """def with_holes(weights, rate):
    dense = [0] * ((len(weights) - 1) * (rate + 1) + 1)
    dense[:: rate + 1] = weights  # `rate` holes between two weights: one too many
    return dense""",
        """def with_holes(weights, rate):
    return [w for w in weights for _ in range(rate)][: (len(weights) - 1) * rate + 1]  # repeated""",
        """def with_holes(weights, rate):
    return list(weights) + [0] * ((len(weights) - 1) * (rate - 1))  # all holes at the end""",
        """def with_holes(weights, rate):
    dense = [0] * ((len(weights) - 1) * rate + 1)
    dense[::rate] = reversed(weights)
    return dense""",
    ],
    ("06", "trade"): [
        """def trade(strides, output_stride):
    reached, rate, steps = 1, 1, []
    for stride in strides:
        if stride > 1 and reached == output_stride:
            steps.append((1, rate))
            rate *= 2  # whatever the stride was
        else:
            steps.append((stride, rate))
            reached *= stride
    return steps""",
        """def trade(strides, output_stride):
    reached, rate, steps = 1, 1, []
    for stride in strides:
        if stride > 1 and reached == output_stride:
            rate *= stride  # too early: the row that loses its stride is dilated already
            steps.append((1, rate))
        else:
            steps.append((stride, rate))
            reached *= stride
    return steps""",
        """def trade(strides, output_stride):
    reached, rate, steps = 1, 1, []
    for stride in strides:
        if stride > 1 and reached == output_stride:
            steps.append((1, rate))
            rate += 1  # added
        else:
            steps.append((stride, rate))
            reached *= stride
    return steps""",
        """def trade(strides, output_stride):
    reached, rate, steps = 1, 1, []
    for stride in strides:
        if stride > 1 and reached == output_stride:
            steps.append((1, rate))
            rate *= stride
        else:
            steps.append((stride, 1))  # rows without a stride forget the rate
            reached *= stride
    return steps""",
        """def trade(strides, output_stride):
    reached, rate, steps = 1, 1, []
    for stride in strides:
        if stride > 1 and reached == output_stride:
            steps.append((1, rate))  # and nothing behind it is dilated
        else:
            steps.append((stride, rate))
            reached *= stride
    return steps""",
        """def trade(strides, output_stride):
    reached, rate, steps = 1, 1, []
    for stride in strides:
        if stride > 1 and reached == output_stride:
            steps.append((1, stride))  # the stride itself, however many were lost
        else:
            steps.append((stride, rate))
            reached *= stride
    return steps""",
        """def trade(strides, output_stride):
    return [(stride, 1) if stride <= output_stride else (1, stride) for stride in strides]  # row by row""",
    ],
    ("07", "taps"): [
        """def taps(n, rate):
    return (n + 2 * (n - rate)) ** 2  # fewer than none""",
        """def taps(n, rate):
    return 9 * n * n  # as if none fell off""",
        """def taps(n, rate):
    return n + 2 * max(0, n - rate)  # one axis""",
        """def taps(n, rate):
    return (n + max(0, n - rate)) ** 2  # one side""",
        """def taps(n, rate):
    return (n + 2 * max(0, n - 1)) ** 2  # the rate forgotten""",
        """def taps(n, rate):
    return (3 * max(0, n - rate)) ** 2  # the middle tap falls off as well""",
        """def taps(n, rate):
    return ((n + 2 * max(0, n - rate)) / n) ** 2  # the mean""",
    ],
    ("08", "enlarge"): [
        """def enlarge(values, n):
    step = (n - 1) // (len(values) - 1)
    right = [*values[1:], values[-1]]
    return [values[i // step] + i % step / step * (right[i // step] - values[i // step]) for i in range(n)]  # floats""",
        """def enlarge(values, n):
    step = (n - 1) // (len(values) - 1)
    return [values[i // step] for i in range(n)]  # nothing in between""",
        """def enlarge(values, n):
    step = (n - 1) // (len(values) - 1)
    return [values[(i + step // 2) // step] for i in range(n)]  # the nearest""",
        """def enlarge(values, n):
    step = (n - 1) // (len(values) - 1)
    right = [*values[1:], values[-1]]
    return [values[i // step] + i % step * (right[i // step] - values[i // step]) // step for i in range(n)]  # rounded""",
        """def enlarge(values, n):
    step = Fraction(n, len(values))  # corners are not on corners
    right = [*values[1:], values[-1]]
    return [values[int(i / step)] + i / step % 1 * (right[int(i / step)] - values[int(i / step)]) for i in range(n)]""",
        """def enlarge(values, n):
    step = (n - 1) // (len(values) - 1)
    right = [*values[1:], values[-1]]
    return [right[i // step] + Fraction(i % step, step) * (values[i // step] - right[i // step]) for i in range(n)]""",
        """def enlarge(values, n):
    return [values[0] + Fraction(i, n - 1) * (values[-1] - values[0]) for i in range(n)]  # from first to last""",
    ],
    ("09", "work"): [
        """def work(scales, flip):
    return Fraction((2 if flip else 1) * len(scales))  # as if every look were the same size""",
        """def work(scales, flip):
    return (2 if flip else 1) * sum(Fraction(s) ** 2 for s in scales)  # 512 s, not 512 s + 1""",
        """def work(scales, flip):
    return Fraction(sum(int(512 * s + 1) ** 2 for s in scales) + (513**2 if flip else 0), 513**2)  # one mirror""",
        """def work(scales, flip):
    return Fraction((2 if flip else 1) * sum(int(512 * s + 1) for s in scales), 513)  # sides, not areas""",
    ],
    ("10", "side"): [
        """def side(macs_at_513, printed):
    return 16 * (int(33 * (printed / macs_at_513) ** 0.5) - 1) + 1  # rounded down, not the nearest""",
        """def side(macs_at_513, printed):
    return 16 * max(k for k in range(16, 65) if macs_at_513 * (k + 1) ** 2 <= printed * 33**2) + 1  # the last below""",
        """def side(macs_at_513, printed):
    return 16 * min(range(1, 100), key=lambda k: abs(macs_at_513 * (k + 1) ** 2 / 33**2 - printed)) + 1  # beyond 1025""",
        """def side(macs_at_513, printed):
    return 16 * min(range(16, 65), key=lambda k: abs(macs_at_513 * (k + 1) / 33 - printed)) + 1  # a line for a square""",
        """def side(macs_at_513, printed):
    return 16 * min(range(16, 65), key=lambda k: abs(macs_at_513 * (k + 1) ** 2 / 33**2 - printed))  # 16 k""",
        """def side(macs_at_513, printed):
    return 1 + min(range(16, 65), key=lambda k: abs(macs_at_513 * (k + 1) ** 2 / 33**2 - printed))  # the map's side""",
        """def side(macs_at_513, printed):
    return 16 * min(range(16, 64), key=lambda k: abs(macs_at_513 * (k + 1) ** 2 / 33**2 - printed)) + 1  # not the last""",
        """def side(macs_at_513, printed):
    return round(513 * (printed / macs_at_513) ** 0.5)  # any size, and pixels for places""",
        """def side(macs_at_513, printed):
    return 16 * min(range(16, 65), key=lambda k: macs_at_513 * (k + 1) ** 2 / 33**2 - printed) + 1""",
        """def side(macs_at_513, printed):
    return next((16 * k + 1 for k in range(16, 65) if macs_at_513 * (k + 1) ** 2 >= printed * 33**2), 1025)  # above""",
    ],
    ("11", "width"): [
        """def width(m, n):
    return 2 * m  # the weights are read for nothing""",
        """def width(m, n):
    return 2 * m * n * n // (n * n - m) if m < n * n else None  # rounded down""",
        """def width(m, n):
    return 2 * m * n * n // (n * n - m) + 1 if m < n * n else None  # one too many where nothing is left over""",
        """def width(m, n):
    return -(-2 * m * n * n // (n * n - m)) if m != n * n else None  # beyond n * n as well""",
        """def width(m, n):
    return -(-m * n * n // (n * n - m)) if m < n * n else None  # the map is written, too""",
    ],
    ("11", "worth_it"): [
        """def worth_it(points):
    kept = []
    for cost, gain in sorted(points):  # of equal costs the worse first
        if not kept or gain > kept[-1][1]:
            kept.append((cost, gain))
    return kept""",
        """def worth_it(points):
    others = {p: [q for q in points if q != p] for p in points}
    return [p for p in points if not any(q[0] <= p[0] and q[1] >= p[1] for q in others[p])]  # as they came""",
        """def worth_it(points):
    return [p for p in sorted(points) if not any(q[0] < p[0] and q[1] > p[1] for q in points)]  # equals beat nobody""",
        """def worth_it(points):
    kept = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or gain >= kept[-1][1]:  # keeps what costs more and gains the same
            kept.append((cost, gain))
    return kept""",
        """def worth_it(points):
    walk = sorted(points)
    return walk[:1] + [b for a, b in zip(walk, walk[1:]) if b[1] > a[1]]  # better than its neighbor""",
        """def worth_it(points):
    return sorted(points)  # all of them""",
        """def worth_it(points):
    return [max(points, key=lambda point: point[1] / point[0])]  # the best bargain""",
        """def worth_it(points):
    return [p for p in sorted(points) if not any(q[0] <= p[0] and q[1] >= p[1] for q in points)]  # each beats itself""",
    ],
    ("12", "scored"): [
        """def scored(matrix):
    columns = list(zip(*matrix))
    unions = [sum(row) + sum(column) for row, column in zip(matrix, columns)]  # the intersection twice
    return [Fraction(matrix[k][k], union) if union else None for k, union in enumerate(unions)]""",
        """def scored(matrix):
    return [Fraction(row[k], sum(row)) if sum(row) else None for k, row in enumerate(matrix)]  # of what is there: recall""",
        """def scored(matrix):
    columns = [sum(column) for column in zip(*matrix)]
    return [Fraction(matrix[k][k], drawn) if drawn else None for k, drawn in enumerate(columns)]  # of what is drawn""",
        """def scored(matrix):
    columns = list(zip(*matrix))
    unions = [sum(row) + sum(column) - row[k] for k, (row, column) in enumerate(zip(matrix, columns))]
    return [Fraction(matrix[k][k], union) if union else 0 for k, union in enumerate(unions)]  # absent is no zero""",
        """def scored(matrix):
    columns = list(zip(*matrix))
    unions = [sum(row) + sum(column) - row[k] for k, (row, column) in enumerate(zip(matrix, columns))]
    return [Fraction(matrix[k][k], union) if matrix[k][k] else None for k, union in enumerate(unions)]  # nothing right""",
        """def scored(matrix):
    total = sum(map(sum, matrix))
    return [Fraction(row[k], total) for k, row in enumerate(matrix)]  # of all pixels""",
        """def scored(matrix):
    columns = list(zip(*matrix))
    unions = [sum(row) + sum(column) - row[k] for k, (row, column) in enumerate(zip(matrix, columns))]
    return [round(matrix[k][k] / union, 2) if union else None for k, union in enumerate(unions)]  # rounded""",
    ],
    ("12", "band"): [
        """def band(labels, r):
    n, m = len(labels), len(labels[0])
    near = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    def other(i, j):
        places = [(i + k * a, j + k * b) for a, b in near for k in range(1, r + 1)]
        return any(labels[a][b] != labels[i][j] for a, b in places if 0 <= a < n and 0 <= b < m)
    return [[other(i, j) for j in range(m)] for i in range(n)]  # not diagonally""",
        """def band(labels, r):
    def other(i, j):
        rows = labels[i - r:i + r + 1]  # at the top -1 is the last row
        return any(label != labels[i][j] for row in rows for label in row[j - r:j + r + 1])
    return [[other(i, j) for j in range(len(labels[0]))] for i in range(len(labels))]""",
        """def band(labels, r):
    def other(i, j):
        rows = labels[max(0, i - r):i + r]
        return any(label != labels[i][j] for row in rows for label in row[max(0, j - r):j + r])
    return [[other(i, j) for j in range(len(labels[0]))] for i in range(len(labels))]  # the far sides left out""",
        """def band(labels, r):
    def other(i, j):
        rows = labels[max(0, i - r):i + r + 1]
        return any(label for row in rows for label in row[max(0, j - r):j + r + 1])
    return [[other(i, j) for j in range(len(labels[0]))] for i in range(len(labels))]  # anything but class 0""",
        """def band(labels, r):
    def other(i, j):
        rows = labels[max(0, i - 1):i + 2]
        return any(label != labels[i][j] for row in rows for label in row[max(0, j - 1):j + 2])
    return [[other(i, j) for j in range(len(labels[0]))] for i in range(len(labels))]  # whatever r is""",
        """def band(labels, r):
    def other(i, j):
        rows = labels[max(0, i - r):i + r + 1]
        return labels[i][j] == 0 and any(label for row in rows for label in row[max(0, j - r):j + r + 1])
    return [[other(i, j) for j in range(len(labels[0]))] for i in range(len(labels))]  # on one side only""",
    ],
    ("13", "one_kernel"): [
        """def one_kernel(kernels):
    smallest = min(kernel.shape[-1] for kernel in kernels)
    skipped = [(kernel.shape[-1] - smallest) // 2 for kernel in kernels]
    return torch.cat([k[..., n:n + smallest, n:n + smallest] for k, n in zip(kernels, skipped)], dim=1)  # cut down""",
        """def one_kernel(kernels):
    largest = max(kernel.shape[-1] for kernel in kernels)
    frames = [largest - kernel.shape[-1] for kernel in kernels]
    return torch.cat([F.pad(kernel, (frame, 0) * 2) for kernel, frame in zip(kernels, frames)], dim=1)  # in a corner""",
        """def one_kernel(kernels):
    largest = max(kernel.shape[-1] for kernel in kernels)
    wide = [kernel.expand(*kernel.shape[:2], largest, largest) for kernel in kernels]
    return torch.cat(wide, dim=1)  # repeated, not framed""",
        """def one_kernel(kernels):
    largest = max(kernel.shape[-1] for kernel in kernels)
    frames = [(largest - kernel.shape[-1]) // 2 for kernel in kernels]
    return torch.cat([F.pad(kernel, (frame,) * 4) for kernel, frame in zip(kernels, frames)][::-1], dim=1)  # from the end""",
        """def one_kernel(kernels):
    largest = max(kernel.shape[-1] for kernel in kernels)
    frames = [(largest - kernel.shape[-1]) // 2 for kernel in kernels]
    return sum(F.pad(kernel, (frame,) * 4) for kernel, frame in zip(kernels, frames))  # one map's channels""",
        """def one_kernel(kernels):
    padded = [F.pad(kernel, ((3 - kernel.shape[-1]) // 2,) * 4) for kernel in kernels]
    return torch.cat(padded, dim=1)  # always 3 x 3""",
    ],
}


def tagged(tag: str) -> list[tuple[Path, int]]:
    """Every cell with this tag: its notebook and its number."""
    read = [(path, nbformat.read(path, as_version=4)) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    return [(path, i) for path, nb in read for i, cell in enumerate(nb.cells) if tag in cell.metadata.get("tags", [])]


def stub(path: Path, index: int) -> str:
    return nbformat.read(path, as_version=4).cells[index].source


def solution(path: Path, index: int) -> str:
    """The reference definition, from the folded block after the stub."""
    folded = nbformat.read(path, as_version=4).cells[index + 1].source
    return re.search(r"<summary>Solution</summary>\s*```python\n(.*?)```", folded, re.DOTALL)[1]


def with_definition(cell: str, definition: str) -> str:
    """The cell with its stub replaced by another definition of the same function."""
    function = next(node for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef))
    lines = cell.splitlines()
    return "\n".join([*lines[: function.lineno - 1], definition, *lines[function.end_lineno :]])


class Run(NamedTuple):
    """A notebook, run once: the names there are before each card, and which cell compares a guess with what."""

    names: dict[int, dict[str, object]]
    truths: list[tuple[int, float]]


def for_a_step(net, data, **settings):
    """Training that nobody waits for: what is asked here depends on no trained network."""
    return train(net, data, **settings | {"steps": 1})


@cache
def run(path: Path) -> Run:
    """All code cells in order. What is not compared, such as times, is not run, and training ends after a step."""
    names: dict[str, object] = {"__name__": "__main__"}
    found = Run({}, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minideeplab.learn.train, "train", for_a_step)
        for index, cell in enumerate(nbformat.read(path, as_version=4).cells):
            tags = cell.metadata.get("tags", [])
            patch.setattr(minideeplab.course, "compare_guess", lambda guess, truth, at=index: found.truths.append((at, truth)))
            if "compare_guess" in names:  # imported by an earlier cell, whose number it would write down
                names["compare_guess"] = minideeplab.course.compare_guess
            if "exercise" in tags:
                found.names[index] = dict(names)
            if cell.cell_type == "code" and "nbval-ignore-output" not in tags:
                expected = (Exception,) if "raises-exception" in tags else ()
                with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(*expected):
                    exec(compile(cell.source, path.name, "exec"), names)
    return found


def output(path: Path, index: int, source: str) -> str:
    """What the card prints, with `source` as its cell. Tensors are copied: a wrong answer may change them."""
    names = {name: x.clone() if isinstance(x, torch.Tensor) else x for name, x in run(path).names[index].items()}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, path.name, "exec"), names)
    return printed.getvalue()


@pytest.fixture(autouse=True)
def as_in_jupyter(monkeypatch):
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setenv("MPLBACKEND", "Agg")


every_card = pytest.mark.parametrize(
    ("path", "index"), [pytest.param(path, i, id=f"{path.stem}-{i}") for path, i in tagged("exercise")]
)


@every_card
def test_the_folded_solution_passes_its_own_check(path, index):
    assert output(path, index, with_definition(stub(path, index), solution(path, index))).startswith("all ")


@every_card
def test_an_untouched_stub_is_not_marked_wrong(path, index):
    assert "returns nothing yet" in output(path, index, stub(path, index))


@every_card
def test_a_wrong_answer_does_not_pass(path, index):
    wrong = re.sub(r"return None\b.*", "return -12345", stub(path, index))
    assert wrong != stub(path, index)
    assert not output(path, index, wrong).startswith("all ")


# ---- wrong answers that a student might give


def name_of(path: Path, index: int) -> tuple[str, str]:
    """The card's key in the table: the beginning of its notebook's name, and the function that is asked for."""
    return path.stem[:2], next(node.name for node in ast.parse(stub(path, index)).body if isinstance(node, ast.FunctionDef))


def gaps(asked: Sequence[tuple[str, str]], table: dict[tuple[str, str], list[str]]) -> list[str]:
    """Complaints of the table: a card with fewer than two different wrong answers, or wrong answers to no card."""
    counts = {key: len(set(table.get(key, []))) for key in asked}
    few = [f"{key} has {count} wrong answers in WRONG: write at least two" for key, count in counts.items() if count < 2]
    lost = [f"{key} stands in WRONG, and no notebook asks for it" for key in table if key not in asked]
    pairs = [(key, answer) for key, answers in table.items() for answer in answers]
    other = [key for key, answer in pairs if not answer.startswith(f"def {key[1]}(")]
    return few + lost + [f"a wrong answer to {key} defines another function" for key in other]


def test_every_card_has_two_wrong_answers():
    if complaints := gaps([name_of(path, i) for path, i in tagged("exercise")], WRONG):
        pytest.fail("\n".join(complaints), pytrace=False)


@pytest.mark.parametrize(
    ("asked", "table", "says"),
    [
        ([("01", "f")], {}, "('01', 'f') has 0 wrong answers"),
        ([("01", "f")], {("01", "f"): ["def f(x): 1"] * 2}, "('01', 'f') has 1 wrong answers"),
        ([], {("01", "f"): ["def f(x): 1", "def f(x): 2"]}, "('01', 'f') stands in WRONG"),
        ([("01", "f")], {("01", "f"): ["def f(x): 1", "def g(x): 2"]}, "a wrong answer to ('01', 'f') defines another"),
    ],
)
def test_a_gap_in_the_table_is_noticed(asked, table, says):
    (complaint,) = gaps(asked, table)
    assert complaint.startswith(says)


@pytest.mark.parametrize(
    ("path", "index", "wrong"),
    [
        pytest.param(path, i, wrong, id=f"{'-'.join(name_of(path, i))}-{k}")
        for path, i in tagged("exercise")
        for k, wrong in enumerate(WRONG.get(name_of(path, i), []))
    ],
)
def test_a_plausible_wrong_answer_is_refused(path, index, wrong):
    printed = output(path, index, with_definition(stub(path, index), wrong))
    assert not printed.startswith("all ")
    assert re.search(r"^\d+ of \d+ right$", printed, re.MULTILINE)


# ---- guesses

LARGE = 10  # a smaller number stands in most outputs by chance
WORDS = ["", "", "two", "three", "four", "five", "six", "seven", "eight", "nine"]  # "one" is too many other things
PLACES = r"\b(?:figures?|figs?|sections?|tables?|notebooks?)\b\.? [\d.]+(?:(?:, | and | to )[\d.]+)*"


def shown(cell: NotebookNode) -> str:
    """Everything that a code cell printed, a figure's words and a table's text included."""
    outputs = cell.get("outputs", [])
    return "\n".join(o.text if o.output_type == "stream" else o.get("data", {}).get("text/plain", "") for o in outputs)


def tells(text: str, answer: float) -> str:
    """Where a text has this number, as a word of its own; empty if nowhere. Places of a paper are no numbers."""
    plain = int(answer) if answer == int(answer) else answer
    ending = r"(?:\.0+)?" if isinstance(plain, int) else "0*"
    forms = [re.escape(f"{plain}") + ending, re.escape(f"{plain:,}") + ending]
    text = re.sub(PLACES, " ", text, flags=re.IGNORECASE)
    if abs(plain) < LARGE:
        text = re.sub(r"\d+ x \d+", " ", text)  # 3 x 3 does not say three
        forms += [WORDS[plain]] if isinstance(plain, int) and plain > 1 else []
    found = re.search(rf"(?<!\w)(?<!\d[.,])(?:{'|'.join(forms)})(?!\w)(?![.,]\d)", text, re.IGNORECASE)
    return text[max(found.start() - 30, 0) : found.end() + 10] if found else ""


def told(cells: Sequence[NotebookNode], guess: int, answer: float) -> Iterator[str]:
    """A complaint for each cell before the guess with its answer: large numbers anywhere, small ones in the section's text."""
    heads = [i for i, c in enumerate(cells[:guess]) if c.cell_type == "markdown" and re.search(r"^## ", c.source, re.MULTILINE)]
    first = 0 if abs(answer) >= LARGE else max(heads, default=0)
    for i, cell in enumerate(cells[first:guess], first):
        text = cell.source if cell.cell_type == "markdown" else shown(cell) if abs(answer) >= LARGE else ""
        if place := tells(text, answer):
            yield f"cell {guess} asks for {answer}, and cell {i} has told: ...{place}..."


def truths(guesses: Sequence[int], compared: Sequence[tuple[int, float]]) -> dict[int, list[float]]:
    """What each guess is compared with, by the number of its cell: all comparisons behind it and before the next guess."""
    ends = [*guesses[1:], float("inf")]
    return {g: [truth for at, truth in compared if g < at < end] for g, end in zip(guesses, ends, strict=True)}


every_guess = pytest.mark.parametrize(
    ("path", "index"), [pytest.param(path, i, id=f"{path.stem}-{i}") for path, i in tagged("guess")]
)


@every_guess
def test_a_guess_is_compared_with_one_answer_that_has_not_been_told_before(path, index):
    guesses = [i for other, i in tagged("guess") if other == path]
    answers = truths(guesses, run(path).truths)[index]
    assert len(answers) == 1
    if complaints := list(told(nbformat.read(path, as_version=4).cells, index, answers[0])):
        pytest.fail("\n".join(complaints), pytrace=False)


def test_a_comparison_belongs_to_the_guess_before_it():
    assert truths([2, 6], [(3, 9), (7, 4), (8, 5)]) == {2: [9], 6: [4, 5]}
    assert truths([2], []) == {2: []}


def asked(text: str, output: str, question: str) -> list[NotebookNode]:
    """A notebook's beginning: a section with text and an output, a section with the question, and the guess."""
    first = new_markdown_cell(f"# Title\n\n## A\n\n{text}")
    printing = new_code_cell("print(...)", outputs=[new_output("stream", text=output)])
    return [first, printing, new_markdown_cell(f"## B\n\n{question}"), new_code_cell("guess = None    # a number")]


@pytest.mark.parametrize(
    ("text", "output", "question", "answer"),
    [
        ("It has 1,152 weights.", "", "", 1152),
        ("It has 1152.", "", "", 1152),
        ("", "weights 1152 in all", "", 1152),
        ("", "{'a': 1152}", "", 1152),
        ("", "1,152.00", "", 1152),
        ("In all 37.5 percent.", "", "", 37.5),
        ("", "37.50 %", "", 37.5),
        ("", "", "Is it 63 percent?", 63),
        ("", "", "Is it 3 or more?", 3),
        ("", "", "Three of them?", 3),
        ("", "", "It is 3.6.", 3.6),
    ],
)
def test_an_answer_told_before_is_noticed(text, output, question, answer):
    cells = asked(text, output, question)
    assert len(list(told(cells, len(cells) - 1, answer))) == 1


@pytest.mark.parametrize(
    ("text", "output", "question", "answer"),
    [
        ("11,520 and 1,152,000 and 11152 and 1152.5", "21152 1152x [0.1152]", "conv1152", 1152),
        ("It is 3.", "3", "", 3),  # small, and in another section or in an output
        ("", "", "A 3 x 3 of section 3.3, table 3 and fig. 3", 3),
        ("Section 12 and figures 9 and 12.", "", "", 12),
        ("", "", "one of them", 1),
    ],
)
def test_another_number_is_not_taken_for_the_answer(text, output, question, answer):
    cells = asked(text, output, question)
    assert list(told(cells, len(cells) - 1, answer)) == []


def test_what_comes_after_a_guess_is_not_held_against_it():
    cells = [*asked("", "", ""), new_markdown_cell("It is 1,152.")]
    assert list(told(cells, len(cells) - 2, 1152)) == []
