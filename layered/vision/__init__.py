"""Images: types, transforms, augmentation, blocks, loaders, models and `vision_learner`."""

from typing import TYPE_CHECKING

import layered.vision.albumentations_transforms as _albumentations  # registers what becomes of transforms of albumentations
import layered.vision.gan as _gan  # registers what exported generators consist of
import layered.vision.graph_inputs as _graph_inputs  # registers how images enter exported graphs
import layered.vision.kornia_transforms as _kornia  # likewise of kornia
import layered.vision.medical as _medical  # registers how DICOM files are read, for exports
import layered.vision.show as _show  # registers how images are shown
import layered.vision.torchvision_transforms as _torchvision  # registers what becomes of transforms of torchvision
from layered.foundation.faces import star as _star
from layered.integrations import TimmBody as TimmBody
from layered.nn import cut_model as cut_model, has_pool_type as has_pool_type
from layered.vision import pil as _pil
from layered.vision.affine import (
    AffineCoordTfm as AffineCoordTfm,
    DeterministicDihedral as DeterministicDihedral,
    DeterministicFlip as DeterministicFlip,
    Dihedral as Dihedral,
    Flip as Flip,
    RandomResizedCropGPU as RandomResizedCropGPU,
    Rotate as Rotate,
    Warp as Warp,
    Zoom as Zoom,
    affine_coord as affine_coord,
    affine_grid as affine_grid,
)
from layered.vision.annotations import get_annotations as get_annotations
from layered.vision.augment import (
    RandomErasing as RandomErasing,
    aug_transforms as aug_transforms,
    cutout_gaussian as cutout_gaussian,
    norm_apply_denorm as norm_apply_denorm,
    setup_aug_tfms as setup_aug_tfms,
)
from layered.vision.channels import MultiChannelImage as MultiChannelImage
from layered.vision.cleaning import clean_files as clean_files, worst_files as worst_files
from layered.vision.data import ImageDataLoaders as ImageDataLoaders
from layered.vision.detection import detection_learner as detection_learner
from layered.vision.draws import DeterministicDraw as DeterministicDraw, mask_tensor as mask_tensor
from layered.vision.image_blocks import (
    AddMaskCodes as AddMaskCodes,
    BBoxBlock as BBoxBlock,
    BBoxLblBlock as BBoxLblBlock,
    ImageBlock as ImageBlock,
    MaskBlock as MaskBlock,
    PointBlock as PointBlock,
)
from layered.vision.image_files import (
    download_images as download_images,
    resize_image as resize_image,
    resize_images as resize_images,
    resize_to as resize_to,
    verify_image as verify_image,
    verify_images as verify_images,
)
from layered.vision.item_transforms import (
    CropPad as CropPad,
    DihedralItem as DihedralItem,
    FlipItem as FlipItem,
    OldRandomCrop as OldRandomCrop,
    PadMode as PadMode,
    RandomCrop as RandomCrop,
    RandomResizedCrop as RandomResizedCrop,
    RatioResize as RatioResize,
    Resize as Resize,
    ResizeMethod as ResizeMethod,
    cifar_stats as cifar_stats,
    imagenet_stats as imagenet_stats,
    mnist_stats as mnist_stats,
)
from layered.vision.learner import (
    cnn_learner as cnn_learner,
    unet_learner as unet_learner,
    vision_learner as vision_learner,
)
from layered.vision.lighting import (
    Brightness as Brightness,
    Contrast as Contrast,
    HSVTfm as HSVTfm,
    Hue as Hue,
    LightingTfm as LightingTfm,
    Saturation as Saturation,
    SpaceTfm as SpaceTfm,
    grayscale as grayscale,
    hsv2rgb as hsv2rgb,
    lighting as lighting,
    rgb2hsv as rgb2hsv,
)
from layered.vision.maps import (
    affine_mat as affine_mat,
    apply_perspective as apply_perspective,
    dihedral_mat as dihedral_mat,
    find_coeffs as find_coeffs,
    flip_mat as flip_mat,
    rotate_mat as rotate_mat,
    warp_mat as warp_mat,
    zoom_mat as zoom_mat,
)
from layered.vision.models.backbones import (
    create_body as create_body,
    default_split as default_split,
    find_arch as find_arch,
    model_meta as model_meta,
    torchvision_models as torchvision_models,
)
from layered.vision.models.create import (
    add_head as add_head,
    create_cnn_model as create_cnn_model,
    create_timm_model as create_timm_model,
    create_unet_model as create_unet_model,
    create_vision_model as create_vision_model,
)
from layered.vision.models.groups import block_groups as block_groups
from layered.vision.models.head import create_head as create_head
from layered.vision.models.unet import (
    DynamicUnet as DynamicUnet,
    ResizeToOrig as ResizeToOrig,
    UnetBlock as UnetBlock,
)
from layered.vision.models.xresnet import (
    XResNet as XResNet,
    init_cnn as init_cnn,
    xresnet18 as xresnet18,
    xresnet18_deep as xresnet18_deep,
    xresnet18_deeper as xresnet18_deeper,
    xresnet34 as xresnet34,
    xresnet34_deep as xresnet34_deep,
    xresnet34_deeper as xresnet34_deeper,
    xresnet50 as xresnet50,
    xresnet50_deep as xresnet50_deep,
    xresnet50_deeper as xresnet50_deeper,
    xresnet101 as xresnet101,
    xresnet152 as xresnet152,
    xresnext18 as xresnext18,
    xresnext34 as xresnext34,
    xresnext50 as xresnext50,
    xresnext101 as xresnext101,
    xse_resnet18 as xse_resnet18,
    xse_resnet34 as xse_resnet34,
    xse_resnet50 as xse_resnet50,
    xse_resnet101 as xse_resnet101,
    xse_resnet152 as xse_resnet152,
    xse_resnext18 as xse_resnext18,
    xse_resnext18_deep as xse_resnext18_deep,
    xse_resnext18_deeper as xse_resnext18_deeper,
    xse_resnext34 as xse_resnext34,
    xse_resnext34_deep as xse_resnext34_deep,
    xse_resnext34_deeper as xse_resnext34_deeper,
    xse_resnext50 as xse_resnext50,
    xse_resnext50_deep as xse_resnext50_deep,
    xse_resnext50_deeper as xse_resnext50_deeper,
    xse_resnext101 as xse_resnext101,
    xsenet154 as xsenet154,
)
from layered.vision.point_transforms import (
    BBoxCategorize as BBoxCategorize,
    BBoxLabeler as BBoxLabeler,
    PointScaler as PointScaler,
    TensorPointCreate as TensorPointCreate,
    bb_pad as bb_pad,
)
from layered.vision.points import (
    BoxLabels as BoxLabels,
    LabeledBBox as LabeledBBox,
    TensorBBox as TensorBBox,
    TensorPoint as TensorPoint,
)
from layered.vision.reading import image2tensor as image2tensor, load_image as load_image, to_image as to_image
from layered.vision.segmentation import SegmentationDataLoaders as SegmentationDataLoaders
from layered.vision.targets import clip_remove_empty as clip_remove_empty
from layered.vision.tensor_methods import TensorTypes as TensorTypes
from layered.vision.types import (
    BILINEAR as BILINEAR,
    NEAREST as NEAREST,
    OpenMask as OpenMask,
    PILBase as PILBase,
    PILImage as PILImage,
    PILImageBW as PILImageBW,
    PILImageBW16 as PILImageBW16,
    PILMask as PILMask,
)

Image = _pil

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.vision.decoding import open_image as open_image
from layered.vision.reading import naming as naming
