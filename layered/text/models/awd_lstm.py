"""AWD-LSTM: layers of LSTM whose recurrent weights, inputs, outputs and embeddings are dropped out.

Source: Merity et al. 2017, arXiv:1708.02182
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation import BadArgument, BadValue, map_tree, modules, to_detach
from layered.nn import Module
from layered.optim import params

_RUN: dict[str, Any] = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}


def dropout_mask(x: Tensor, sz: Sequence[int], p: float) -> Tensor:
    """What a dropout multiplies with: 0 with probability `p`, else 1 / (1 - p). Drawn from torch's generator of the device.

    Args:
        x: A tensor of the device and dtype that the mask is to have.
        sz: The shape of the mask.
        p: The probability of a zero, in [0, 1].

    Examples:
        >>> sorted(set(dropout_mask(torch.zeros(1), [1000], 0.5).tolist()))
        [0.0, 2.0]
    """
    return F.dropout(x.new_ones(tuple(sz)), p)


class RNNDropout(Module):
    """Dropout that drops the same channels at all time steps of a text.

    Args:
        p: The probability that a channel of a text is dropped.

    Examples:
        >>> dropped = RNNDropout(0.5)(torch.ones(8, 3, 4))
        >>> bool((dropped == dropped[:, :1]).all())
        True
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = checked_share("p", p)

    def forward(self, x: Tensor) -> Tensor:  # [batch, time, channel]
        if not self.training or not self.p:
            return x
        return x * dropout_mask(x, (x.shape[0], 1, *x.shape[2:]), self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class WeightDropout(nn.Module):
    """A recurrent layer whose recurrent weights are dropped out in training: one mask for all time steps of a batch.

    The weights that are trained are parameters of this module, named `weight_hh_l0_raw`; the dropped ones are never stored.

    Args:
        module: An `nn.LSTM`, `nn.GRU` or `nn.RNN`, which gives its recurrent weights away.
        weight_p: The probability that a weight is dropped.
        layer_names: The names of these weights.

    Raises:
        BadArgument: The module is not recurrent, or has no such weights.

    Examples:
        >>> layer = WeightDropout(nn.LSTM(2, 3, batch_first=True), 0.5)
        >>> out, (h, c) = layer(torch.randn(4, 5, 2))
        >>> out.shape, layer.weight_hh_l0_raw.shape
        (torch.Size([4, 5, 3]), torch.Size([12, 3]))
    """

    def __init__(self, module: nn.RNNBase, weight_p: float, layer_names: str | Sequence[str] = "weight_hh_l0") -> None:
        super().__init__()
        layer_names = [layer_names] if isinstance(layer_names, str) else list(layer_names)
        self.names = [name for name, _ in module.named_parameters()] if isinstance(module, nn.RNNBase) else []
        if not set(layer_names) <= set(self.names):
            raise BadArgument(
                "WeightDropout needs the recurrent weights of a recurrent layer",
                got=f"{type(module).__name__} and layer_names={layer_names}",
                expected="an nn.LSTM, nn.GRU or nn.RNN, and names of its parameters",
                fix="WeightDropout(nn.LSTM(n_in, n_out, batch_first=True), 0.5, 'weight_hh_l0')",
            )
        self.module, self.weight_p, self.layer_names = module, checked_share("weight_p", weight_p), layer_names
        for name in layer_names:
            self.register_parameter(f"{name}_raw", getattr(module, name))
            delattr(module, name)
        module._init_flat_weights()  # which would keep what was given away

    def forward(self, x: Tensor, hidden: Any = None) -> tuple[Tensor, Any]:
        """The layer's outputs, and its state after the last time step.

        Args:
            x: [batch, time, channel], or [time, batch, channel] as the layer was built.
            hidden: Its state before the first one; by default zeros.
        """
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):  # for which few processors have torch's LSTM
            with torch.autocast("cpu", enabled=False):
                return self.forward(x.float(), map_tree(lambda h: None if h is None else h.float(), hidden))
        rnn = self.module
        if hidden is None:
            rows = (rnn.num_layers * (2 if rnn.bidirectional else 1), x.shape[0 if rnn.batch_first else 1])
            hidden = x.new_zeros(*rows, rnn.proj_size or rnn.hidden_size)
            if rnn.mode == "LSTM":
                hidden = hidden, x.new_zeros(*rows, rnn.hidden_size)
        out, *state = _RUN[rnn.mode](
            x, hidden, [self._weight(name) for name in self.names], rnn.bias, rnn.num_layers, rnn.dropout, rnn.training,
            rnn.bidirectional, rnn.batch_first,
        )  # fmt: skip
        return out, tuple(state) if rnn.mode == "LSTM" else state[0]

    def _weight(self, name: str) -> Tensor:
        if name not in self.layer_names:
            return getattr(self.module, name)  # type: ignore[no-any-return]
        return F.dropout(getattr(self, f"{name}_raw"), self.weight_p, self.training)

    def extra_repr(self) -> str:
        return f"weight_p={self.weight_p}"


class EmbeddingDropout(nn.Module):
    """An embedding that drops whole words in training: all places of a word in the batch.

    Args:
        emb: The embedding.
        embed_p: The probability that a word is dropped.

    Examples:
        >>> words = EmbeddingDropout(nn.Embedding(9, 4), 0.5)(torch.tensor([[1, 2, 1]]))
        >>> bool((words[0, 0] == words[0, 2]).all())
        True
    """

    def __init__(self, emb: nn.Embedding, embed_p: float) -> None:
        super().__init__()
        self.emb, self.embed_p = emb, checked_share("embed_p", embed_p)

    def forward(self, words: Tensor, scale: float | None = None) -> Tensor:
        """The vectors of words, [batch, time, channel].

        Args:
            words: Indices of words, int64 [batch, time].
            scale: A factor for all vectors.
        """
        vectors = self.emb(words)
        if self.training and self.embed_p:
            vectors = vectors * dropout_mask(vectors, (self.emb.num_embeddings, 1), self.embed_p)[words]
        return vectors if scale is None else vectors * scale  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"embed_p={self.embed_p}"


@modules.register("text.AWD_LSTM")
class AWD_LSTM(Module):
    """The encoder of ULMFiT: an embedding and layers of LSTM, with five kinds of dropout.

    It carries its state from batch to batch, without gradients, until `reset()`. A batch with more rows than the one before
    continues its rows and begins the others anew; one with fewer rows continues the first.

    Args:
        vocab_sz: Number of words.
        emb_sz: Length of the vector of a word, and of the last layer's output.
        n_hid: Channels between the layers.
        n_layers: Number of layers.
        pad_token: The word whose vector is not trained, as it stands for nothing; None for none.
        hidden_p: Dropout between the layers.
        input_p: Dropout of the vectors of words.
        embed_p: Dropout of words.
        weight_p: Dropout of recurrent weights.
        bidir: Read each text backwards too; half of the channels are for that.

    Raises:
        BadValue: A size is below 1, or a probability outside [0, 1].

    Examples:
        >>> encoder = AWD_LSTM(100, emb_sz=20, n_hid=10, n_layers=2)
        >>> encoder(torch.randint(100, (3, 5))).shape  # [batch, time, channel]
        torch.Size([3, 5, 20])
    """

    initrange = 0.1
    hidden: list[tuple[Tensor, Tensor]] | None  # of each layer: [direction, row, channel]

    def __init__(
        self,
        vocab_sz: int,
        emb_sz: int,
        n_hid: int,
        n_layers: int,
        pad_token: int | None = 1,
        hidden_p: float = 0.2,
        input_p: float = 0.6,
        embed_p: float = 0.1,
        weight_p: float = 0.5,
        bidir: bool = False,
    ) -> None:
        for name, size in (("vocab_sz", vocab_sz), ("emb_sz", emb_sz), ("n_hid", n_hid), ("n_layers", n_layers)):
            if size < 1:
                raise BadValue(f"{name} is too small", got=size, expected="a positive whole number")
        n_dir = 2 if bidir else 1
        if bidir and (emb_sz % 2 or n_hid % 2):
            raise BadValue("bidir=True needs an even number of channels", got=f"emb_sz={emb_sz}, n_hid={n_hid}")
        self.emb_sz, self.n_hid, self.n_layers, self.pad_token = emb_sz, n_hid, n_layers, pad_token
        self.encoder = nn.Embedding(vocab_sz, emb_sz, padding_idx=pad_token)
        self.encoder_dp = EmbeddingDropout(self.encoder, embed_p)
        sizes = [emb_sz, *[n_hid] * (n_layers - 1), emb_sz]
        recurrent = ["weight_hh_l0", "weight_hh_l0_reverse"][:n_dir]
        self.rnns = nn.ModuleList(
            WeightDropout(nn.LSTM(n_in, n_out // n_dir, batch_first=True, bidirectional=bidir), weight_p, recurrent)
            for n_in, n_out in itertools.pairwise(sizes)
        )
        nn.init.uniform_(self.encoder.weight, -self.initrange, self.initrange)
        self.input_dp = RNNDropout(input_p)
        self.hidden_dps = nn.ModuleList(RNNDropout(hidden_p) for _ in range(n_layers))
        self.reset()

    def forward(self, inp: Tensor, from_embeds: bool = False) -> Tensor:
        """The last layer's outputs before dropout, [batch, time, channel].

        Args:
            inp: Indices of words, int64 [batch, time]; or their vectors.
            from_embeds: Whether `inp` are vectors, float [batch, time, channel].
        """
        out = self.input_dp(inp if from_embeds else self.encoder_dp(inp))
        before, after = _for_batch(self.hidden, out), []
        for i, (rnn, dropout) in enumerate(zip(self.rnns, self.hidden_dps, strict=True)):
            out, state = rnn(out, before and before[i])
            after.append(state)
            if i < self.n_layers - 1:
                out = dropout(out)
        self.hidden = to_detach(after, cpu=False)
        return out  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Forget the carried state."""
        self.hidden = None

    @property
    def bs(self) -> int:
        """The number of rows of the carried state; 0 if there is none."""
        return self.hidden[0][0].shape[1] if self.hidden else 0


def _for_batch(hidden: list[tuple[Tensor, Tensor]] | None, x: Tensor) -> list[tuple[Tensor, Tensor]] | None:
    """The carried state of each layer for the rows of a batch [batch, time, channel]; rows beyond those carried begin at zero."""

    def fitted(state: Tensor) -> Tensor:  # [direction, row, channel]
        state = state[:, : len(x)].to(x)
        missing = len(x) - state.shape[1]
        return F.pad(state, (0, 0, 0, missing)) if missing else state

    return None if hidden is None else [(fitted(h), fitted(c)) for h, c in hidden]


def checked_share(name: str, p: float) -> float:
    """A dropout probability, after checking that it is one.

    Args:
        name: What it is, for the message.
        p: The probability, in [0, 1].

    Raises:
        BadValue: It is outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise BadValue(f"{name} is not a valid probability", got=p, expected="a number from 0 to 1")
    return p


awd_lstm_lm_config: dict[str, Any] = {
    "emb_sz": 400, "n_hid": 1152, "n_layers": 3, "pad_token": 1, "bidir": False, "output_p": 0.1, "hidden_p": 0.15,
    "input_p": 0.25, "embed_p": 0.02, "weight_p": 0.2, "tie_weights": True, "out_bias": True,
}  # fmt: skip
awd_lstm_clas_config: dict[str, Any] = {
    "emb_sz": 400, "n_hid": 1152, "n_layers": 3, "pad_token": 1, "bidir": False, "output_p": 0.4, "hidden_p": 0.3,
    "input_p": 0.4, "embed_p": 0.05, "weight_p": 0.5,
}  # fmt: skip


def awd_lstm_lm_split(model: nn.Sequential) -> list[list[nn.Parameter]]:
    """The parameter groups of a language model: one for each layer of LSTM, then embedding and decoder.

    Args:
        model: An AWD-LSTM and its decoder.
    """
    encoder: Any = model[0]
    return [*map(params, encoder.rnns), params(nn.ModuleList([encoder.encoder, model[1]]))]


def awd_lstm_clas_split(model: nn.Sequential) -> list[list[nn.Parameter]]:
    """The parameter groups of a classifier: the embedding, one for each layer of LSTM, and the head.

    Args:
        model: A `SentenceEncoder` of an AWD-LSTM, and its head.
    """
    encoder: Any = model[0].module
    return [params(encoder.encoder), *map(params, encoder.rnns), params(model[1])]
