"""A short vision run for other processes to start, kill and start again: prints a digest of everything it learned."""

import hashlib
import os
import signal
import sys

import torch

from layered.vision.all import (
    Callback,
    CategoryBlock,
    Checkpoint,
    DataBlock,
    GrandparentSplitter,
    ImageBlock,
    Resize,
    URLs,
    aug_transforms,
    get_image_files,
    nn,
    parent_label,
    set_seed,
    untar_data,
    vision_learner,
)


class KillAt(Callback):
    """Kills this process, as the kernel would, after so many training batches in all."""

    order = 2000
    transient = ("seen", "at")

    def __init__(self, at: int) -> None:
        self.seen, self.at = 0, at

    def after_batch(self) -> None:
        if self.learn.training:
            self.seen += 1
            if self.seen == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def __repr__(self) -> str:
        return "KillAt"


def small_net(pretrained: bool = False) -> nn.Module:
    """A convolutional network with batch norm and dropout: all that a resumed run could get wrong."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Dropout2d(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def main(folder: str, workers: int, kill_at: int) -> None:
    set_seed(7)
    some = get_image_files(untar_data(URLs.FASHION_TINY))[::28]
    block = DataBlock(
        (ImageBlock, CategoryBlock), get_y=parent_label, splitter=GrandparentSplitter(), item_tfms=Resize(32),
        batch_tfms=aug_transforms(),
    )  # fmt: skip
    dls = block.dataloaders(some, bs=8, num_workers=workers)
    learn = vision_learner(dls, small_net, pretrained=False, cbs=KillAt(kill_at))
    checkpoint = {"checkpoint": Checkpoint(folder, every="3 batches"), "resume": "auto"} if folder else {}
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(2, 1e-2, **checkpoint)
    digest = hashlib.sha256()
    for tensor in learn.model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    digest.update(repr((learn.recorder.losses, learn.recorder.lrs, learn.recorder.values)).encode())
    digest.update(torch.get_rng_state().numpy().tobytes())
    print(digest.hexdigest())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
