"""Language models and classifiers of texts: they learn, go on with texts, hand their encoder on, and are kept as data."""

import json
import pickle
import threading
from contextlib import suppress

import pandas as pd
import pytest
import torch
from conftest import SMALL
from reviews import as_lm, labelled, opinion, texts
from torch import nn
from torch.testing import assert_close

from layered.foundation import (
    BadArgument,
    BadFile,
    BadValue,
    CannotRestore,
    NotFoundPath,
    Offline,
    OutOfRange,
    UnknownName,
    UnsafeFile,
)
from layered.text.all import (
    AWD_LSTM,
    BaseTokenizer,
    Callback,
    Checkpoint,
    ColReader,
    CrossEntropyLossFlat,
    DataBlock,
    HuggingFaceTokenizer,
    Interpretation,
    LMLearner,
    MultiCategoryBlock,
    Perplexity,
    RandomSplitter,
    RegressionBlock,
    TextBlock,
    TextDataLoaders,
    TextLearner,
    Tokenizer,
    accuracy,
    accuracy_multi,
    awd_lstm_lm_config,
    get_language_model,
    language_model_learner,
    load_learner,
    load_model_text,
    match_embeds,
    text_classifier_learner,
)
from layered.text.models.heads import model_meta

UNUSUAL = "an unusual film"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    monkeypatch.setenv("LAYERED_HOME", str(tmp_path / "home"))


def quiet_fit(learn, epochs, lr):
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(epochs, lr)


def by_hand(model, loader):
    """Loss and accuracy over all tokens, with the state carried from batch to batch."""
    model.eval()
    model.reset()
    losses, hits = [], []
    with torch.no_grad():
        for x, y in loader:
            scores = model(x.as_subclass(torch.Tensor))[0].flatten(0, 1)
            y = y.as_subclass(torch.Tensor).flatten()
            losses.append(nn.functional.cross_entropy(scores, y, reduction="none"))
            hits.append(scores.argmax(1) == y)
    model.reset()
    return torch.cat(losses).mean(), torch.cat(hits).float().mean()


def test_a_language_model_learns_and_reports_what_a_loop_by_hand_finds(lm):
    lm.metrics = [accuracy, Perplexity()]
    before = by_hand(lm.model, lm.dls.valid)[0]
    quiet_fit(lm, 4, 3e-2)
    loss, hits = by_hand(lm.model, lm.dls.valid)
    assert loss < before - 0.5
    assert lm.validate() == pytest.approx([loss.item(), hits.item(), loss.exp().item()], rel=1e-4)
    assert type(lm).__name__ == "LMLearner"
    assert lm.moms == (0.8, 0.7, 0.8)


def test_the_loss_that_is_learned_from_has_both_regularisations(lm):
    class Seen(Callback):
        order = 2

        def after_loss(self):
            if self.training and not hasattr(self, "loss_by_hand"):
                kept = self.learn.rnn
                raw, out = kept.raw_out, kept.out
                extra = 2 * out.pow(2).mean() + (raw[:, 1:] - raw[:, :-1]).pow(2).mean()
                self.loss_by_hand = (self.learn.loss + extra).item(), self.learn.loss_grad.item()

    seen = Seen()
    with lm.added_cbs([seen]), lm.no_bar(), lm.no_logging():
        lm.fit(1)
    assert seen.loss_by_hand[0] == pytest.approx(seen.loss_by_hand[1], rel=1e-5)


def test_a_text_goes_on_as_the_probabilities_by_hand_say(lm):
    quiet_fit(lm, 2, 3e-2)
    vocab, words = lm.dls.vocab, ["xxbos", "the", "film"]
    for _ in range(6):
        lm.model.reset()
        ids = torch.tensor([[vocab.index(word) for word in words]])
        scores = lm.model.eval()(ids).logits[0, -1]
        scores[vocab.index("xxunk")] = -torch.inf
        words.append(vocab[int(scores.argmax())])
    lm.model.reset()
    assert lm.predict("the film", 6, temperature=0).split() == [word for word in words[1:] if word != "xxbos"]


def test_what_is_drawn_depends_on_the_seed_alone(lm):
    first = lm.predict("the film", 20, seed=3)
    assert lm.predict("the film", 20, seed=3, only_last_word=True, no_bar=True) == first
    assert lm.predict("the film", 20, seed=4) != first
    state = torch.get_rng_state()
    lm.predict("the film", 20, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    other = lm.predict("the film", 20)
    torch.manual_seed(1)
    assert lm.predict("the film", 20) == other
    assert lm.predict("the film", 0) == "the film"


def test_no_word_is_drawn_that_is_in_no_text(lm):
    assert "xxfake" in lm.dls.vocab
    drawn = lm.predict("the film", 2000, temperature=50.0, seed=1).split()
    assert not {"xxfake", "xxpad", "xxunk"} & set(drawn)


def test_settings_of_drawing_are_checked(lm):
    for wrong in ({"temperature": -1}, {"min_p": 2}, {"top_p": -0.1}, {"top_k": 0}):
        with pytest.raises(OutOfRange):
            lm.predict("the film", **wrong)
    with pytest.raises(BadArgument, match="goes on with a text"):
        lm.predict(3)


def test_a_prediction_during_a_fit_changes_nothing_of_it(lm_dls, tmp_path):
    class Predicts(Callback):
        def after_batch(self):
            if self.training:
                self.learn.predict("the film", 3, seed=0)

    ends = []
    for cbs in ([], [Predicts]):
        torch.manual_seed(0)
        learn = language_model_learner(lm_dls, AWD_LSTM, config=SMALL, pretrained=False, path=tmp_path, seed=1, cbs=cbs)
        quiet_fit(learn, 2, 1e-2)
        ends.append(learn.model.state_dict())
    assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_texts_are_predicted_in_several_threads(clas):
    quiet_fit(clas, 2, 1e-2)
    items = texts(12)
    alone, found = [clas.predict(text)[2] for text in items], {}

    def work(number):
        found[number] = [clas.predict(text)[2] for text in items]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for of_thread in found.values():
        assert_close(of_thread, alone)
    assert len(found) == 3


def test_a_classifier_learns_and_predicts_one_text_as_a_batch_of_them(clas):
    quiet_fit(clas, 10, 3e-2)
    assert clas.validate()[1] > 0.9
    preds, targets = clas.get_preds()
    items = clas.dls.valid_ds.items
    for i, text in enumerate(items):
        label, number, probabilities = clas.predict(text)
        assert_close(probabilities, preds[i])
        assert label == clas.dls.vocab[1][int(number)]
        assert clas.dls.vocab[1][int(targets[i])] == opinion(text)
    assert clas.predict("The actors were great and what a great end it has")[0] == "good"
    assert clas.predict("")[2].isfinite().all()
    assert clas.predict("xxpad xxpad")[2].isfinite().all()


def test_labels_numbers_and_several_labels_have_their_own_head_and_loss(tmp_path):
    items = texts(40)
    several = labelled(items, target=MultiCategoryBlock, get_y=lambda text: [opinion(text), f"and {text.count('and')}"])
    args = {"config": SMALL, "pretrained": False, "path": tmp_path, "seq_len": 8}
    learn = text_classifier_learner(several, AWD_LSTM, metrics=accuracy_multi, **args)
    quiet_fit(learn, 1, 1e-2)
    labels, chosen, probabilities = learn.predict(items[0])
    assert [len(chosen), chosen.dtype, len(probabilities)] == [several.c, torch.bool, several.c]
    assert list(labels) == [several.vocab[1][i] for i in chosen.nonzero()[:, 0].tolist()]
    number = labelled(items, target=RegressionBlock, get_y=lambda text: float(text.count("and")))
    learn = text_classifier_learner(number, AWD_LSTM, y_range=(-1, 5), **args)
    quiet_fit(learn, 1, 1e-2)
    assert type(learn.loss_func).__name__ == "MSELossFlat"
    assert -1 < float(learn.predict(items[0])[1]) < 5


def test_the_encoder_is_handed_on_and_all_but_the_head_is_frozen(lm, clas):
    quiet_fit(lm, 1, 1e-2)
    file = lm.save_encoder("enc")
    assert file == lm.path / "models" / "enc.layered"
    assert clas.load_encoder("enc") is clas
    assert_close(clas.encoder.state_dict(), lm.encoder.state_dict())
    assert [clas.opt.frozen_idx, len(clas.opt.param_lists)] == [3, 4]  # one of them per layer: there are two
    trained = {name for name, p in clas.model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in clas.model.named_parameters() if name.startswith("1.")}
    with clas.no_bar(), clas.no_logging():
        clas.fine_tune(1, 1e-2)


def test_an_encoder_of_another_vocabulary_is_refused(lm, tmp_path):
    lm.save_encoder("enc")
    words = lm.dls.vocab
    swapped = [*words[:9], words[10], words[9], *words[11:]]
    other = text_classifier_learner(
        labelled(texts(60), vocab=swapped), AWD_LSTM, config=SMALL, pretrained=False, path=tmp_path
    )
    before = {name: x.clone() for name, x in other.model.state_dict().items()}
    with pytest.raises(CannotRestore, match="another vocabulary") as error:
        other.load_encoder("enc")
    assert f"number 9 is {words[9]!r} and {words[10]!r}" in error.value.got
    assert_close(other.model.state_dict(), before)
    with pytest.raises(NotFoundPath):
        other.load_encoder("none")


def test_rows_of_words_are_matched_and_new_words_get_the_mean():
    wgts = {"0.encoder.weight": torch.randn(5, 3), "1.decoder.bias": torch.randn(5), "other": torch.ones(2)}
    new = match_embeds(wgts, ["a", "b", "c"], ["a", "c", "d", "b"])
    for name in ("0.encoder.weight", "1.decoder.bias"):
        old = wgts[name]
        assert_close(new[name], torch.stack([old[0], old[2], old.mean(0), old[1]]))
    assert new["other"] is wgts["other"]
    with pytest.raises(BadValue, match="no word in common"):
        match_embeds(wgts, ["a"], ["b"])
    for rows in (torch.tensor(1.0), torch.ones(3, 2, dtype=torch.int64)):
        with pytest.raises(BadValue, match=r"0.encoder.weight does not hold a row of numbers for each word"):
            match_embeds({"0.encoder.weight": rows}, ["a", "b", "c"], ["a"])


@pytest.fixture
def published(tmp_path):
    """Weights and a vocabulary as they are published, of a model of small sizes; those of dropped weights included."""
    torch.manual_seed(5)
    words = [*(f"other{i}" for i in range(20)), *as_lm(texts(60)).vocab[:15]]
    model = get_language_model(AWD_LSTM, len(words), SMALL)
    weights = model.state_dict()
    weights |= {
        f"0.rnns.{i}.module.weight_hh_l0": torch.zeros_like(x)
        for i, x in enumerate([r.weight_hh_l0_raw for r in model[0].rnns])
    }
    (tmp_path / "models").mkdir(exist_ok=True)
    torch.save({"model": weights, "opt": {}}, tmp_path / "models" / "wt.pth")
    (tmp_path / "models" / "itos.pkl").write_bytes(pickle.dumps(words))
    return model.state_dict(), words


def test_published_weights_are_loaded_by_word(published, lm_dls, clas_dls, tmp_path):
    weights, words = published
    args = {"config": SMALL, "pretrained_fnames": ["wt", "itos"], "path": tmp_path}
    learn = language_model_learner(lm_dls, AWD_LSTM, **args)
    old, new = weights["0.encoder.weight"], learn.model[0].encoder.weight
    for i, word in enumerate(lm_dls.vocab):
        place = max((j for j, known in enumerate(words) if known == word), default=None)
        assert_close(new[i], old.mean(0) if place is None else old[place])
    assert learn.model[1].decoder.weight is new
    assert_close(learn.model[0].rnns[1].weight_hh_l0_raw, weights["0.rnns.1.weight_hh_l0_raw"])
    assert learn.opt.frozen_idx == len(learn.opt.param_lists) - 1
    clas = text_classifier_learner(clas_dls, AWD_LSTM, **args)
    assert_close(clas.encoder.encoder.weight, new)
    assert_close(clas.encoder.rnns[0].module.weight_ih_l0, weights["0.rnns.0.module.weight_ih_l0"])


def test_an_unpacked_download_is_found_and_used(published, lm_dls, tmp_path, monkeypatch):
    folder = tmp_path / "shared" / "wt103-fwd"
    folder.mkdir(parents=True)
    (tmp_path / "models" / "wt.pth").rename(folder / "lstm_wt103.pth")
    (folder / "._lstm_wt103.pth").write_bytes(b"what an archive of macOS has beside it")
    monkeypatch.setenv("LAYERED_DATA", str(tmp_path / "shared"))
    with pytest.raises(BadFile, match="lacks the weights"):
        language_model_learner(lm_dls, AWD_LSTM)
    (tmp_path / "models" / "itos.pkl").rename(folder / "itos_wt103.pkl")
    monkeypatch.setitem(model_meta, AWD_LSTM, model_meta[AWD_LSTM] | {"config_lm": awd_lstm_lm_config | SMALL})
    learn = language_model_learner(lm_dls, AWD_LSTM, path=tmp_path)
    assert_close(learn.model[0].rnns[1].weight_hh_l0_raw, published[0]["0.rnns.1.weight_hh_l0_raw"])


def test_weights_of_older_layouts_are_loaded(lm, tmp_path):
    (tmp_path / "models").mkdir(exist_ok=True)
    other = get_language_model(AWD_LSTM, len(lm.dls.vocab), SMALL)
    dropped = {f"0.rnns.{i}.module.weight_hh_l0": torch.zeros(64, 16) for i in range(2)}
    torch.save({"model": other.state_dict() | dropped, "opt": {}}, tmp_path / "models" / "old.pth")
    with pytest.warns(UserWarning, match="optimizer's state"):
        assert lm.load("old") is lm
    assert_close(lm.model.state_dict(), other.state_dict())
    torch.save(
        other[0].state_dict() | {"rnns.0.module.weight_hh_l0": torch.zeros(64, 16)}, tmp_path / "models" / "enc.pth"
    )
    lm.load_encoder("enc")
    file = lm.save("again")
    lm.load(file)


def test_weights_and_vocabulary_that_do_not_belong_together_are_both_named(published, lm_dls, tmp_path):
    models = tmp_path / "models"
    args = {"config": SMALL, "path": tmp_path}
    (models / "short.json").write_text(json.dumps(published[1][:-3]))
    with pytest.raises(BadValue, match="does not belong to the weights") as error:
        language_model_learner(lm_dls, AWD_LSTM, pretrained_fnames=["wt", "short"], **args)
    assert "short.json" in error.value.got
    assert "wt.pth" in error.value.got
    (models / "foreign.json").write_text(json.dumps([f"ж{i}" for i in range(len(published[1]))]))
    with pytest.raises(BadValue, match="no word in common"):
        language_model_learner(lm_dls, AWD_LSTM, pretrained_fnames=["wt", "foreign"], **args)
    with pytest.raises(CannotRestore, match="do not fit"):
        language_model_learner(
            lm_dls, AWD_LSTM, config=SMALL | {"n_hid": 20}, pretrained_fnames=["wt", "itos"], path=tmp_path
        )
    with pytest.raises(NotFoundPath, match="nothing"):
        language_model_learner(lm_dls, AWD_LSTM, pretrained_fnames=["nothing", "itos"], **args)
    with pytest.raises(BadArgument, match="two files"):
        language_model_learner(lm_dls, AWD_LSTM, pretrained_fnames="wt", **args)


class Evil:
    def __reduce__(self):
        return print, ("the file has run code",)


def test_files_that_hold_code_are_refused(published, lm_dls, tmp_path, capsys):
    models = tmp_path / "models"
    (models / "evil.pkl").write_bytes(pickle.dumps(["a", Evil()]))
    torch.save({"0.encoder.weight": Evil()}, models / "evil.pth")
    (models / "numbers.pkl").write_bytes(pickle.dumps([1, 2]))
    (models / "table.pkl").write_bytes(pickle.dumps({"a": 1}))
    args = {"config": SMALL, "path": tmp_path}
    for fnames, kind in (
        (["wt", "evil"], UnsafeFile),
        (["evil", "itos"], UnsafeFile),
        (["wt", "numbers"], BadFile),
        (["wt", "table"], BadFile),
        (["itos.pkl", "itos"], BadFile),
    ):
        with pytest.raises(kind):
            language_model_learner(lm_dls, AWD_LSTM, pretrained_fnames=fnames, **args)
    assert capsys.readouterr().out == ""


def test_without_a_network_trained_weights_are_refused_before_anything_is_built(lm_dls, clas_dls, monkeypatch):
    monkeypatch.setattr("layered.text.learner.get_language_model", None)
    monkeypatch.setattr("layered.text.learner.get_text_classifier", None)
    for make, dls in ((language_model_learner, lm_dls), (text_classifier_learner, clas_dls)):
        with pytest.raises(Offline, match="WT103_FWD") as error:
            make(dls, AWD_LSTM)
        assert "pretrained=False" in error.value.fix
        with pytest.raises(BadValue, match="usual sizes"):
            make(dls, AWD_LSTM, config=SMALL)


def test_all_scores_of_a_language_model_are_not_kept(lm, monkeypatch):
    preds, targets = lm.get_preds()
    assert isinstance(preds, (list, torch.Tensor))
    monkeypatch.setattr("layered.text.text_learner.MOST_KEPT", 1000)
    with pytest.raises(BadValue, match="fill the memory") as error:
        lm.get_preds()
    assert "stream_preds" in error.value.fix
    seen = 0
    for batch, _ in lm.stream_preds():
        assert_close(batch.sum(-1), torch.ones(batch.shape[:-1]))
        seen += batch.shape[0] * batch.shape[1]
    assert seen == sum(len(row) for row in targets)
    lm.get_preds(with_preds=False, with_loss=True)


def test_learners_are_kept_as_data(lm, clas):
    quiet_fit(lm, 1, 1e-2)
    quiet_fit(clas, 1, 1e-2)
    again = load_learner(lm.export("lm"))
    assert type(again) is type(lm)
    assert again.predict("the film", 9, seed=1) == lm.predict("the film", 9, seed=1)
    assert again.model[1].decoder.weight is again.model[0].encoder.weight
    again = load_learner(clas.export("clas"))
    assert type(again) is TextLearner
    for text in (UNUSUAL, texts(3)[0]):
        assert_close(again.predict(text)[2], clas.predict(text)[2])
    preds, _ = again.get_preds(dl=again.dls.test_dl(texts(5)))
    assert_close(preds, torch.stack([clas.predict(text)[2] for text in texts(5)]))


def test_a_model_of_ones_own_trains_with_the_callbacks_of_recurrent_models(lm_dls, tmp_path):
    class Own(nn.Module):
        def __init__(self, words):
            super().__init__()
            self.emb, self.rnn, self.out = nn.Embedding(words, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, words)
            self.drop = nn.Dropout(0.2)
            self.reset()

        def reset(self):
            self.hidden = None

        def forward(self, x):
            raw, hidden = self.rnn(self.emb(x), self.hidden)
            self.hidden = hidden.detach()
            out = self.drop(raw)
            return self.out(out), raw, out

    model = Own(len(lm_dls.vocab))
    learn = LMLearner(lm_dls, model, loss_func=CrossEntropyLossFlat(), metrics=accuracy, path=tmp_path)
    quiet_fit(learn, 2, 1e-2)
    assert learn.validate()[0] < 4
    model.hidden = torch.ones(1, 8, 8)
    assert learn.predict("the film", 4, seed=1) == learn.predict("the film", 4, seed=1)
    assert torch.equal(model.hidden, torch.ones(1, 8, 8))
    plain = TextLearner(
        lm_dls,
        nn.Sequential(nn.Embedding(len(lm_dls.vocab), 8), nn.Linear(8, len(lm_dls.vocab))),
        loss_func=CrossEntropyLossFlat(),
        path=tmp_path,
    )
    quiet_fit(plain, 1, 1e-2)


def test_what_cannot_be_learned_is_refused(clas_dls, lm_dls, lm):
    args = {"config": SMALL, "pretrained": False}
    with pytest.raises(BadValue, match="other targets") as error:
        language_model_learner(clas_dls, AWD_LSTM, **args)
    assert "is_lm=True" in error.value.fix
    with pytest.raises(BadValue, match="how many outputs") as error:
        text_classifier_learner(lm_dls, AWD_LSTM, **args)
    assert error.value.got == "loaders without targets"
    with pytest.warns(UserWarning, match="one class"):
        one = labelled(texts(20), get_y=lambda text: "a")
    with pytest.raises(BadValue, match="only one class"):
        text_classifier_learner(one, AWD_LSTM, **args)
    with pytest.raises(UnknownName, match="named 'awd_lstm'"):
        text_classifier_learner(clas_dls, "awd_lstm", pretrained=False)
    with pytest.raises(BadArgument, match="not a mapping"):
        text_classifier_learner(clas_dls, AWD_LSTM, config="small", pretrained=False)
    with pytest.raises(BadValue, match="n_words"):
        lm.predict("the film", 2.5)
    with pytest.raises(BadArgument, match="drop_mul"):
        language_model_learner(lm_dls, AWD_LSTM, drop_mul=0.3)
    with pytest.raises(BadArgument, match="metric"):
        text_classifier_learner(clas_dls, AWD_LSTM, metric=accuracy)


class Boom(Exception):
    """Somebody else's failure."""


class FailAt(Callback):
    def __init__(self, batch=-1):
        self.batch = batch

    def before_step(self):
        if self.learn.train_iter == self.batch:
            raise Boom

    def __repr__(self):
        return "FailAt"


@pytest.mark.parametrize("batch", [1, 7, 14])
def test_an_interrupted_language_model_goes_on_bit_for_bit(lm_dls, tmp_path, batch):
    def trained(folder, batch=-1, resume=None):
        torch.manual_seed(9)
        learn = language_model_learner(
            lm_dls, AWD_LSTM, config=SMALL, pretrained=False, path=folder, seed=1, cbs=FailAt(batch)
        )
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(2, 1e-2, checkpoint=Checkpoint(folder / "run", "2 batches"), resume=resume)
        return learn

    whole = trained(tmp_path / "whole")
    numbers = torch.rand(3)
    with suppress(Boom):
        trained(tmp_path / "cut", batch)
    torch.rand(5)
    again = trained(tmp_path / "cut", resume="auto")
    assert torch.equal(torch.rand(3), numbers)
    assert_close(again.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert again.recorder.values == whole.recorder.values


def test_a_backwards_model_puts_words_before_a_text(tmp_path):
    dls = TextDataLoaders.from_df(
        pd.DataFrame({"text": ["the film is good"] * 60}), is_lm=True, text_col="text", tok_tfm=BaseTokenizer(),
        backwards=True, bs=8, seq_len=5, device="cpu", seed=0,
    )  # fmt: skip
    learn = language_model_learner(dls, AWD_LSTM, config=SMALL, pretrained=False, path=tmp_path, drop_mult=0.1)
    quiet_fit(learn, 30, 5e-2)
    assert learn.predict("good", 3, temperature=0) == "the film is good"
    with pytest.raises(BadValue, match="same direction") as error:
        language_model_learner(dls, AWD_LSTM)
    assert "backwards=True" in error.value.fix
    with pytest.raises(Offline, match="WT103_BWD"):
        language_model_learner(dls, AWD_LSTM, backwards=True)
    again = load_learner(learn.export("backwards"))
    assert again.predict("good", 3, temperature=0) == "the film is good"


@pytest.mark.parametrize("tok", ["chars", "bpe"])
def test_models_of_characters_and_of_sub_words(tmp_path, tok):
    items = ["the film is good"] * 60
    if tok == "bpe":
        pytest.importorskip("tokenizers")
        tok = HuggingFaceTokenizer.train(items, vocab_sz=300)
    dls = TextDataLoaders.from_df(
        pd.DataFrame({"text": items, "label": ["a", "b"] * 30}), is_lm=True, text_col="text", tok_tfm=tok,
        bs=8, seq_len=9, device="cpu", seed=0,
    )  # fmt: skip
    learn = language_model_learner(dls, AWD_LSTM, config=SMALL, pretrained=False, path=tmp_path, drop_mult=0.1)
    quiet_fit(learn, 25, 5e-2)
    text = learn.predict("the film", 8, temperature=0)
    assert "the film is good".startswith(text) or text.startswith("the film is good")
    if tok != "chars":
        assert learn.predict("the film", 50, temperature=0) == "the film is good"  # it stops at the end token
    again = load_learner(learn.export("lm"))
    assert again.predict("the", 9, seed=0) == learn.predict("the", 9, seed=0)
    learn.save_encoder("enc")
    dls = TextDataLoaders.from_df(
        pd.DataFrame({"text": items, "label": ["a", "b"] * 30}), text_col="text", label_col="label", tok_tfm=tok,
        text_vocab=None if tok != "chars" else dls.vocab, bs=8, device="cpu", seed=0,
    )  # fmt: skip
    learn = text_classifier_learner(dls, AWD_LSTM, config=SMALL, pretrained=False, path=tmp_path).load_encoder("enc")
    quiet_fit(learn, 1, 1e-2)
    assert_close(learn.predict(items[0])[2], learn.get_preds()[0][0])


def test_the_six_lines_of_ulmfit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, text in enumerate(texts(80)):
        folder = tmp_path / "films" / ("test" if i % 5 == 0 else "train") / opinion(text)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.txt").write_text(text)
    path, small = tmp_path / "films", {"config": SMALL, "pretrained": False}
    dls = TextDataLoaders.from_folder(path, is_lm=True, valid_pct=0.1, tok_tfm=BaseTokenizer(), bs=8, device="cpu")
    lm = language_model_learner(dls, AWD_LSTM, metrics=[accuracy, Perplexity()], **small)
    quiet_fit(lm, 2, 2e-2)
    lm.save_encoder("enc")
    clas = TextDataLoaders.from_folder(
        path, valid="test", text_vocab=dls.vocab, tok_tfm=BaseTokenizer(), bs=8, device="cpu"
    )
    learn = text_classifier_learner(clas, AWD_LSTM, metrics=accuracy, **small).load_encoder("enc")
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(4, 5e-2)
    label, number, probabilities = learn.predict("What a great film!")
    assert label == clas.vocab[1][int(number)]
    assert probabilities.sum().item() == pytest.approx(1)
    learn.show_results(max_n=2)
    Interpretation.from_learner(learn).plot_top_losses(2)


@pytest.mark.parametrize("read", ["block", "getter"])
def test_texts_of_rows_go_on_from_a_text(tmp_path, read):
    df = pd.DataFrame({"text": texts(40)})
    text = TextBlock.from_df("text", is_lm=True, tok=BaseTokenizer(), seq_len=9) if read == "block" else TextBlock(
        tok_tfm=Tokenizer(BaseTokenizer()), is_lm=True, seq_len=9, min_freq=1
    )  # fmt: skip
    block = DataBlock(text, get_x=ColReader("text") if read == "getter" else None, splitter=RandomSplitter(0.2, seed=0))
    learn = language_model_learner(
        block.dataloaders(df, bs=4, device="cpu"), AWD_LSTM, config=SMALL, pretrained=False, path=tmp_path
    )
    first = learn.predict("the film is", 5, seed=0)
    assert first.startswith("the film is ")
    assert load_learner(learn.export("rows")).predict("the film is", 5, seed=0) == first


@pytest.mark.parametrize("is_old", [False, True])
def test_weights_are_read_into_a_model_without_a_learner(lm, tmp_path, is_old):
    quiet_fit(lm, 1, 1e-2)
    file, weights = lm.save("weights"), lm.model.state_dict()
    if is_old:  # with dropped copies beside the raw weights
        copies = {
            name.removesuffix("_raw").replace("weight", "module.weight") for name in weights if name.endswith("_raw")
        }
        assert copies
        torch.save({"model": {**weights, **{name: torch.zeros(1) for name in copies}}}, file := tmp_path / "old.pth")
    other = language_model_learner(lm.dls, AWD_LSTM, config=SMALL, pretrained=False, path=tmp_path)
    load_model_text(file, other.model)
    assert_close(other.model.state_dict(), weights)
    other.create_opt()
    if is_old:
        with pytest.raises(CannotRestore, match="no state of an optimizer"):
            load_model_text(file, other.model, other.opt, with_opt=True)
    else:
        load_model_text(file, other.model, other.opt)
        assert_close(other.opt.state_dict(), lm.opt.state_dict())
    small = language_model_learner(lm.dls, AWD_LSTM, config={**SMALL, "n_hid": 8}, pretrained=False, path=tmp_path)
    with pytest.raises(CannotRestore, match="weights"):
        load_model_text(file, small.model)
