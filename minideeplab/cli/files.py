"""The command `convert`: anybody's file of weights -> ours, compared with the network that it holds."""

import argparse
from collections import Counter
from pathlib import Path

from minideeplab import weights
from minideeplab.cli.arguments import Commands, add_command, check_output, note
from minideeplab.learn.network_file import label_names, network_of
from minideeplab.weights.file_limits import plain, reading

LARGEST_LABELS = 2**20  # bytes


def translate(source: Path) -> weights.State:
    """Anybody's file -> our state dict, by its ending."""
    if source.suffix == ".npz" or source.suffix == ".index" or source.with_name(source.name + ".index").exists():
        return weights.from_tensorflow(weights.read_tensorflow(source))
    if source.suffix == ".tflite":
        return weights.from_tflite(source)
    if source.suffix in (".h5", ".hdf5", ".keras"):
        return weights.from_keras(source)
    if source.suffix == ".safetensors":
        return weights.from_timm(weights.read(source))
    if source.suffix in (".pt", ".pth", ".bin", ".pkl"):
        raise ValueError(
            f"{source} is a pickle, which may run code when read: where you trust it, write its state dict as safetensors "
            "(safetensors.torch.save_file(state_dict, 'name.safetensors')) and convert that"
        )
    kinds = "a TensorFlow checkpoint's prefix or .npz, .tflite, Keras's .h5 or .keras, or .safetensors of timm or torchvision"
    raise ValueError(f"{source}: expected {kinds}")


def read_labels(path: Path | None) -> str:
    """The names of the classes, one a line; nothing without a file."""
    if path is None:
        return ""
    with reading(path, "list of names"), path.open("rb") as file:
        text = file.read(LARGEST_LABELS + 1)
        if len(text) > LARGEST_LABELS:
            raise ValueError(f"it has more than {LARGEST_LABELS:,} bytes")
        return text.decode().strip()


def run_convert(arguments: argparse.Namespace) -> int:
    """`convert SOURCE -o FILE`: what it is on stdout, what was left out on stderr."""
    source, target = arguments.source, arguments.output
    check_output(target, arguments.force, source, Path(f"{source}.index"), *filter(None, [arguments.labels]))
    labels = read_labels(arguments.labels)
    try:
        state = translate(source)
    except ValueError as error:  # arrays do not know their file
        raise error if source.name in str(error) else ValueError(f"{source}: {error}") from error
    net, network = network_of(state, {}, source)
    description = f"{type(net).__name__} without classes"
    if "classify.weight" in state:
        classes = len(label_names(net, len(state["classify.weight"]), labels))
        params = sum(value.numel() for value in net.parameters())
        description = f"{type(net).__name__}, {classes} classes, {params:,} parameters"
    about = {"minideeplab": description, "source": source.name, "labels": labels, "network": network}
    weights.save(state, target, about=about, overwrite=arguments.force)
    if state.ignored:
        kinds = Counter(name.rpartition("/")[2] for name in state.ignored)
        note(f"left out: {', '.join(f'{kind} ({times})' for kind, times in kinds.items())}")
    print(plain(f"{target}: {description}", 600))
    return 0


def add_commands(commands: Commands) -> None:
    """`convert`."""
    convert = add_command(
        commands, run_convert, "Bring other people's weights under this library's names, as safetensors",
        "model.ckpt-30000 -o deeplab.safetensors\n"
        "deeplabv3_mnv2_pascal_quant.tflite -o phone.safetensors\n"
        "xception.keras -o xception.safetensors --labels imagenet_classes.txt\n"
        "timm_xception65.safetensors -o xception65.safetensors --force",
    )
    kinds = "TensorFlow checkpoint prefix or .npz; .tflite; Keras .h5 or .keras; .safetensors of timm or torchvision"
    convert.add_argument("source", type=Path, metavar="SOURCE", help=kinds)
    convert.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the safetensors file to write")
    convert.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one a line, kept with the weights")
    convert.add_argument("--force", action="store_true", help="overwrite FILE if it exists")
