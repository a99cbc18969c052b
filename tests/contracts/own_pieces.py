"""What a user wrote and gave names to, so that exports may mention it: transforms, a model and a loss."""

import numpy as np
import torch
from torch import Tensor, nn

from layered.vision.all import BaseLoss, Module, PILImage, Transform, exportable


class Pair(tuple):
    """Two pictures, as tensors."""


@exportable("tests.OpenPair")
class OpenPair(Transform):
    """A file becomes its picture and a shifted copy of it."""

    def __init__(self, shift):
        self.shift = shift

    def encodes(self, file):
        grey = PILImage.create(file).convert("L").resize((8, 8))
        x = torch.from_numpy(np.array(grey)).float()[None] / 255
        return Pair((x, x.roll(self.shift, -1)))


@exportable("tests.Doubled")
class Doubled(Transform):
    """Targets are learnt at twice their size; what is predicted is halved again."""

    def encodes(self, x: float):
        return 2 * x

    def decodes(self, x: Tensor):
        return x / 2


@exportable("tests.Apart")
class Apart(Module):
    """Works on both pictures of a pair."""

    def __init__(self, scale=1.0):
        self.scale, self.head = scale, nn.Linear(128, 2)

    def forward(self, pair):
        return self.head(torch.cat([x.flatten(1) for x in pair], 1) * self.scale)


@exportable("tests.TwoInTwoOut")
class TwoInTwoOut(Module):
    """Two classes and a number from two pictures."""

    def __init__(self):
        self.head = nn.Linear(6, 3)

    def forward(self, a, b):
        out = self.head(torch.cat([a.mean((2, 3)), b.mean((2, 3))], 1))
        return out[:, :2], out[:, 2]


@exportable("tests.BothLosses")
class BothLosses(BaseLoss):
    """Of a class and a number."""

    def __init__(self):
        super().__init__(nn.CrossEntropyLoss)

    def __call__(self, pred, kind, size):
        return self.func(pred[0], kind) + nn.functional.mse_loss(pred[1], size)

    def activation(self, pred):
        return pred[0].softmax(-1), pred[1]

    def decodes(self, pred):
        return pred[0].argmax(-1), pred[1]


@exportable("tests.Spread")
class Spread(nn.Module):
    """A loss that says what its predictions mean."""

    def __init__(self, power=1, weight=None):
        super().__init__()
        self.power, self.weight = power, weight

    def forward(self, pred, target):
        return nn.functional.cross_entropy(pred, target, self.weight)

    def activation(self, pred):
        return (pred.softmax(-1) ** self.power) * self.weight

    def decodes(self, pred):
        return pred.argmin(-1)
