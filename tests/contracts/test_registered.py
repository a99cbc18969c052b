"""The contracts hold for everything registered; what is registered without an example here fails."""

import numpy as np
import pytest
import torch

import layered.vision.all as facade
from layered.foundation import (
    TensorCategory,
    TensorImage,
    TensorMask,
    TensorMultiCategory,
    Tickets,
    drawing,
    key_of,
    transforms,
)
from layered.testing import check_transform
from layered.text.all import TensorText
from layered.text.types import TensorTokenCategory
from layered.text.word_labels import WordLabels
from layered.vision.all import PILImage, PILMask
from layered.vision.medical import TensorDicom


def picture():
    return PILImage.create(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))


def pictures():
    """A batch [3, 3, 16, 20]."""
    return TensorImage(torch.rand(3, 3, 16, 20, generator=torch.Generator().manual_seed(0)))


def samples_of_texts():
    return [(TensorText([2, 3]),), (TensorText([2, 3, 4, 5, 6]),)]


def labelled_words():
    """Two words of three tokens, and the classes of the words."""
    return TensorText([7, 8, 9], words=torch.tensor([-1, 0, 1]), word_count=2), TensorTokenCategory([3, 4])


def fitted(transform, items):
    transform.setup(items)
    return transform


LABELS = ["b", "a", "c", "a"]
EXAMPLES = {  # an instance, a sample, and whether decoding gives the sample back
    "AddMaskCodes": lambda t: (t(["sky", "road"]), TensorMask(torch.zeros(4, 4, dtype=torch.uint8)), True),
    "AffineCoordTfm": lambda t: (
        t([facade.Flip(), facade.Rotate(), facade.Zoom(), facade.Warp()], size=12),
        pictures(),
        False,
    ),
    "AlignMasks": lambda t: (t(), (picture(), PILMask.create(np.zeros((20, 30), dtype=np.uint8))), False),
    "AlbumentationsTransform": lambda t: (t(), picture(), False),
    "AttrGetter": lambda t: (t("ndim"), torch.zeros(2, 3), False),
    "BBoxCategorize": lambda t: (fitted(t(), [["b"], ["a", "c"]]), facade.BoxLabels(["a", "c"]), True),
    "BBoxLabeler": lambda t: (t(["a", "b"]), (facade.TensorBBox([[0.0, 0, 1, 1]]), TensorMultiCategory([1])), False),
    "Brightness": lambda t: (t(p=1.0), pictures(), False),
    "Categorize": lambda t: (fitted(t(), LABELS), facade.Category("a"), True),
    "Contrast": lambda t: (t(p=1.0), pictures(), False),
    "CropPad": lambda t: (t((24, 18)), picture(), False),
    "ColReader": lambda t: (t("age"), {"age": 31}, False),
    "DicomWindow": lambda t: (t((80, 40), (254, 100)), TensorDicom(torch.arange(64.0).reshape(1, 1, 8, 8)), False),
    "DeterministicDihedral": lambda t: (t(), pictures(), False),
    "DeterministicFlip": lambda t: (t(), pictures(), False),
    "Dihedral": lambda t: (t(p=1.0), pictures(), False),
    "DihedralItem": lambda t: (t(p=1.0), picture(), False),
    "EncodedMultiCategorize": lambda t: (t(["x", "y"]), [1, 0], False),
    "Flip": lambda t: (t(), pictures(), False),
    "FlipItem": lambda t: (t(), picture(), False),
    "HSVTfm": lambda t: (t([facade.Hue(), facade.Hue(draw=0.3)]), pictures(), False),
    "Hue": lambda t: (t(p=1.0), pictures(), False),
    "IntToFloatTensor": lambda t: (t(), TensorImage(torch.arange(48).reshape(1, 3, 4, 4).byte()), False),
    "ItemGetter": lambda t: (t(1), (torch.zeros(2), torch.ones(2)), False),
    "KorniaTransform": lambda t: (t(), picture(), False),
    "LightingTfm": lambda t: (t([facade.Brightness(), facade.Contrast()]), pictures(), False),
    "MultiCategorize": lambda t: (fitted(t(), [["b"], ["a", "c"]]), facade.MultiCategory(["a", "c"]), True),
    "Normalize": lambda t: (t.from_stats((0.4, 0.5, 0.6), (0.2, 0.3, 0.1)), pictures(), True),
    "OneHotEncode": lambda t: (t(c=3), TensorMultiCategory(torch.tensor([0, 2])), False),
    "PointScaler": lambda t: (t(y_first=True), facade.TensorPoint.create((3, 4), img_size=(20, 30)), False),
    "RandomCrop": lambda t: (t(12), picture(), False),
    "RandomErasing": lambda t: (t(p=1.0), pictures(), False),
    "RandomResizedCrop": lambda t: (t((12, 14)), picture(), False),
    "RandomResizedCropGPU": lambda t: (t(8), pictures(), False),
    "RatioResize": lambda t: (t(12), picture(), False),
    "collab.ChoiceSetup": lambda t: (fitted(t(), [1.0, 2.0]), 2.0, False),
    "RegressionSetup": lambda t: (fitted(t(), [1.5, 2.0]), 2.5, False),
    "Resize": lambda t: (t((10, 12), "pad"), picture(), False),
    "Rotate": lambda t: (t(20.0, p=1.0), pictures(), False),
    "Saturation": lambda t: (t(p=1.0), pictures(), False),
    "SpaceTfm": lambda t: (t([facade.Contrast(), facade.Saturation()], facade.lighting), pictures(), False),
    "TensorBBoxCreate": lambda t: (t(), facade.TensorBBox.create([(3, 4, 5, 6)]), True),
    "TensorPointCreate": lambda t: (t(), facade.TensorPoint.create([(3, 4), (5, 6)]), True),
    "ToTensor": lambda t: (t(), picture(), False),
    "TorchvisionTransform": lambda t: (t(), picture(), False),
    "Warp": lambda t: (t(p=1.0), pictures(), False),
    "Zoom": lambda t: (t(p=1.0), pictures(), False),
    "text.CutText": lambda t: (t(2), TensorText([4, 5, 6]), False),
    "text.HuggingFaceTokenizer": lambda t: (t.train(["a film", "a plot"], 300), "a film", False),
    "text.LabelTokens": lambda t: (t(), labelled_words(), True),
    "text.MarkEnd": lambda t: (t(3), TensorText([4, 5]), False),
    "text.Numericalize": lambda t: (fitted(t(min_freq=1), [["a", "film"]]), facade.L(["a", "film"]), True),
    "text.Pad_Chunk": lambda t: (t(seq_len=4), samples_of_texts(), False),
    "text.Pad_Input": lambda t: (t(), samples_of_texts(), False),
    "text.TokenCategorize": lambda t: (
        fitted(t(), [["O"], ["B-LOC"]]),
        WordLabels(["O", "B-LOC"], use_list=True),
        True,
    ),
    "text.Tokenizer": lambda t: (t(), "What a FILM!", False),
}


def shipped(names):
    """Those that the library registered, but for the procs of tables, which have tests of their own."""
    modules = ((name, transforms.get(name).__module__) for name in names)
    return sorted(name for name, at in modules if at.startswith("layered.") and not at.startswith("layered.tabular."))


@pytest.mark.parametrize("split_idx", [0, 1], ids=["training", "validation"])
@pytest.mark.parametrize("name", shipped(transforms))
def test_every_transform_keeps_the_contract(name, split_idx):
    transform, sample, reversible = EXAMPLES[name](transforms.get(name))
    check_transform(transform, sample, reversible=reversible, split_idx=split_idx)


@pytest.mark.parametrize("make", [lambda: facade.Resize(12), facade.ToTensor, lambda: facade.Rotate(p=1.0)])
def test_what_a_transform_is_not_for_passes_through(make):
    label = TensorCategory(torch.tensor([1, 2]))
    with drawing(Tickets(torch.tensor([1, 2]), key_of("here"))):
        assert make()(label, split_idx=0) is label


def test_masks_stay_masks_and_keep_their_values():
    mask = PILMask.create(np.random.default_rng(0).integers(0, 3, (20, 30), dtype=np.uint8) * 100)
    for make in (lambda: facade.Resize((10, 12)), lambda: facade.RandomResizedCrop(12), facade.DihedralItem):
        check_transform(make(), mask)
        out = make()(mask, split_idx=0)
        assert type(out) is PILMask
        assert set(np.unique(out)) <= {0, 100, 200}


def test_the_contract_catches_a_transform_that_draws_by_itself():
    class Careless(facade.Transform):
        def encodes(self, x: torch.Tensor):
            return x + torch.rand(())

    class Greedy(facade.Transform):
        def encodes(self, x: torch.Tensor):
            return x.mul_(2)

    for wrong in (Careless, Greedy):
        with pytest.raises((AssertionError, AttributeError)):
            check_transform(wrong(), pictures())
