"""What stands around a model of transformers: the reading of padded and long texts, and the heads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation import BadValue, modules
from layered.integrations import described_config, hidden_size, position_limit, transformer_groups
from layered.nn import LinBnDrop, Module, SigmoidRange
from layered.optim import params
from layered.text.models.heads import TokenClassifier, refuse_of_pooling
from layered.text.types import padding_mask

POOLS = ("mean", "first", "last")


class TransformerEncoder(nn.Module):
    """Reads a batch of texts with a model of transformers. Padding changes nothing, whatever its index and wherever it stands.

    Args:
        module: The model, without a head.
        is_decoder: Each token sees only those before it.
        pad_idx: The token that is padding where a batch does not say so.
        window: Read longer texts in pieces of so many tokens, each on its own; None refuses texts that are too long.
    """

    def __init__(self, module: nn.Module, is_decoder: bool, pad_idx: int, window: int | None = None) -> None:
        super().__init__()
        self.module, self.pad_idx, self.window = module, pad_idx, window
        config = described_config(module)
        self.limit, self.has_segments = position_limit(config), (config.get("type_vocab_size") or 0) > 1
        self.options = {"use_cache": False} if is_decoder else {}

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of tokens, [batch, token, channel], and where they are padding, bool [batch, token]; each text begins at 0.

        Args:
            ids: Tokens, int64 [batch, token]. What is padding is said by `padding_mask`; which token is of which text of
                a pair, by the attribute `segments`.
        """
        segments = vars(ids).get("segments") if self.has_segments else None
        ids, mask, segments = _from_the_left(ids, padding_mask(ids, self.pad_idx), self.pad_idx, segments)
        if self.window is None or ids.shape[1] <= self.window:
            return self._read(ids, mask, segments), mask
        count, missing = len(ids), -ids.shape[1] % self.window
        ids = F.pad(ids, (0, missing), value=self.pad_idx).view(-1, self.window)
        mask = F.pad(mask, (0, missing), value=True).view(-1, self.window)
        if segments is not None:
            segments = F.pad(segments, (0, missing)).view(-1, self.window)
        used = ~mask.all(1)
        read = self._read(ids[used], mask[used], None if segments is None else segments[used])
        out = read.new_zeros(len(ids), self.window, read.shape[2])
        out[used] = read
        return out.view(count, -1, out.shape[2]), mask.view(count, -1)

    def _read(self, ids: Tensor, mask: Tensor, segments: Tensor | None) -> Tensor:
        check_length(ids, self.limit)
        options = self.options if segments is None else {**self.options, "token_type_ids": segments}
        output: Any = self.module(input_ids=ids, attention_mask=(~mask).long(), **options)
        hidden: Tensor = output.last_hidden_state
        return hidden


class TransformerTokens(TransformerEncoder):
    """A `TransformerEncoder` whose vectors stand at the places of their tokens, for a head that reads every one of them."""

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of tokens, [batch, token, channel], and where they are padding, bool [batch, token].

        Args:
            ids: Tokens, int64 [batch, token]. What is padding is said by `padding_mask`.
        """
        mask, length = padding_mask(ids, self.pad_idx), max(1, ids.shape[1])
        out, _ = super().forward(ids)
        time = torch.arange(length, device=ids.device)
        places = (time - leading(mask)) % (time[-1] + 1)
        return out[:, :length].gather(1, places[:, :, None].expand(-1, -1, out.shape[2])), mask


def check_length(ids: Tensor, limit: int | None) -> None:
    """Refuse texts with more tokens than a model reads.

    Args:
        ids: [batch, token].
        limit: The most tokens of a text; None for no limit.

    Raises:
        BadValue: The texts are longer.
    """
    if limit is not None and ids.shape[1] > limit:
        raise BadValue(
            "a text is longer than the model reads",
            got=f"{ids.shape[1]} tokens",
            expected=f"at most {limit}",
            fix=f"max_len={limit} in TextBlock or TextDataLoaders cuts it",
        )


def leading(mask: Tensor) -> Tensor:
    """How many tokens of padding stand before each text: [batch, 1]. By a sum, as ONNX has no cumulative product.

    Args:
        mask: True for padding, bool [batch, token].

    Examples:
        >>> leading(torch.tensor([[True, True, False, True], [False, False, False, True]])).tolist()
        [[2], [0]]
    """
    return ((~mask).cumsum(1) == 0).sum(1, keepdim=True)


def _from_the_left(
    ids: Tensor, mask: Tensor, pad_idx: int, segments: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Each text moved to the start of its row, for a position is what a model knows; an empty one is a token of padding."""
    if not ids.shape[1]:
        ids, mask = ids.new_full((len(ids), 1), pad_idx), mask.new_ones((len(ids), 1))
    time = torch.arange(ids.shape[1], device=ids.device)
    places = (time + leading(mask)) % (time[-1] + 1)  # a tensor, as ONNX divides by no size
    ids, mask = ids.gather(1, places), mask.gather(1, places)
    mask[:, 0] = False
    return ids, mask, None if segments is None else segments.to(ids.device).gather(1, places)


@modules.register("text.PooledHead")
class PooledHead(Module):
    """The head of a classifier: the vector of a text from those of its tokens, then dropout and linear layers.

    Args:
        dims: Widths: the channels of the encoder, those of hidden layers, the number of outputs.
        ps: Dropout before each layer, one fewer than `dims`.
        pool: "mean" of the tokens, the "first" or the "last".
        y_range: (low, high) that a scaled sigmoid maps the outputs into.

    Raises:
        BadValue: `ps` has the wrong length, or `pool` is unknown.

    Examples:
        >>> head = PooledHead([2, 3], [0.1])
        >>> head((torch.randn(4, 5, 2), torch.zeros(4, 5, dtype=torch.bool))).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        dims: Sequence[int],
        ps: Sequence[float],
        pool: str = "mean",
        y_range: tuple[float, float] | None = None,
    ) -> None:
        if len(ps) != len(dims) - 1:
            raise BadValue(
                "ps needs one probability for each layer",
                got=f"{len(ps)} for {len(dims) - 1} layers",
                fix=f"ps={[0.1] * (len(dims) - 1)}",
            )
        if pool not in POOLS:
            raise BadValue("unknown way to pool tokens", got=f"pool={pool!r}", expected=", ".join(map(repr, POOLS)))
        acts = [*(nn.ReLU() for _ in dims[2:]), None]
        layers: list[nn.Module] = [
            LinBnDrop(n_in, n_out, bn=False, p=p, act=act)
            for (n_in, n_out), p, act in zip(pairwise(dims), ps, acts, strict=True)
        ]
        if y_range is not None:
            layers.append(SigmoidRange(*y_range))
        self.layers, self.pool = nn.Sequential(*layers), pool

    def forward(self, encoded: tuple[Tensor, Tensor]) -> Tensor:
        out, mask = encoded
        if self.pool == "mean":
            return self.layers(masked_mean(out, mask))  # type: ignore[no-any-return]
        rows = torch.arange(len(out), device=out.device)
        return self.layers(out[rows, 0 if self.pool == "first" else (~mask).sum(1) - 1])  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"pool={self.pool!r}"


def masked_mean(output: Tensor, mask: Tensor) -> Tensor:
    """The mean of each text's outputs, without those of padding: [batch, channel]; zeros for a text that is all padding.

    Args:
        output: [batch, token, channel].
        mask: True for padding, bool [batch, token].

    Examples:
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [7.0]]]), torch.tensor([[False, False, True]]))
        tensor([[2.]])
    """
    return output.masked_fill(mask[:, :, None], 0).sum(1) / (~mask).sum(1)[:, None].clamp(min=1)


class TransformerLM(nn.Module):
    """A language model of transformers, from tokens [batch, token] to scores of the words that follow, [batch, token, word].

    Args:
        module: The model with its head.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.limit = module, position_limit(described_config(module))

    def forward(self, ids: Tensor) -> Tensor:
        check_length(ids, self.limit)
        logits: Tensor = self.module(input_ids=ids, use_cache=False).logits
        return logits


def transformer_lm_split(model: TransformerLM) -> list[list[nn.Parameter]]:
    """The parameter groups of a language model: the embeddings, then each block, the last with the head.

    Args:
        model: The language model.
    """
    return transformer_groups(model.module)


def transformer_clas_split(model: nn.Sequential) -> list[list[nn.Parameter]]:
    """The parameter groups of a classifier: the embeddings, each block of the encoder, and the head.

    Args:
        model: A `TransformerEncoder` and its head.
    """
    encoder: Any = model[0]
    return [*transformer_groups(encoder.module), params(model[1])]


def transformer_classifier(
    module: nn.Module,
    n_out: int,
    is_decoder: bool,
    pad_idx: int,
    window: int | None = None,
    pool: str | None = None,
    lin_ftrs: Sequence[int] | None = None,
    ps: Sequence[float] | None = None,
    y_range: tuple[float, float] | None = None,
    per_token: bool = False,
) -> nn.Sequential:
    """A classifier of texts on a model of transformers.

    Args:
        module: The model, without a head.
        n_out: Number of outputs.
        is_decoder: Each token sees only those before it.
        pad_idx: See `TransformerEncoder`.
        window: See `TransformerEncoder`.
        pool: See `PooledHead`; by default the last token of a decoder, which alone has seen all others, and the mean of an
            encoder's.
        lin_ftrs: Widths of hidden layers of the head; by default none.
        ps: Dropout before each of its layers; 0.1 each by default.
        y_range: (low, high) that a scaled sigmoid maps the outputs into.
        per_token: A linear layer for each token in place of the pooling head, for labels of words; `pool`, `lin_ftrs`, `ps` and
            `y_range` are not for it.

    Raises:
        BadArgument: There is such an argument for labels of words.
    """
    if per_token:
        refuse_of_pooling({"pool": pool, "lin_ftrs": lin_ftrs, "ps": ps, "y_range": y_range})
        tokens = TransformerTokens(module, is_decoder, pad_idx, window)
        return nn.Sequential(tokens, TokenClassifier(n_out, hidden_size(module), 0.1))
    dims = [hidden_size(module), *(lin_ftrs or []), n_out]
    head = PooledHead(
        dims, [0.1] * (len(dims) - 1) if ps is None else ps, pool or ("last" if is_decoder else "mean"), y_range
    )
    return nn.Sequential(TransformerEncoder(module, is_decoder, pad_idx, window), head)


def find_transformer(model: nn.Module) -> nn.Module | None:
    """The model of transformers within a classifier or a language model; None if there is none.

    Args:
        model: The model of a learner.
    """
    encoder = model[0] if isinstance(model, nn.Sequential) and len(model) else model
    return encoder.module if isinstance(encoder, (TransformerEncoder, TransformerLM)) else None
