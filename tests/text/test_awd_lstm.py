"""AWD-LSTM equals torch's LSTM without dropout, drops what it says, and carries its state."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue, UnknownName
from layered.text.all import (
    AWD_LSTM,
    EmbeddingDropout,
    LinearDecoder,
    PoolingLinearClassifier,
    RNNDropout,
    SentenceEncoder,
    SequentialRNN,
    WeightDropout,
    awd_lstm_clas_split,
    awd_lstm_lm_split,
    dropout_mask,
    get_language_model,
    get_text_classifier,
    masked_concat_pool,
)

SMALL = {"emb_sz": 20, "n_hid": 10, "n_layers": 2}
NAMES = [
    "0.encoder.weight", "0.encoder_dp.emb.weight",
    *(
        f"0.rnns.{i}.{name}"
        for i in range(3)
        for name in (
            "weight_hh_l0_raw", "module.weight_ih_l0", "module.bias_ih_l0", "module.bias_hh_l0",
        )
    ),
    "1.decoder.weight", "1.decoder.bias",
]  # fmt: skip


@pytest.fixture(autouse=True)
def same_draws():
    torch.manual_seed(0)


def words(*shape):
    return torch.randint(2, 100, shape)


def by_torch(encoder):
    """Layers of torch with the same weights."""
    layers = []
    for rnn in encoder.rnns:
        layer = nn.LSTM(rnn.module.input_size, rnn.module.hidden_size, batch_first=True)
        layer.load_state_dict(
            {name: getattr(rnn, f"{name}_raw", getattr(rnn.module, name, None)) for name in rnn.names}
        )
        layers.append(layer)
    return layers


def test_a_mask_is_zero_or_the_inverse_of_what_stays():
    mask = dropout_mask(torch.randn(3, 4), [4000, 3], 0.25)
    assert mask.shape == (4000, 3)
    assert ((mask == 4 / 3) | (mask == 0)).all()
    assert (mask == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (dropout_mask(torch.ones(1), [5], 1.0) == 0).all()


def test_channels_are_dropped_for_all_time_steps_of_a_text_alike():
    x = torch.randn(8, 6, 50)
    dropped = RNNDropout(0.3)(x)
    kept = dropped != 0
    assert (kept == kept[:, :1]).all()
    assert_close(dropped[kept], x[kept] / 0.7)
    assert len({tuple(row) for row in kept[:, 0].tolist()}) == 8  # each text its own
    layer = RNNDropout(0.3).eval()
    assert layer(x) is x


def test_words_are_dropped_at_all_their_places_alike():
    emb = nn.Embedding(10, 7, padding_idx=1)
    dropout = EmbeddingDropout(emb, 0.5)
    x = torch.randint(0, 10, (8, 5))
    out, plain = dropout(x), emb(x)
    dropped = (out == 0).all(-1)
    assert_close(out[~dropped], plain[~dropped] * 2)
    assert all(len(set(dropped[x == word].tolist())) == 1 for word in range(10) if (x == word).any())
    dropout.eval()
    assert_close(dropout(x), plain)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_weights_are_dropped_and_the_raw_ones_trained(kind):
    layer = kind(5, 7)
    whole = copy.deepcopy(layer)
    dropping = WeightDropout(layer, 0.4)
    x = torch.randn(10, 20, 5)
    out, _ = dropping(x)
    out.sum().backward()
    grad = dropping.weight_hh_l0_raw.grad
    assert 0.2 <= (grad == 0).float().mean() <= 0.6  # of dropped weights
    assert not hasattr(layer, "weight_hh_l0")
    assert_close(dropping.eval()(x), whole(x))
    copied = copy.deepcopy(dropping)
    assert_close(copied(x), whole(x))


def test_only_recurrent_layers_have_recurrent_weights():
    with pytest.raises(BadArgument, match="recurrent"):
        WeightDropout(nn.Linear(2, 3), 0.5)
    with pytest.raises(BadArgument, match="recurrent"):
        WeightDropout(nn.LSTM(2, 3), 0.5, "weight_hh_l1")


def test_the_encoder_equals_layers_of_torch_without_dropout():
    encoder, x = AWD_LSTM(100, **SMALL).eval(), words(4, 9)
    expected = encoder.encoder(x)
    for layer in by_torch(encoder):
        expected, _ = layer(expected)
    assert_close(encoder(x), expected)


def test_the_state_is_carried_to_the_next_batch():
    encoder, x = AWD_LSTM(100, **SMALL).eval(), words(4, 9)
    whole = encoder(x)
    encoder.reset()
    assert_close(torch.cat([encoder(x[:, :4]), encoder(x[:, 4:])], 1), whole)
    assert encoder.bs == 4
    assert [tuple(h.shape) for h in encoder.hidden[0]] == [(1, 4, 10)] * 2
    assert_close(encoder.hidden[-1][0][0], whole[:, -1])
    assert not encoder.hidden[0][0].requires_grad


def test_rows_are_continued_when_the_batch_size_changes():
    encoder, x = AWD_LSTM(100, **SMALL).eval(), words(4, 9)
    whole = encoder(x)
    encoder.reset()
    encoder(x[:, :4])
    assert_close(encoder(x[:2, 4:]), whole[:2, 4:])  # the first rows go on
    encoder.reset()
    encoder(x[:2, :4])
    longer = encoder(x[:, 4:])
    assert_close(longer[:2], whole[:2, 4:])
    encoder.reset()
    assert_close(longer[2:], encoder(x[2:, 4:]))  # the others begin


def test_dropout_draws_from_torchs_generator():
    encoder, x = AWD_LSTM(100, **SMALL), words(4, 9)
    state = torch.get_rng_state()
    first = encoder(x)
    encoder.reset()
    other = encoder(x)
    torch.set_rng_state(state)
    encoder.reset()
    assert_close(encoder(x), first)
    assert not torch.equal(first, other)


def test_a_text_is_read_from_both_sides():
    encoder, x = AWD_LSTM(100, **SMALL, bidir=True).eval(), words(4, 9)
    assert encoder(x).shape == (4, 9, 20)
    layer = nn.LSTM(20, 5, batch_first=True, bidirectional=True)
    first = encoder.rnns[0]
    layer.load_state_dict({n: getattr(first, f"{n}_raw", getattr(first.module, n, None)) for n in first.names})
    assert_close(first(encoder.encoder(x))[0], layer(encoder.encoder(x))[0])


def test_the_names_of_the_weights_are_those_of_the_published_models():
    model = get_language_model(AWD_LSTM, 60)
    assert sorted(model.state_dict()) == sorted(NAMES)
    assert model[1].decoder.weight is model[0].encoder.weight
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    assert shapes["0.rnns.0.weight_hh_l0_raw"] == (4 * 1152, 1152)
    assert shapes["0.rnns.2.module.weight_ih_l0"] == (1600, 1152)
    assert shapes["1.decoder.bias"] == (60,)
    assert (
        "0.module.rnns.2.weight_hh_l0_raw"
        in get_text_classifier(AWD_LSTM, 60, 2, config=SMALL | {"n_layers": 3}).state_dict()
    )


def test_the_usual_dropouts_are_multiplied():
    model = get_language_model(AWD_LSTM, 60, drop_mult=0.5)
    encoder = model[0]
    assert [model[1].output_dp.p, encoder.hidden_dps[0].p, encoder.input_dp.p] == [0.05, 0.075, 0.125]
    assert [encoder.encoder_dp.embed_p, encoder.rnns[0].weight_p] == [0.01, 0.1]
    clas = get_text_classifier(AWD_LSTM, 60, 2, drop_mult=0.5)
    encoder, head = clas[0].module, clas[1].layers
    assert [encoder.hidden_dps[0].p, encoder.input_dp.p, encoder.rnns[0].weight_p] == [0.15, 0.2, 0.25]
    assert [type(layer).__name__ for block in head for layer in block] == (
        ["BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear"]
    )
    assert [head[0][0].num_features, head[0][1].p, head[0][2].out_features, head[1][1].p] == [1200, 0.2, 50, 0.1]
    assert [block[2].bias for block in head] == [None, None]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(BadValue, match="drop_mult"):
        get_language_model(AWD_LSTM, 60, drop_mult=9)
    with pytest.raises(BadArgument, match="n_layer"):
        get_language_model(AWD_LSTM, 60, {"n_layer": 2})
    with pytest.raises(BadArgument, match="tie_weights"):
        get_text_classifier(AWD_LSTM, 60, 2, config={"tie_weights": True})
    with pytest.raises(UnknownName, match="LSTM"):
        get_language_model(nn.LSTM, 60)
    with pytest.raises(BadValue, match="even"):
        AWD_LSTM(10, 5, 4, 2, bidir=True)
    with pytest.raises(BadValue, match="ps"):
        get_text_classifier(AWD_LSTM, 60, 2, config=SMALL, lin_ftrs=[30, 20], ps=[0.1])


def test_a_language_model_returns_scores_and_both_kinds_of_outputs():
    model = get_language_model(AWD_LSTM, 100, SMALL)
    y = model(words(10, 5))
    assert [tuple(part.shape) for part in y] == [(10, 5, 100), (10, 5, 20), (10, 5, 20)]
    assert y.logits is y[0]
    kept = y.dropped != 0
    assert_close(y.dropped[kept], y.raw[kept] / 0.9)
    own = LinearDecoder(100, 20, bias=False)
    assert own.decoder.bias is None
    assert own.decoder.weight.abs().max() <= 0.1
    untied = get_language_model(AWD_LSTM, 100, SMALL | {"tie_weights": False})
    assert untied[1].decoder.weight is not untied[0].encoder.weight


def test_groups_of_parameters():
    lm = get_language_model(AWD_LSTM, 100, SMALL | {"n_layers": 3})
    groups = awd_lstm_lm_split(lm)
    assert [len(group) for group in groups] == [4, 4, 4, 2]
    assert {id(p) for group in groups for p in group} == {id(p) for p in lm.parameters()}
    clas = get_text_classifier(AWD_LSTM, 100, 2, config=SMALL | {"n_layers": 3})
    groups = awd_lstm_clas_split(clas)
    assert [len(group) for group in groups] == [1, 4, 4, 4, 6]
    assert {id(p) for group in groups for p in group} == {id(p) for p in clas.parameters()}


def test_pooling_by_hand():
    out = torch.randn(2, 4, 5)
    mask = torch.tensor([[True, True, False, False], [False, False, False, True]])
    x = masked_concat_pool(out, mask, 2)
    assert_close(x[0], torch.cat([out[0, -1], out[0, 2:].amax(0), out[0, 2:].mean(0)]))
    assert_close(x[1], torch.cat([out[1, -2], out[1, :3].amax(0), out[1, :3].mean(0)]))
    spoilt = out.masked_fill(mask[:, :, None], 1e9)
    assert_close(masked_concat_pool(spoilt, mask, 2), x)
    assert_close(masked_concat_pool(out, torch.ones(2, 4, dtype=torch.bool), 2), torch.zeros(2, 15))


def test_long_texts_are_read_in_pieces_and_their_end_is_kept():
    emb = nn.Embedding(5, 10)
    encoder = SentenceEncoder(5, emb, pad_idx=0)
    x = torch.randint(1, 5, (3, 15))
    x[2, :5] = 0
    out, mask = encoder(x)
    assert_close(out[:2], emb(x)[:2])
    assert_close(out[2, 5:], emb(x)[2, 5:])
    assert_close(mask, x == 0)
    out, mask = SentenceEncoder(5, emb, pad_idx=0, max_len=10)(x)
    assert_close(out, emb(x)[:, 5:])
    assert not mask.any()


@pytest.mark.parametrize("max_len", [None, 10, 7, 3])
@pytest.mark.parametrize("length", [1, 4, 5, 7, 10, 13])
def test_padding_changes_nothing_wherever_it_stands(length, max_len):
    model = get_text_classifier(AWD_LSTM, 100, 3, seq_len=5, config=SMALL, max_len=max_len).eval()
    text, other = words(1, length), words(1, 13)
    alone = model(text)[0]
    for before in range(14 - length):
        padded = torch.ones(1, 13, dtype=torch.long)
        padded[:, before : before + length] = text
        for batch, row in ((padded, 0), (torch.cat([padded, other]), 0), (torch.cat([other, padded]), 1)):
            assert_close(model(batch)[0][row], alone[0])


def test_pieces_give_what_the_whole_text_gives():
    model, x = get_text_classifier(AWD_LSTM, 100, 3, seq_len=5, config=SMALL).eval(), words(4, 13)
    encoder = model[0].module
    whole = encoder(x)
    pooled = torch.cat([whole[:, -1], whole.amax(1), whole.mean(1)], 1)
    assert_close(model(x)[0], model[1].layers(pooled))
    assert encoder.hidden is None


def test_the_mark_of_the_loader_decides_what_is_padding():
    model = get_text_classifier(AWD_LSTM, 100, 3, seq_len=5, config=SMALL).eval()
    x = words(2, 6)
    x[0, 2] = 1
    marked = x.clone()
    marked.padding = torch.zeros(2, 6, dtype=torch.bool)
    other = x.clone()
    other[0, 2] = 50
    assert not torch.allclose(model(marked)[0][0], model(other)[0][0])
    full = model[0](marked)[0]
    model[0].module.reset()
    assert_close(full, torch.cat([model[0].module(x[:, :5]), model[0].module(x[:, 5:])], 1))
    ends = words(2, 6)
    ends.padding = torch.zeros(2, 6, dtype=torch.bool)
    ends.padding[1, 4:] = True
    assert_close(model(ends)[0][1:], model(ends[1:, :4])[0])


@pytest.mark.parametrize("shape", [(2, 0), (2, 5), (2, 7), (1, 12)])
def test_a_text_of_padding_alone_gives_finite_numbers(shape):
    model = get_text_classifier(AWD_LSTM, 100, 3, seq_len=5, config=SMALL).eval()
    x = torch.ones(shape, dtype=torch.long)
    out = model(x)[0]
    assert out.shape == (shape[0], 3)
    assert out.isfinite().all()
    if shape[1]:
        mixed = model(torch.cat([x, words(1, shape[1])]))[0]
        assert_close(mixed[: shape[0]], out)
    model.train()
    if shape[0] > 1:
        model(x)[0].sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_range_of_outputs():
    model = get_text_classifier(AWD_LSTM, 100, 1, config=SMALL, y_range=(-4, 4)).eval()
    out = model(words(6, 5))[0]
    assert ((out > -4) & (out < 4)).all()
    with torch.no_grad():
        model[1].layers[-2][-1].weight.fill_(1e6)
    assert model(words(6, 5))[0].abs().max() <= 4


def test_parts_may_be_put_together_by_hand():
    model = SequentialRNN(AWD_LSTM(100, **SMALL), LinearDecoder(100, 20))
    model(words(2, 3))
    assert model[0].hidden is not None
    model.reset()
    assert model[0].hidden is None
    head = PoolingLinearClassifier([60, 2], [0.0], 5)
    assert SequentialRNN(SentenceEncoder(5, AWD_LSTM(100, **SMALL)), head)(words(4, 7))[0].shape == (4, 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    model = get_language_model(AWD_LSTM, 100, SMALL).to(dtype)
    model(words(2, 3))
    assert model(words(2, 3)).logits.dtype == dtype


def test_autocast():
    model = get_language_model(AWD_LSTM, 100, SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        model(words(2, 3))
        model(words(2, 3)).logits.float().sum().backward()
    assert model(words(2, 3)).logits.dtype == torch.float32
    assert model[0].rnns[0].weight_hh_l0_raw.grad.isfinite().all()
