"""The executable companion to "Xception" and "DeepLabV3+": every block of the two papers, small enough to read."""

from minideeplab.blocks.aspp import ASPP, ImagePooling
from minideeplab.blocks.atrous import conv2d_on_sub_grids, kernel_with_holes, mean_taps_inside, pixels_touched
from minideeplab.blocks.convolution import ConvBN, ConvBNReLU, SameConv2d, SameMaxPool2d, conv2d_loops, upsample
from minideeplab.blocks.decoder import Decoder
from minideeplab.blocks.extreme import (
    ExtremeInception,
    SegmentedInception,
    SimplifiedInception,
    extreme_from_segmented,
    regroup,
    segmented_from_towers,
    towers_from_segmented,
)
from minideeplab.blocks.inception import Inception8, Inception17, Inception35, ReductionTo8, ReductionTo17
from minideeplab.blocks.pyramid_pooling import PyramidPooling
from minideeplab.blocks.refinement import ChainedResidualPooling, RefineNetBlock, ResidualConvUnit
from minideeplab.blocks.separable import SeparableConv2d, SeparableConvBN, dense_kernel, separable_share, separable_terms
from minideeplab.blocks.unpooling import UnpoolingDecoder, pool_and_remember
from minideeplab.networks.aligned_xception import AlignedBlock, AlignedXception, xception41, xception65, xception71
from minideeplab.networks.backbone import Backbone, Features, Pyramid
from minideeplab.networks.classifier import Classifier
from minideeplab.networks.deeplab import DeepLabV3, DeepLabV3Plus
from minideeplab.networks.encoder_decoder import RefineNetHead, SegNetHead, UNetHead, UNetStep
from minideeplab.networks.family import DeepLabV3Head, DeepLabV3PlusHead, FCNHead, PSPNetHead, Segmenter
from minideeplab.networks.inception_v3 import InceptionV3
from minideeplab.networks.mobilenet_v2 import InvertedResidual, MobileNetV2, mobilenet_v2
from minideeplab.networks.pretrained import pretrained
from minideeplab.networks.resnet import Bottleneck, ResNet, resnet101
from minideeplab.networks.xception import Xception, XceptionBlock

__all__ = [
    "ASPP",
    "AlignedBlock",
    "AlignedXception",
    "Backbone",
    "Bottleneck",
    "ChainedResidualPooling",
    "Classifier",
    "ConvBN",
    "ConvBNReLU",
    "Decoder",
    "DeepLabV3",
    "DeepLabV3Head",
    "DeepLabV3Plus",
    "DeepLabV3PlusHead",
    "ExtremeInception",
    "FCNHead",
    "Features",
    "ImagePooling",
    "Inception8",
    "Inception17",
    "Inception35",
    "InceptionV3",
    "InvertedResidual",
    "MobileNetV2",
    "PSPNetHead",
    "Pyramid",
    "PyramidPooling",
    "ReductionTo8",
    "ReductionTo17",
    "RefineNetBlock",
    "RefineNetHead",
    "ResNet",
    "ResidualConvUnit",
    "SameConv2d",
    "SameMaxPool2d",
    "SegNetHead",
    "SegmentedInception",
    "Segmenter",
    "SeparableConv2d",
    "SeparableConvBN",
    "SimplifiedInception",
    "UNetHead",
    "UNetStep",
    "UnpoolingDecoder",
    "Xception",
    "XceptionBlock",
    "conv2d_loops",
    "conv2d_on_sub_grids",
    "dense_kernel",
    "extreme_from_segmented",
    "kernel_with_holes",
    "mean_taps_inside",
    "mobilenet_v2",
    "pixels_touched",
    "pool_and_remember",
    "pretrained",
    "regroup",
    "resnet101",
    "segmented_from_towers",
    "separable_share",
    "separable_terms",
    "towers_from_segmented",
    "upsample",
    "xception41",
    "xception65",
    "xception71",
]
