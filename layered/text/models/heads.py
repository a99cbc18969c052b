"""What stands around an encoder of texts: a language model's decoder, the reading of long texts, and a classifier's head."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation import BadArgument, BadValue, function_name, modules, refuse_unknown, unknown_name
from layered.loop import Resettable
from layered.nn import LinBnDrop, Module, SigmoidRange
from layered.text.models.awd_lstm import (
    AWD_LSTM,
    RNNDropout,
    awd_lstm_clas_config,
    awd_lstm_clas_split,
    awd_lstm_lm_config,
    awd_lstm_lm_split,
)
from layered.text.types import padding_mask

model_meta: dict[Any, dict[str, Any]] = {
    AWD_LSTM: {
        "hid_name": "emb_sz",
        "url": "WT103_FWD",
        "url_bwd": "WT103_BWD",
        "config_lm": awd_lstm_lm_config,
        "split_lm": awd_lstm_lm_split,
        "config_clas": awd_lstm_clas_config,
        "split_clas": awd_lstm_clas_split,
    }
}


class RNNOutput(NamedTuple):
    """The output of a recurrent model; a loss, `predict` and metrics read the logits.

    Args:
        logits: Scores: [batch, time, word] of a language model, [batch, output] of a classifier.
        raw: The encoder's outputs before dropout, [batch, time, channel].
        dropped: The same after dropout.
    """

    logits: Tensor
    raw: Tensor
    dropped: Tensor


@modules.register("text.LinearDecoder")
class LinearDecoder(Module):
    """Dropout and a linear layer: a score for each word at each time step.

    Args:
        n_out: Number of words.
        n_hid: Channels of the encoder.
        output_p: Dropout of the encoder's outputs.
        tie_encoder: An embedding whose weights are shared.
        bias: Whether the linear layer has a bias.
    """

    initrange = 0.1

    def __init__(
        self, n_out: int, n_hid: int, output_p: float = 0.1, tie_encoder: nn.Embedding | None = None, bias: bool = True
    ) -> None:
        self.decoder = nn.Linear(n_hid, n_out, bias=bias)
        nn.init.uniform_(self.decoder.weight, -self.initrange, self.initrange)
        self.output_dp = RNNDropout(output_p)
        if bias:
            nn.init.zeros_(self.decoder.bias)
        if tie_encoder is not None:
            self.decoder.weight = tie_encoder.weight

    def forward(self, raw: Tensor) -> RNNOutput:
        dropped = self.output_dp(raw)
        return RNNOutput(self.decoder(dropped), raw, dropped)


class SequentialRNN(nn.Sequential):
    """An encoder and what takes its output; `reset()` makes them forget the state that they carry.

    Args:
        args: The parts.
    """

    def reset(self) -> None:
        """Forget the carried state."""
        for part in self:
            if isinstance(part, Resettable):
                part.reset()


@modules.register("text.SentenceEncoder")
class SentenceEncoder(Module):
    """Reads texts of any length in pieces of `bptt` tokens, carrying the state but no gradient from piece to piece.

    Padding changes nothing: it may stand before or after a text, and a text that is all padding has outputs of zero.

    Args:
        bptt: Tokens of a piece.
        module: An encoder, from tokens [batch, time] to outputs [batch, time, channel].
        pad_idx: The token that is padding where `forward` is not given a mask.
        max_len: Only the outputs of the last pieces of a text with at most so many tokens are kept; None keeps all.

    Raises:
        BadValue: `bptt` is below 1.

    Examples:
        >>> out, mask = SentenceEncoder(5, AWD_LSTM(100, 20, 10, 2))(torch.tensor([[7, 8, 9], [7, 1, 1]]))
        >>> out.shape, mask.tolist()
        (torch.Size([2, 3, 20]), [[False, False, False], [False, True, True]])
    """

    def __init__(self, bptt: int, module: nn.Module, pad_idx: int = 1, max_len: int | None = None) -> None:
        if bptt < 1:
            raise BadValue("bptt must be a number of tokens", got=bptt, expected="at least 1")
        self.bptt, self.module, self.pad_idx, self.max_len = bptt, module, pad_idx, max_len

    def reset(self) -> None:
        """Forget the carried state."""
        if isinstance(self.module, Resettable):
            self.module.reset()

    def forward(self, inp: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [batch, time, channel], and where they are padding or not kept, bool [batch, time].

        Args:
            inp: Tokens, int64 [batch, time]. What is padding is said by `padding_mask`.
        """
        mask = padding_mask(inp, self.pad_idx)
        if not inp.shape[1]:
            inp, mask = inp.new_full((len(inp), 1), self.pad_idx), mask.new_ones((len(inp), 1))
        # Moved so that each text begins with a piece, and sorted so that the rows of a piece are those that have begun.
        length, leading = inp.shape[1], mask.long().cumprod(1).sum(1)
        time = torch.arange(length, device=inp.device)
        places = (time + leading[:, None] % self.bptt) % length
        pieces, order = (leading // self.bptt).clamp(max=(length - 1) // self.bptt).sort(stable=True)
        inp, mask = inp.gather(1, places)[order], mask.gather(1, places)[order]
        kept_from = self._kept_from(mask, time)
        first, begin, outs = int(kept_from.min()), pieces.tolist(), list[Tensor]()
        self.reset()
        for start in range(begin[0] * self.bptt, length, self.bptt):
            rows = bisect_right(begin, start // self.bptt)
            out = self.module(inp[:rows, start : start + self.bptt])
            if start >= first:
                outs.append(F.pad(out, (0, 0, 0, 0, 0, len(inp) - rows)))
        self.reset()
        out, back = torch.cat(outs, 1), order.argsort()
        hidden = (mask | (time // self.bptt * self.bptt < kept_from[:, None]))[back, -out.shape[1] :]
        return out[back].masked_fill(hidden[:, :, None], 0), hidden

    def _kept_from(self, mask: Tensor, time: Tensor) -> Tensor:
        """From where on the outputs of each row are kept: there are at most `max_len` to its last token, or one piece."""
        ends = (~mask * (time + 1)).amax(1)
        ends = torch.where(ends == 0, len(time), ends)
        most = len(time) if self.max_len is None else self.max_len
        return torch.minimum(ends - most, (ends - 1) // self.bptt * self.bptt)


@modules.register("text.TokenEncoder")
class TokenEncoder(SentenceEncoder):
    """A `SentenceEncoder` that keeps all outputs, each at the place of its token, for a head that reads every one of them.

    Args:
        bptt: Tokens of a piece.
        module: An encoder, from tokens [batch, time] to outputs [batch, time, channel].
        pad_idx: The token that is padding where `forward` is not given a mask.
    """

    def __init__(self, bptt: int, module: nn.Module, pad_idx: int = 1) -> None:
        super().__init__(bptt, module, pad_idx)

    def forward(self, inp: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [batch, time, channel], and where they are padding, bool [batch, time].

        Args:
            inp: Tokens, int64 [batch, time]. What is padding is said by `padding_mask`.
        """
        out, _ = super().forward(inp)
        mask, length = padding_mask(inp, self.pad_idx), max(1, inp.shape[1])
        moved = mask.long().cumprod(1).sum(1) % self.bptt
        places = (torch.arange(length, device=inp.device) - moved[:, None]) % length
        out = F.pad(out, (0, 0, length - out.shape[1], 0))
        return out.gather(1, places[:, :, None].expand_as(out)), mask


def masked_concat_pool(output: Tensor, mask: Tensor, bptt: int) -> Tensor:
    """The last output of each text, their maximum and their mean, without those of padding: [batch, 3 * channel].

    A text that is all padding gives zeros.

    Args:
        output: [batch, time, channel].
        mask: True for padding, bool [batch, time].
        bptt: Not needed, as padding may be anywhere; accepted because it is taught.

    Examples:
        >>> masked_concat_pool(torch.tensor([[[1.0], [3.0], [7.0]]]), torch.tensor([[False, False, True]]), 72)
        tensor([[3., 3., 2.]])
    """
    hidden, real = mask[:, :, None], ~mask
    count = real.sum(1)[:, None]
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (real * places).amax(1)
    rows = torch.arange(len(output), device=output.device)
    mean = output.masked_fill(hidden, 0).sum(1) / count.clamp(min=1)
    top = output.masked_fill(hidden, -torch.inf).amax(1)
    return torch.cat([output[rows, last], top, mean], 1).masked_fill(count == 0, 0)


@modules.register("text.PoolingLinearClassifier")
class PoolingLinearClassifier(Module):
    """The head of a classifier: pools the outputs of an encoder; then layers of batch norm, dropout and a linear map.

    Args:
        dims: Widths: three times the channels of the encoder, those of the hidden layers, the number of outputs.
        ps: Dropout of each layer, one fewer than `dims`.
        bptt: Tokens of a piece of the encoder.
        y_range: (low, high) that a scaled sigmoid maps the outputs into.

    Raises:
        BadValue: `ps` has the wrong length.
    """

    def __init__(
        self, dims: Sequence[int], ps: Sequence[float], bptt: int, y_range: tuple[float, float] | None = None
    ) -> None:
        if len(ps) != len(dims) - 1:
            raise BadValue(
                "ps needs one probability for each layer",
                got=f"{len(ps)} for {len(dims) - 1} layers",
                fix=f"ps={[0.1] * (len(dims) - 1)}",
            )
        acts = [*(nn.ReLU() for _ in dims[2:]), None]
        layers: list[nn.Module] = [
            LinBnDrop(n_in, n_out, p=p, act=act) for n_in, n_out, p, act in zip(dims, dims[1:], ps, acts, strict=False)
        ]
        if y_range is not None:
            layers.append(SigmoidRange(*y_range))
        self.layers, self.bptt = nn.Sequential(*layers), bptt

    def forward(self, encoded: tuple[Tensor, Tensor]) -> RNNOutput:
        out, mask = encoded
        return RNNOutput(self.layers(masked_concat_pool(out, mask, self.bptt)), out, out)


@modules.register("text.TokenClassifier")
class TokenClassifier(LinearDecoder):
    """The head of a classifier of words: dropout and a linear layer for the output of each token. Its arguments are those of
    `LinearDecoder`."""

    def forward(self, encoded: tuple[Tensor, Tensor]) -> RNNOutput:  # type: ignore[override]  # with the mask
        return super().forward(encoded[0])


def refuse_of_pooling(given: Mapping[str, object]) -> None:
    """Refuse settings of a pooling head where each token has its own output.

    Args:
        given: The settings by name; None for those that were not given.

    Raises:
        BadArgument: One was given.
    """
    for name, value in given.items():
        if value is not None:
            raise BadArgument(
                "labels of words are predicted by a single linear layer",
                got=f"{name}={value}",
                fix=f"leave out {name}=",
            )


def find_meta(arch: Any) -> dict[str, Any]:
    """What is known of an architecture: its configurations and its parameter groups.

    Args:
        arch: The class of its encoder.

    Raises:
        UnknownName: It is not registered in `model_meta`.
    """
    if arch not in model_meta:
        known = [kind.__name__ for kind in model_meta]
        raise unknown_name("architecture for texts", arch if isinstance(arch, str) else function_name(arch), known)
    return model_meta[arch]


def checked_config(config: object) -> Mapping[str, Any]:
    """Settings of a model as a mapping; none for None.

    Args:
        config: The settings by name.

    Raises:
        BadArgument: It is not a mapping.
    """
    if config is not None and not isinstance(config, Mapping):
        raise BadArgument("config is not a mapping", got=repr(config), fix='config={"emb_sz": 100, "n_hid": 256}')
    return config or {}


def _configured(meta: Mapping[str, Any], kind: str, config: object, drop_mult: object) -> dict[str, Any]:
    """The settings of a model: the usual ones with those given, dropouts multiplied."""
    usual, config = meta[kind], checked_config(config)
    if not isinstance(drop_mult, (int, float)):
        raise BadArgument("drop_mult is not a number", got=repr(drop_mult), fix="drop_mult=0.5")
    refuse_unknown(config, usual, "config")
    settings = {**usual, **config}
    for name in settings:
        if name.endswith("_p"):
            settings[name] *= drop_mult
            if not 0 <= settings[name] <= 1:
                raise BadValue(
                    f"drop_mult makes {name} a dropout that is not a probability",
                    got=f"{settings[name] / drop_mult:g} * {drop_mult:g}",
                    expected="a number from 0 to 1",
                    fix="a smaller drop_mult",
                )
    return settings


def get_language_model(
    arch: Any, vocab_sz: int, config: Mapping[str, Any] | None = None, drop_mult: float = 1.0
) -> SequentialRNN:
    """An untrained language model: `RNNOutput`s with a score for each word of the vocabulary at each time step.

    Args:
        arch: `AWD_LSTM`.
        vocab_sz: Number of words.
        config: Settings that differ from `awd_lstm_lm_config`.
        drop_mult: Multiplies all dropouts.

    Raises:
        UnknownName: The architecture is not known.
        BadArgument: There is no such setting.
        BadValue: A dropout is not a probability.

    Examples:
        >>> model = get_language_model(AWD_LSTM, 100, {"emb_sz": 20, "n_hid": 10, "n_layers": 2})
        >>> model(torch.randint(100, (3, 5))).logits.shape  # [batch, time, word]
        torch.Size([3, 5, 100])
    """
    meta = find_meta(arch)
    settings = _configured(meta, "config_lm", config, drop_mult)
    tie_weights, output_p, out_bias = map(settings.pop, ("tie_weights", "output_p", "out_bias"))
    encoder = arch(vocab_sz, **settings)
    tied = encoder.encoder if tie_weights else None
    return SequentialRNN(encoder, LinearDecoder(vocab_sz, settings[meta["hid_name"]], output_p, tied, out_bias))


def get_text_classifier(
    arch: Any,
    vocab_sz: int,
    n_class: int,
    seq_len: int = 72,
    config: Mapping[str, Any] | None = None,
    drop_mult: float = 1.0,
    lin_ftrs: Sequence[int] | None = None,
    ps: Sequence[float] | None = None,
    pad_idx: int = 1,
    max_len: int | None = 72 * 20,
    y_range: tuple[float, float] | None = None,
    *,
    per_token: bool = False,
) -> SequentialRNN:
    """An untrained classifier of texts: an encoder that reads pieces of `seq_len` tokens, and a pooling head.

    Args:
        arch: `AWD_LSTM`.
        vocab_sz: Number of words.
        n_class: Number of outputs.
        seq_len: Tokens that the encoder reads at once; gradients flow no further.
        config: Settings that differ from `awd_lstm_clas_config`.
        drop_mult: Multiplies the dropouts in `config`.
        lin_ftrs: Widths of the hidden layers of the head; [50] by default.
        ps: Dropout of the head's layers but the first; 0.1 each by default.
        pad_idx: The token that is padding where a batch does not say so.
        max_len: The head sees about so many last tokens of a text; None for all.
        y_range: (low, high) that a scaled sigmoid maps the outputs into.
        per_token: A linear layer for each token in place of the pooling head, for labels of words; `lin_ftrs`, `ps`, `max_len`
            and `y_range` are not for it.

    Raises:
        UnknownName: The architecture is not known.
        BadArgument: There is no such setting.
        BadValue: A dropout is not a probability, or `ps` has the wrong length.

    Examples:
        >>> model = get_text_classifier(AWD_LSTM, 100, 2, config={"emb_sz": 20, "n_hid": 10, "n_layers": 2})
        >>> model(torch.randint(2, 100, (3, 5))).logits.shape
        torch.Size([3, 2])
    """
    meta = find_meta(arch)
    settings = _configured(meta, "config_clas", config, drop_mult)
    if per_token:
        refuse_of_pooling({"lin_ftrs": lin_ftrs, "ps": ps, "y_range": y_range})
        output_p = settings.pop("output_p")
        each = TokenEncoder(seq_len, arch(vocab_sz, **settings), pad_idx)
        return SequentialRNN(each, TokenClassifier(n_class, settings[meta["hid_name"]], output_p))
    hidden = [50] if lin_ftrs is None else list(lin_ftrs)
    dropouts = [settings.pop("output_p"), *([0.1] * len(hidden) if ps is None else ps)]
    encoder = SentenceEncoder(seq_len, arch(vocab_sz, **settings), pad_idx, max_len)
    dims = [3 * settings[meta["hid_name"]], *hidden, n_class]
    return SequentialRNN(encoder, PoolingLinearClassifier(dims, dropouts, seq_len, y_range))
