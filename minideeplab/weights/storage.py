"""State dicts: compared with a network before they are loaded, and kept as safetensors, whole or not at all."""

import json
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from minideeplab.weights.file_limits import LARGEST_NETWORK, LARGEST_TEXT, MOST_ARRAYS, check_bytes, plain, reading
from minideeplab.weights.replacement import replace_whole

SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}


class State(dict[str, Tensor]):
    """A state dict that says what it is: `ignored` lists arrays of the source that no network needs, `about` describes it."""

    def __init__(
        self, arrays: Mapping[str, Tensor], *, ignored: Iterable[str] = (), about: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(arrays)
        self.ignored, self.about = sorted(ignored), dict(about or {})


def wrong_numbers(name: str, values: Tensor, dtype: torch.dtype) -> str:
    """What is wrong with the numbers of an array once they are of type `dtype`; empty if nothing is, or if it has none (meta).

    A running variance of zero is in order: batch norm adds its epsilon. A negative one is no variance.
    """
    if values.is_meta or not dtype.is_floating_point:
        return ""
    if not values.to(dtype).isfinite().all():
        finite = values.to(torch.float64).isfinite().all()
        return f"holds numbers beyond {dtype}" if finite else "holds NaN or infinity"
    if name.endswith("running_var") and bool((values.to(dtype) < 0).any()):
        return "holds negative variances"
    return ""


def misfits(net: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """One line for every array of `state` that does not fit `net`, and for every one it lacks; empty if all is well.

    Both may be on the meta device (`describe`): then names, shapes and kinds are compared, and numbers are not.
    Batch norm's `num_batches_tracked`, which only training without momentum reads and other frameworks do not know, may
    be missing.
    """
    own, kind, wrong = net.state_dict(), type(net).__name__, []
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    wrong += [f"missing  {name} {tuple(own[name].shape)}" for name in missing]
    wrong += [f"extra    {plain(name)} {tuple(value.shape)}" for name, value in state.items() if name not in own]
    for name in own.keys() & state.keys():
        ours, theirs = own[name], state[name]
        if ours.shape != theirs.shape:
            wrong.append(f"shape    {name} is {tuple(theirs.shape)}, {kind} needs {tuple(ours.shape)}")
        elif theirs.is_complex() or ours.is_floating_point() != theirs.is_floating_point():
            wrong.append(f"kind     {name} is {theirs.dtype}, {kind} needs {ours.dtype}")
        elif problem := wrong_numbers(name, theirs, ours.dtype):
            wrong.append(f"numbers  {name} {problem}")
    return sorted(wrong)


def load(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Compare every name, shape and number first; then load, or raise one ValueError that lists all that is wrong.

    A failed load leaves `net` untouched (`load_state_dict` alone does not).
    """
    own = net.state_dict()
    if any(value.is_meta for value in [*own.values(), *state.values()]):
        raise ValueError(f"nothing was loaded: the meta device has no numbers, build {type(net).__name__} on another, `read`")
    if wrong := misfits(net, state):
        raise ValueError("\n  ".join([f"{len(wrong)} arrays do not fit {type(net).__name__}, nothing was loaded:", *wrong]))
    net.load_state_dict(own | dict(state))


def save(
    state: Mapping[str, Tensor], path: str | Path, *, about: Mapping[str, str] | None = None, overwrite: bool = False,
) -> None:
    """Write a safetensors file, whole or not at all; `about` is its header. An existing file stays, unless `overwrite`.

    ValueError for what `read` would refuse, and where no file can be written; OSError if the disk is full.
    """
    arrays = {name: value.contiguous() for name, value in state.items()}
    check_bytes(sum(value.nbytes for value in arrays.values()), str(path))
    if meta := [name for name, value in arrays.items() if value.is_meta]:
        raise ValueError(f"{path}: {meta[0]} is on the meta device and has no numbers")
    with replace_whole(path, overwrite=overwrite) as whole:
        try:
            # not `save_file`: it writes a temporary file of its own beside ours, and killed it leaves it there for good
            whole.write_bytes(safetensors.torch.save(arrays, dict(about or {})))
        except (safetensors.SafetensorError, OSError) as error:  # they do not say which file
            raise OSError(f"{path} could not be written: {error}") from error
        try:
            describe(whole)
        except ValueError as error:
            raise ValueError(f"{path} is not written, since it could not be read: {error.__cause__ or error}") from error


def read(path: str | Path) -> State:
    """A state dict from a safetensors file, ours or anyone's; `.about` is its header."""
    about = describe(path).about
    with reading(Path(path), "safetensors file"), safetensors.safe_open(path, framework="pt") as file:
        return State({name: file.get_tensor(name) for name in file.keys()}, about=about)


def describe(path: str | Path) -> State:
    """What a safetensors file says it holds: names, shapes and types as tensors on the meta device, and `.about`.

    Only the header is read. So a network can be built on the meta device and compared (`misfits`) before anything large is
    allocated; a translation (`from_timm`) takes it too. ValueError unless the header describes every byte of the file once.
    """
    with reading(Path(path), "safetensors file"), open(path, "rb") as file:
        length = file.seek(0, 2)
        file.seek(0)
        header_length = int.from_bytes(file.read(8), "little")
        if length < 8 or header_length > min(length - 8, LARGEST_TEXT):
            raise ValueError(f"its header claims {header_length:,} bytes, the file has {length:,}")
        header = json.loads(file.read(header_length), object_pairs_hook=without_repetition)
        about = header.pop("__metadata__", {})
        if not all(isinstance(text, str) for text in about.values()) or len(header) > MOST_ARRAYS:
            raise ValueError(f"its header has other than texts, or describes more than {MOST_ARRAYS:,} arrays")
        check_bytes(length, "it")
        arrays = {name: described(name, **entry) for name, entry in header.items()}
        position = 8 + header_length
        for begin, end in sorted(entry["data_offsets"] for entry in header.values()):
            if begin + 8 + header_length != position or end < begin:
                raise ValueError(f"an array begins at byte {begin}, where another ends at {position - 8 - header_length}")
            position = end + 8 + header_length
        if position != length:
            raise ValueError(f"its arrays end at byte {position:,}, the file has {length:,}")
    return State(arrays, about=about)


def described(name: str, *, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
    """One entry of the header, checked: a shape that a network can have, and as many bytes as its numbers need."""
    if not all(type(size) is int and 0 <= size <= LARGEST_NETWORK for size in [*shape, *data_offsets]) or len(shape) > 8:
        raise ValueError(f"{plain(name)} claims the shape {plain(shape)} at {plain(data_offsets)}")
    if dtype not in SAFETENSORS_DTYPES:
        raise ValueError(f"{plain(name)} is of type {plain(dtype)}, expected one of {', '.join(SAFETENSORS_DTYPES)}")
    begin, end = data_offsets
    claimed = prod(shape) * SAFETENSORS_DTYPES[dtype].itemsize
    if claimed != end - begin:
        raise ValueError(f"{plain(name)} claims the shape {plain(shape)}, {claimed:,} bytes, and has {end - begin:,}")
    return torch.empty(shape, dtype=SAFETENSORS_DTYPES[dtype], device="meta")


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object none of whose names comes twice: readers differ in which of the two they would take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice in its header")
    return found
