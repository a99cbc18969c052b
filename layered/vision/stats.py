"""Mean and standard deviation of each channel of known image collections, in the scale of [0, 1]."""

from __future__ import annotations

imagenet_stats = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
cifar_stats = ([0.491, 0.482, 0.447], [0.247, 0.243, 0.261])
mnist_stats = ([0.131], [0.308])
