"""What a model learns from choices: for each user (or choice) the items to score, and which of them were chosen.

A batch of choices becomes (codes, targets). A row of codes is a user, followed by the items to score; a user alone stands for
all items. Targets have a number for each item: the weight of a choice (> 0), 0 for an item that was not chosen, and `LEFT_OUT`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from layered.collab.grouped import Grouped
from layered.data import RegressionSetup
from layered.foundation import BadValue, ItemTransform, draw_batch, plain, transforms

LEFT_OUT = -1.0  # the target of an item that is not compared: '#na#', or known from training where validation is scored


def scores_and_targets(pred: Tensor, target: Tensor, role: str, fix: str) -> tuple[Tensor, Tensor]:
    """Both as plain tensors, [row, item].

    Args:
        pred: The scores.
        target: The targets.
        role: Who asks and what for, as the error begins.
        fix: How such batches are made.

    Raises:
        BadValue: If they are not of that shape.
    """
    pred, target = plain(pred), plain(target)
    if pred.ndim != 2 or pred.shape != target.shape:
        raise BadValue(
            role, got=f"scores {list(pred.shape)}, targets {list(target.shape)}", expected="both [row, item]", fix=fix
        )
    return pred, target


def targets_for(users: Tensor, chosen: Grouped, left_out: Grouped | None, num_items: int) -> Tensor:
    """The targets of all items for these users: float32 [user, item].

    Args:
        users: The codes of the users, int64 [user].
        chosen: The items that each user chose, with their weights.
        left_out: The items of each user that are not compared.
        num_items: The number of items, including '#na#', which is left out.
    """
    targets = torch.zeros(len(users), num_items, device=users.device)
    rows, items, weights = chosen.of(users)
    targets[rows, items] = weights
    if left_out is not None:
        rows, items, _ = left_out.of(users)
        targets[rows, items] = LEFT_OUT
    targets[:, 0] = LEFT_OUT
    return targets


@transforms.register("collab.ChoiceSetup")
class ChoiceSetup(RegressionSetup):
    """The weight of a choice as float32; a target of the kind "ranking"."""

    target_kind: ClassVar[str | None] = "ranking"


class Expand(ItemTransform):
    """Base of the batch transforms that say what is scored for a batch of choices: `AllItems` and `Negatives`."""


class AllItems(Expand):
    """Each row is a user, all of whose choices are compared with all other items.

    Turns (codes [batch, 2], weights [batch, 1]) into (users [batch, 1], targets [batch, item]).

    Args:
        chosen: The items that each user chose.
        num_items: The number of items, including '#na#'.
        left_out: The items of each user that are not compared, such as those of training in a validation batch.
    """

    def __init__(self, chosen: Grouped, num_items: int, left_out: Grouped | None = None) -> None:
        super().__init__()
        self.chosen, self.num_items, self.left_out = chosen, num_items, left_out

    def encodes(self, b: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        users = b[0][:, 0].contiguous()
        left_out = None if self.left_out is None else self.left_out.to(users.device)
        return users[:, None], targets_for(users, self.chosen.to(users.device), left_out, self.num_items)


class Negatives(Expand):
    """Each row is a choice, compared with `num` items that its user did not choose in training, drawn anew each epoch.

    Turns (codes [batch, 2], weights [batch, 1]) into (codes [batch, 2 + num], targets [batch, 1 + num]). Items are drawn
    uniformly, with replacement, by the tickets of the rows, so they depend on neither workers nor processes nor on where a run
    was resumed.

    Args:
        chosen: The items that each user chose in training.
        num_items: The number of items, including '#na#', which is never drawn.
        num: How many to draw for each choice.
    """

    def __init__(self, chosen: Grouped, num_items: int, num: int) -> None:
        super().__init__()
        self.chosen, self.num_items, self.num = chosen, num_items, num
        first, _ = chosen.bounds(chosen.keys)
        free_before = (
            chosen.values - 1 - (torch.arange(len(chosen)) - first)
        )  # items free for this user, before this one
        self._free = chosen.keys * num_items + free_before

    def encodes(self, b: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        codes, weights = b
        users = codes[:, :1].contiguous()
        chosen, self._free = self.chosen.to(codes.device), self._free.to(codes.device)
        first, last = chosen.bounds(users)
        num_free = self.num_items - 1 - (last - first)
        place = (
            draw_batch(len(codes), size=(self.num,), device=codes.device) * num_free
        ).long()  # among the free items
        place = place.clamp(max=num_free - 1)  # where the product was rounded up
        passed = torch.searchsorted(self._free, users * self.num_items + place, right=True) - first
        items = torch.where(num_free > 0, 1 + place + passed, 0)
        negatives = torch.where(num_free > 0, 0.0, LEFT_OUT).expand(-1, self.num)
        return torch.cat([codes, items], 1), torch.cat([weights, negatives], 1)
