"""What other people call our layers: tables of (their pattern, our name), one for each source.

Where a network counts from one, or numbers straight through what stands here in flows, the rule does the arithmetic.
`weights` applies the tables; nothing here touches an array.
"""

import re
from collections.abc import Callable, Mapping

Rules = Mapping[str, Callable[..., str]]
LONGEST_NUMBER = 3  # digits: no network has a thousand blocks


def rename(layer: str, rules: Rules) -> str | None:
    """Our name of their layer: the first pattern that matches all of it makes the name from what it captured.

    >>> rename("entry_flow/conv1_2", {r"entry_flow/conv1_(\\d)": lambda i: f"root.{i - 1}"})
    'root.1'
    """
    for pattern, ours in rules.items():
        if match := re.fullmatch(pattern, layer):
            if any(part and part.isdigit() and len(part) > LONGEST_NUMBER for part in match.groups()):
                return None
            try:
                return ours(*(int(part) if part and part.isdigit() else part for part in match.groups()))
            except LookupError:  # a number beyond the last layer
                return None
    return None


BOTTLENECK = {"shortcut": "shortcut", "conv1": "reduce", "conv2": "look", "conv3": "expand"}
HALF = {"conv1": "depthwise", "pointwise": "pointwise", "dw": "depthwise", "pw": "pointwise"}
CONV_BN = ("conv", "bn")

# The authors' checkpoints: the layer is what precedes /weights, /depthwise_weights, /biases or /BatchNorm/gamma, ...
BLOCKS = [(row, i) for row, n in enumerate((1, 2, 3, 4, 3, 3, 1)) for i in range(n)]  # n of Sandler 2018, table 2
MODULE = r"unit_1/xception_module"
RESNET = r"resnet_v1_\d+(?:_beta)?"
HALVES = r"separable_conv(\d)_(depthwise|pointwise)"
TENSORFLOW: Rules = {
    r"xception_\d\d/entry_flow/conv1_(\d)":
        lambda i: f"backbone.root.{i - 1}",
    rf"xception_\d\d/entry_flow/block(\d)/{MODULE}/{HALVES}":
        lambda block, i, half: f"backbone.entry_flow.{block - 1}.separable_{i}.{half}",
    rf"xception_\d\d/entry_flow/block(\d)/{MODULE}/shortcut":
        lambda block: f"backbone.entry_flow.{block - 1}.shortcut",
    rf"xception_\d\d/middle_flow/block1/unit_(\d+)/xception_module/{HALVES}":
        lambda unit, i, half: f"backbone.middle_flow.{unit - 1}.separable_{i}.{half}",
    rf"xception_\d\d/exit_flow/block1/{MODULE}/{HALVES}":
        lambda i, half: f"backbone.exit_flow.0.separable_{i}.{half}",
    rf"xception_\d\d/exit_flow/block1/{MODULE}/shortcut":
        lambda: "backbone.exit_flow.0.shortcut",
    rf"xception_\d\d/exit_flow/block2/{MODULE}/{HALVES}":
        lambda i, half: f"backbone.exit_flow.{i}.{half}",
    rf"{RESNET}/conv1_(\d)":
        lambda i: f"backbone.root.{i - 1}",
    rf"{RESNET}/block(\d)/unit_(\d+)/bottleneck_v1/(shortcut|conv\d)":
        lambda block, unit, conv: f"backbone.stages.{block - 1}.{unit - 1}.{BOTTLENECK[conv]}",
    r"MobilenetV2/Conv":                    lambda: "backbone.root",
    r"MobilenetV2/expanded_conv(?:_(\d+))?/(expand|depthwise|project)":
        lambda number, part: "backbone.rows.{}.{}.{}".format(*BLOCKS[number or 0], part),
    rf"(?:xception_\d\d|{RESNET})/logits|logits/semantic":
        lambda: "classify",
    r"image_pooling":                       lambda: "aspp.branches.0.project",
    r"aspp(\d)":                            lambda i: f"aspp.branches.{i + 1}",
    r"aspp(\d)_(depthwise|pointwise)":      lambda i, half: f"aspp.branches.{i + 1}.{half}",
    r"concat_projection":                   lambda: "aspp.project",
    r"decoder/feature_projection0":         lambda: "decoder.reduce",
    r"decoder/decoder_conv([01])_(depthwise|pointwise)":
        lambda i, half: f"decoder.refine.{i}.{half}",
    r"decoder/decoder_conv0/decoder_conv0_([12])":
        lambda i: f"decoder.refine.{i - 1}",
}


def chollet_block(number: int) -> str:
    """Where block 2, ..., 13 of Keras's Xception stands in fig. 5."""
    return f"entry_flow.{number}" if number <= 4 else f"middle_flow.{number - 5}" if number <= 12 else "exit_flow.0"


def chollet_row(number: int, i: int, offset: int) -> str:
    """The i-th separable convolution (offset 0) of a Keras block, or its batch norm (1): rows of three, ReLU first."""
    row = 3 * i - 2 + offset
    return f"exit_flow.{row}" if number == 14 else f"{chollet_block(number)}.residual.{row - (number == 2)}"


# Keras's Xception. Four shortcuts have no name of their own: they are counted, from 0.
KERAS_XCEPTION: Rules = {
    r"block1_conv([12])":                   lambda i: f"entry_flow.{i - 1}.conv",
    r"block1_conv([12])_bn":                lambda i: f"entry_flow.{i - 1}.bn",
    r"block(\d+)_sepconv(\d)":              lambda block, i: chollet_row(block, i, 0),
    r"block(\d+)_sepconv(\d)_bn":           lambda block, i: chollet_row(block, i, 1),
    r"conv2d #([0-3])":                     lambda k: f"{chollet_block((2, 3, 4, 13)[k])}.shortcut.conv",
    r"batch_normalization #([0-3])":        lambda k: f"{chollet_block((2, 3, 4, 13)[k])}.shortcut.bn",
    r"predictions":                         lambda: "classify",
}

# timm's legacy_xception: its block 1 is Keras's block 2.
TIMM_LEGACY_XCEPTION: Rules = {
    r"conv([12])":                          lambda i: f"entry_flow.{i - 1}.conv",
    r"bn([12])":                            lambda i: f"entry_flow.{i - 1}.bn",
    r"block(\d+)\.rep\.(\d)":               lambda block, row: f"{chollet_block(block + 1)}.residual.{row}",
    r"block(\d+)\.rep\.(\d)\.(conv1|pointwise)":
        lambda block, row, half: f"{chollet_block(block + 1)}.residual.{row}.{HALF[half]}",
    r"block(\d+)\.skip":                    lambda block: f"{chollet_block(block + 1)}.shortcut.conv",
    r"block(\d+)\.skipbn":                  lambda block: f"{chollet_block(block + 1)}.shortcut.bn",
    r"conv([34])\.(conv1|pointwise)":       lambda i, half: f"exit_flow.{3 * i - 8}.{HALF[half]}",
    r"bn([34])":                            lambda i: f"exit_flow.{3 * i - 7}",
    r"fc":                                  lambda: "classify",
}


def timm_aligned_xception(blocks: int) -> Rules:
    """timm's xception41, 65, 71 count 13, 21, 23 blocks through; the flows follow from that. No rules for another total."""
    if blocks not in (13, 21, 23):
        return {}
    entry = 5 if blocks == 23 else 3
    middle = blocks - entry - 2
    flows = [*(f"entry_flow.{i}" for i in range(entry)), *(f"middle_flow.{i}" for i in range(middle)), "exit_flow.0"]

    def separable(block: int, i: int, kind: str, half: str) -> str:
        place = f"exit_flow.{i}" if block == blocks - 1 else f"{flows[block]}.separable_{i}"
        return f"backbone.{place}.{HALF[half]}{'_bn' if kind == 'bn' else ''}"

    return {
        r"stem\.(\d)\.(conv|bn)":           lambda i, part: f"backbone.root.{i}.{part}",
        r"blocks\.(\d+)\.stack\.conv([123])\.(conv|bn)_(dw|pw)": separable,
        r"blocks\.(\d+)\.shortcut\.(conv|bn)": lambda block, part: f"backbone.{flows[block]}.shortcut.{part}",
        r"head\.fc":                        lambda: "classify",
    }


# Inception V3 as torchvision and timm name it, tower by tower in the order in which Keras and slim create it.
TOWERS_35 = {"branch1x1": "0", "branch5x5_1": "1.0", "branch5x5_2": "1.1",
             "branch3x3dbl_1": "2.0", "branch3x3dbl_2": "2.1", "branch3x3dbl_3": "2.2", "branch_pool": "3.1"}
TO_17 = {"branch3x3": "0", "branch3x3dbl_1": "1.0", "branch3x3dbl_2": "1.1", "branch3x3dbl_3": "1.2"}
TOWERS_17 = {"branch1x1": "0", "branch7x7_1": "1.0", "branch7x7_2": "1.1", "branch7x7_3": "1.2",
             **{f"branch7x7dbl_{i + 1}": f"2.{i}" for i in range(5)}, "branch_pool": "3.1"}
TO_8 = {"branch3x3_1": "0.0", "branch3x3_2": "0.1", **{f"branch7x7x3_{i + 1}": f"1.{i}" for i in range(4)}}
TOWERS_8 = {"branch1x1": "0", "branch3x3_1": "1.0", "branch3x3_2a": "1.1.towers.0", "branch3x3_2b": "1.1.towers.1",
            "branch3x3dbl_1": "2.0", "branch3x3dbl_2": "2.1",
            "branch3x3dbl_3a": "2.2.towers.0", "branch3x3dbl_3b": "2.2.towers.1", "branch_pool": "3.1"}
MIXED = {"Mixed_5b": ("modules_35.0", TOWERS_35), "Mixed_5c": ("modules_35.1", TOWERS_35),
         "Mixed_5d": ("modules_35.2", TOWERS_35),
         "Mixed_6a": ("modules_17.0", TO_17), "Mixed_6b": ("modules_17.1", TOWERS_17), "Mixed_6c": ("modules_17.2", TOWERS_17),
         "Mixed_6d": ("modules_17.3", TOWERS_17), "Mixed_6e": ("modules_17.4", TOWERS_17),
         "Mixed_7a": ("modules_8.0", TO_8), "Mixed_7b": ("modules_8.1", TOWERS_8), "Mixed_7c": ("modules_8.2", TOWERS_8)}
INCEPTION_V3 = {
    "Conv2d_1a_3x3": "stem.0", "Conv2d_2a_3x3": "stem.1", "Conv2d_2b_3x3": "stem.2",
    "Conv2d_3b_1x1": "stem.4", "Conv2d_4a_3x3": "stem.5",
    **{f"{mixed}.{branch}": f"{ours}.towers.{tower}"
       for mixed, (ours, towers) in MIXED.items() for branch, tower in towers.items()},
}
TORCH_INCEPTION_V3: Rules = {
    r"(Conv2d_\w+|Mixed_\w+\.\w+)\.(conv|bn)": lambda layer, part: f"{INCEPTION_V3[layer]}.{part}",
    r"fc":                                  lambda: "classify",
}
KERAS_INCEPTION_V3: Rules = {
    r"conv2d #(\d+)":                       lambda k: f"{list(INCEPTION_V3.values())[k]}.conv",
    r"batch_normalization #(\d+)":          lambda k: f"{list(INCEPTION_V3.values())[k]}.bn",
    r"predictions":                         lambda: "classify",
}


def torchvision_aspp(branches: int) -> Rules:
    """torchvision's ASPP: [1 x 1, rates, image pooling]; ours and the authors' begin with the image pooling."""
    return {
        rf"convs\.{branches - 1}\.([12])":  lambda i: f"branches.0.project.{CONV_BN[i - 1]}",
        r"convs\.(\d)\.([01])":             lambda branch, i: f"branches.{branch + 1}.{CONV_BN[i]}",
        r"project\.([01])":                 lambda i: f"project.{CONV_BN[i]}",
    }


# What no network here can run, and why.
ANOTHER_NETWORK = {
    r"segmentation_head\..*":
        "segmentation-models-pytorch's DeepLabV3Plus is another network: one 3 x 3 after the concatenation, not two, one "
        "more after ASPP, nothing between depthwise and pointwise, the low-level map after its ReLU",
    r"backbone\.conv1\.weight":
        "torchvision's deeplabv3_resnet is another network: a 7 x 7 root, and strides in the first unit of a stage. Its "
        "ASPP is ours: pass the arrays that begin with classifier.0., without that prefix",
    r"blocks\.\d+\.stack\.conv2\.norm\..*":
        "timm's xception41p and xception65p normalize and rectify *before* each convolution: another network",
    r"resnet_v1_\d+/conv1/.*":
        "this ResNet has a 7 x 7 root; DeepLab's tables use, and this library has, the beta variant with three 3 x 3",
    r"Mobilenet(V1|V3|EdgeTPU).*":
        "of the MobileNets this library has the second alone",
    r"MobilenetV2/Conv_1/.*":
        "this MobileNetV2 is a classifier with a 1280-wide layer; here it is DeepLab's backbone, which ends before that",
    r".*/separable_conv\d/.*":
        "trained with regularize_depthwise, this Xception has no batch norm between depthwise and pointwise: another network",
}
