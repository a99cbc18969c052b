"""How choices are shown: each user with what they chose, and with the items that score highest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from layered.data import list_some
from layered.foundation import lazy, verb
from layered.tabular import show_frame

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")
show_batch, show_results, plot_top_losses = verb("show_batch"), verb("show_results"), verb("plot_top_losses")
BEST = 5  # items shown as recommended


class Choices(NamedTuple):
    """The rows of a batch of choices.

    Attributes:
        users: The name of each row's user.
        items: The names of the items of each row.
        targets: What is known of them: [row, item], the weight of a choice, 0 for others, below 0 for those left out.
        names: The columns of users and of items.
    """

    users: list[Any]
    items: list[list[Any]]
    targets: Tensor
    names: Sequence[Any]

    def frame(self, **columns: Iterable[str]) -> DataFrame:
        """A table of the users and what they chose.

        Args:
            columns: Further columns.
        """
        user, item = self.names
        chosen = [
            list_some([row[i] for i in target.nonzero()[:, 0].tolist()])
            for row, target in zip(self.items, self.targets > 0, strict=True)
        ]
        frame: DataFrame = pd.DataFrame({user: self.users, item: chosen, **columns})
        return frame

    def best(self, row: int, scores: Tensor) -> str:
        """The items of a row with the highest scores, those left out aside, as text.

        Args:
            row: Which row.
            scores: The scores of its items, float32 [item].
        """
        scores = scores.masked_fill(self.targets[row] < 0, -float("inf"))
        found = scores.topk(min(BEST, int((self.targets[row] >= 0).sum()))).indices
        return list_some([self.items[row][i] for i in found.tolist()])


@show_batch.register
def show_choices(x: Choices, y: object, samples: object, ctxs: object = None, max_n: int = 10) -> None:
    """Show who chose what."""
    show_frame(x.frame()[:max_n])


@show_results.register
def show_choice_results(
    x: Choices, y: object, samples: object, outs: Sequence[Tensor], ctxs: object = None, max_n: int = 10
) -> None:
    """Show who chose what, and which items score highest for them."""
    show_frame(x.frame(best=[x.best(row, scores) for row, scores in enumerate(outs)])[:max_n])


@plot_top_losses.register
def show_top_losses(
    x: Choices, y: object, samples: object, outs: Sequence[Tensor], raws: object, losses: Sequence[Any], max_n: int = 10
) -> None:
    """Show who chose what they were least expected to."""
    best = [x.best(row, scores) for row, scores in enumerate(outs)]
    show_frame(x.frame(best=best).assign(loss=[float(loss) for loss in losses])[:max_n])
