"""Encoders and decoders of Hugging Face as classifiers: what they compute, their groups, what is refused, and what is kept."""

import json
from contextlib import suppress

import pandas as pd
import pytest
import torch
import transformers
from reviews import opinion, texts
from tiny_transformers import DECODERS, KINDS, loaders, tiny, tokenizer, write_folder
from torch import nn
from torch.testing import assert_close

from layered.files import read_archive, write_archive
from layered.foundation import BadArgument, BadFile, BadValue, CannotRestore, NotFoundPath, UnknownName, UnsafeFile
from layered.text.all import (
    AWD_LSTM,
    Callback,
    Checkpoint,
    EntityF1,
    HuggingFaceTokenizer,
    Interpretation,
    MultiCategoryBlock,
    Pad_Input,
    RegressionBlock,
    TensorText,
    TextDataLoaders,
    TokenCategoryBlock,
    accuracy,
    accuracy_multi,
    load_learner,
    most_similar,
    text_classifier_learner,
)

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("gpt2"), "gpt2")


@pytest.fixture
def learn(bert, tmp_path):
    return text_classifier_learner(loaders(bert), bert, metrics=accuracy, path=tmp_path, seed=1)


def quiet(learn, verb, *args, **kwargs):
    with learn.no_bar(), learn.no_logging():
        getattr(learn, verb)(*args, **kwargs)


def by_hand(model, texts, tok, head):
    """Scores of texts, one by one, without padding: the mean of an encoder's tokens, the last one of a decoder's."""
    rows = []
    for text in texts:
        hidden = model(torch.tensor([tok(text).tolist()])).last_hidden_state[0]
        rows.append(hidden[-1] if type(model).__name__[:4] in ("GPT2", "Llam") else hidden.mean(0))
    return head(torch.stack(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_each_text_alone(kind, tmp_path):
    model = tiny(kind).eval()
    dls = loaders(tokenizer(kind in DECODERS))
    learn = text_classifier_learner(dls, model, path=tmp_path)
    preds, _ = learn.get_preds()
    items = dls.valid_ds.items
    with torch.inference_mode():
        wanted = by_hand(model, items, HuggingFaceTokenizer(tokenizer(kind in DECODERS)), learn.model[1].layers.eval())
    assert_close(preds, wanted.softmax(1))
    for text, row in zip(items[:3], preds, strict=False):
        assert_close(learn.predict(text)[2], row)
    assert learn.predict("")[2].isfinite().all()


@pytest.mark.parametrize(("given", "ratio"), [({}, 4), ({"lr_mult": 10}, 10)])
def test_fine_tune_lets_the_first_block_learn_at_a_quarter_of_the_rate(learn, given, ratio):
    quiet(learn, "fine_tune", 1, 1e-3, **given)
    rates = [group["lr"] for group in learn.opt.hypers]
    assert rates[-1] / rates[0] == pytest.approx(ratio)
    assert learn.opt.frozen_idx == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_groups_are_embeddings_blocks_and_head(kind, tmp_path):
    learn = text_classifier_learner(loaders(tokenizer(kind in DECODERS)), tiny(kind), path=tmp_path)
    learn.create_opt()
    names = {p: name for name, p in learn.model.named_parameters()}
    groups = [[names[p] for p in group] for group in learn.opt.param_lists]
    assert len(groups) == (3 if kind == "albert" else 4)  # whose layers share their weights
    assert sorted(name for group in groups for name in group) == sorted(names.values())
    assert any("emb" in name or "wte" in name for name in groups[0])
    assert not any("layer." in name or ".h." in name or "layers." in name for name in groups[0])
    assert all(name.startswith("1.") for name in groups[-1])
    shown = learn.summary()
    assert {row.group for row in shown.rows if row.params} == set(range(len(groups)))


def test_padding_changes_nothing_wherever_it_stands_and_whatever_its_index(tmp_path):
    tok = HuggingFaceTokenizer(tokenizer())
    model = text_classifier_learner(loaders(tokenizer()), tiny("roberta"), path=tmp_path).model.eval()
    ids = [tok("a film"), tok("the film is great and fine"), tok("a film")]
    alone = torch.cat([model(text[None]) for text in ids])
    for padding in (Pad_Input(1), Pad_Input(1, pad_first=True), Pad_Input(5), Pad_Input(3, pad_first=True)):
        rows = torch.stack(padding.padded(ids))
        rows.padding = torch.stack([row.padding for row in padding.padded(ids)])
        assert_close(model(rows.as_plain()), alone)


def test_a_token_of_the_text_is_read_even_if_it_is_that_which_pads(tmp_path):
    tok = tokenizer(is_decoder=True)
    learn = text_classifier_learner(loaders(tok, max_len=None), tiny("gpt2"), path=tmp_path)
    plain, ended = (learn.predict(text)[2] for text in ("a great film", "a great film<end>"))
    assert not torch.equal(plain, ended)
    seen = HuggingFaceTokenizer(tok)("a great film<end>")
    hidden = learn.model[0].module.eval()(torch.tensor([seen.tolist()])).last_hidden_state[0, -1]
    assert_close(ended, learn.model[1].layers.eval()(hidden).softmax(0).detach())


def test_a_classifier_learns(learn):
    learn.unfreeze()
    quiet(learn, "fit_one_cycle", 6, 1e-2)
    assert learn.validate()[1] > 0.9
    assert learn.predict("The actors were great and what a great end it has")[0] == "good"
    preds, targets = learn.get_preds()
    assert [learn.dls.vocab[1][int(i)] for i in targets] == [opinion(text) for text in learn.dls.valid_ds.items]
    assert_close((preds.argmax(1) == targets).float().mean().item(), learn.validate()[1])


def test_a_trained_body_is_frozen_as_a_whole_until_it_is_thawed(learn):
    before = {name: x.clone() for name, x in learn.model[0].state_dict().items()}
    quiet(learn, "fit_one_cycle", 1, 1e-2)
    assert_close(learn.model[0].state_dict(), before, rtol=0, atol=0)
    learn.freeze_to(-2)
    quiet(learn, "fit_one_cycle", 1, slice(1e-3, 1e-2))
    moved = {name for name, x in learn.model[0].state_dict().items() if not torch.equal(x, before[name])}
    assert moved
    assert all(name.startswith("module.encoder.layer.1.") for name in moved)


def test_numbers_of_16_bits_give_nearly_the_same(learn):
    before = learn.get_preds()[0]
    assert_close(learn.to_bf16().get_preds()[0], before, atol=2e-2, rtol=0)
    quiet(learn, "fit_one_cycle", 1, 1e-3)
    assert next(learn.model.parameters()).dtype == torch.float32


def test_results_and_top_losses_are_shown(learn, capsys):
    learn.show_results(max_n=3)
    assert "category predicted" in capsys.readouterr().out
    with learn.no_bar():
        Interpretation.from_learner(learn).plot_top_losses(3)
    assert "loss" in capsys.readouterr().out


def test_labels_numbers_and_several_labels_have_their_own_head_and_loss(bert, tmp_path):
    items = texts(40)
    several = loaders(bert, items, MultiCategoryBlock, lambda text: [opinion(text), f"and {text.count('and')}"])
    learn = text_classifier_learner(several, bert, metrics=accuracy_multi, path=tmp_path)
    quiet(learn, "fit_one_cycle", 1, 1e-2)
    _, chosen, probabilities = learn.predict(items[0])
    assert [len(chosen), chosen.dtype, len(probabilities)] == [several.c, torch.bool, several.c]
    number = loaders(bert, items, RegressionBlock, lambda text: float(text.count("and")))
    learn = text_classifier_learner(number, bert, y_range=(-1, 5), lin_ftrs=[8], path=tmp_path)
    quiet(learn, "fit_one_cycle", 1, 1e-2)
    assert type(learn.loss_func).__name__ == "MSELossFlat"
    assert -1 < float(learn.predict(items[0])[1]) < 5


@pytest.mark.parametrize("has_adapters", [False, True])
def test_a_killed_fit_goes_on_bit_for_bit(bert, tmp_path, has_adapters):
    class Killed(Callback):
        def after_batch(self):
            if self.training and self.train_iter == 9:
                raise KeyboardInterrupt

    def trained(folder, cbs=(), resume=None):
        torch.manual_seed(0)
        learn = text_classifier_learner(loaders(bert), bert, path=tmp_path, seed=1, cbs=list(cbs))
        if has_adapters:
            learn.to_lora(2, dropout=0.1)
        learn.unfreeze()
        with suppress(KeyboardInterrupt):
            quiet(learn, "fit_one_cycle", 2, 1e-3, checkpoint=Checkpoint(tmp_path / folder, "4 batches"), resume=resume)
        return learn.model.state_dict()

    twin, killed = trained("twin"), trained("killed", [Killed])
    assert not torch.equal(killed["1.layers.0.1.weight"], twin["1.layers.0.1.weight"])
    assert_close(trained("killed", resume="auto"), twin, rtol=0, atol=0)


# -- long texts


def test_texts_longer_than_the_model_are_refused_before_and_after_training(bert, tmp_path):
    long = " and ".join(texts(12))
    with pytest.raises(BadValue, match="1 of 61 texts are longer than the model reads") as error:
        text_classifier_learner(loaders(tokenizer(), [*texts(60), long], max_len=None), tiny("bert"))
    assert error.value.expected == "at most 40"
    learn = text_classifier_learner(loaders(tokenizer(), max_len=None), tiny("bert"), path=tmp_path)
    with pytest.raises(BadValue, match="longer than the model reads"):
        learn.predict(long)


def test_the_folder_of_a_model_says_how_long_a_text_may_be(bert, tmp_path):
    long = " and ".join(texts(12))
    with pytest.warns(UserWarning, match="1 of 61 texts are longer than max_len=40"):
        dls = loaders(bert, [*texts(60), long], max_len=None)
    learn = text_classifier_learner(dls, bert, path=tmp_path)
    assert learn.predict(long)[2].isfinite().all()
    assert loaders(write_folder(tmp_path / "roberta", "roberta"), max_len=None).train_ds.tls[0].tfms[0].max_len == 40


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_text_that_is_read_in_pieces_has_the_mean_of_all_of_them(kind, tmp_path):
    tok, long = tokenizer(kind in DECODERS), " and ".join(texts(12))
    dls = loaders(tok, [*texts(20), long], max_len=None, cut="chunks")
    learn = text_classifier_learner(dls, tiny(kind), pool="mean", path=tmp_path)
    found = learn.predict(long)[2]
    ids = HuggingFaceTokenizer(tok)(long).as_plain()
    model = learn.model[0].module.eval()
    with torch.inference_mode():
        tokens = torch.cat([model(piece[None]).last_hidden_state[0] for piece in ids.split(40)])
        assert_close(found, learn.model[1].layers.eval()(tokens.mean(0)).softmax(0))
    batch = [*texts(3), long]
    assert_close(learn.get_preds(dl=learn.dls.test_dl(batch))[0][3], found)


# -- what does not belong together


def test_texts_of_another_tokenizer_are_refused(bert, gpt2, tmp_path):
    larger = tokenizer()
    larger.add_tokens(["unheard", "of"])
    with pytest.raises(BadValue, match="do not belong together") as error:
        text_classifier_learner(loaders(larger), bert)
    assert f"vectors for {tokenizer().get_vocab_size()}" in error.value.got
    assert str(bert) in error.value.fix
    text_classifier_learner(loaders(bert), bert, path=tmp_path)
    with pytest.raises(BadValue, match="do not belong together") as error:
        text_classifier_learner(loaders(gpt2), bert)
    assert "'[CLS]'" in error.value.got
    with pytest.raises(BadValue, match="do not belong together"):
        text_classifier_learner(loaders("chars", max_len=None), bert)


def test_folders_that_do_not_hold_a_model_are_refused(bert, tmp_path):
    dls = loaders(bert)
    with pytest.raises(NotFoundPath, match="there is no model 'no/such'"):
        text_classifier_learner(dls, "no/such")
    with pytest.raises(UnknownName, match="AWD_LSTM"):
        text_classifier_learner(dls, "awd_lstm")
    with pytest.raises(BadArgument, match="not a model of transformers"):
        text_classifier_learner(dls, nn.Linear(2, 2))
    with pytest.raises(BadArgument, match="seq_len is for recurrent models"):
        text_classifier_learner(dls, bert, seq_len=40)
    with pytest.raises(BadArgument, match="pool is for models of Hugging Face"):
        text_classifier_learner(dls, AWD_LSTM, pool="mean", pretrained=False)
    with pytest.raises(BadValue, match="unknown way to pool"):
        text_classifier_learner(dls, bert, pool="max")
    with pytest.raises(BadValue, match="does not take tokens and a mask"):
        text_classifier_learner(dls, transformers.FNetModel(transformers.FNetConfig(vocab_size=30, hidden_size=8)))

    def folder(name, weights=True, **changes):
        config = json.loads((bert / "config.json").read_text()) | changes
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        if weights:
            (tmp_path / name / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
        return tmp_path / name

    pickled = folder("pickled", weights=False)
    (pickled / "pytorch_model.bin").write_bytes(b"")
    for place, error, words in (
        (pickled, UnsafeFile, "no weights as safetensors"),
        (folder("unknown", model_type="mine", auto_map={"AutoModel": "mine.Model"}), UnknownName, "named 'mine'"),
        (folder("t5", model_type="bart", is_encoder_decoder=True), BadValue, "two parts"),
        (folder("code", attn_implementation="some/kernel"), UnsafeFile, "asks for code"),
        (folder("many", num_hidden_layers=10**7), BadValue, "too many parts"),
        (folder("deep", num_hidden_layers=999), BadValue, "at most 100"),
        (folder("huge", hidden_size=2**20, num_attention_heads=2**10), CannotRestore, "do not fit"),  # terabytes
        (folder("deeper", num_hidden_layers=3), CannotRestore, "lacks weights"),
        (folder("wider", hidden_size=64), CannotRestore, "do not fit"),
        (folder("wrong", hidden_size="wide"), BadFile, "does not describe"),
    ):
        with pytest.raises(error, match=words):
            text_classifier_learner(dls, place)
    text_classifier_learner(dls, folder("known", auto_map={"AutoModel": "mine.Model"}), path=tmp_path)
    (pickled / "adapter_config.json").write_text("{}")
    with pytest.raises(BadFile, match="adapter of peft"):
        text_classifier_learner(dls, pickled)
    (pickled / "model.safetensors").write_bytes(b"no numbers")
    (pickled / "adapter_config.json").unlink()
    with pytest.raises(CannotRestore, match="damaged"):
        text_classifier_learner(dls, pickled)


def test_a_model_with_a_head_gives_its_body(bert, tmp_path):
    torch.manual_seed(0)
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(bert, num_labels=5)
    with pytest.warns(UserWarning, match="head of BertForSequenceClassification is left out"):
        learn = text_classifier_learner(loaders(bert), whole, path=tmp_path)
    assert learn.model[0].module is whole.base_model
    assert learn.get_preds()[0].shape[1] == 2
    drawn = text_classifier_learner(loaders(bert), bert, pretrained=False, config={"num_hidden_layers": 1})
    assert len(drawn.model[0].module.encoder.layer) == 1
    assert drawn.opt is None or drawn.opt.frozen_idx == 0


# -- files


def test_an_export_predicts_alike_without_the_folder(tmp_path):
    folder = write_folder(tmp_path / "model", "bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    learn = text_classifier_learner(loaders(folder), folder, path=tmp_path)
    assert learn.model[1].pool == "first"
    quiet(learn, "fine_tune", 1, 1e-2)
    file = learn.export("r.layered")
    assert str(folder) not in json.dumps(read_archive(file, kind="export").manifest)
    folder.rename(tmp_path / "gone")
    assert_close(load_learner(file).predict("a great film")[2], learn.predict("a great film")[2])


def test_an_export_that_asks_for_code_or_an_unknown_model_is_refused(learn, tmp_path):
    archive = read_archive(learn.export("r.layered"), kind="export")

    def changed(**changes):
        manifest = json.loads(json.dumps(archive.manifest))
        config = manifest["model"]["args"]["config"]
        config.update(changes)
        return write_archive(tmp_path / "x.layered", manifest, archive.tensors, kind="export")

    assert load_learner(changed()).predict("a great film")
    for changes, error, words in (
        ({"auto_map": {"AutoModel": "mine.Model"}}, UnsafeFile, "asks for code"),
        ({"_attn_implementation": "some/kernel"}, UnsafeFile, "asks for code"),
        ({"quantization_config": {"quant_method": "x"}}, UnsafeFile, "asks for code"),
        ({"num_labels": 10**9}, BadValue, "too many parts"),  # each would have a name
        ({"num_hidden_layers": 10**7}, BadValue, "too many parts"),
        ({"sub": [{"n_layer": float("inf")}]}, BadValue, "too many parts"),
        ({"model_type": "mine"}, UnknownName, "named 'mine'"),
        ({"model_type": "t5"}, UnknownName, "named 't5'"),
        ({"num_hidden_layers": 10**9}, BadValue, "too many parts"),
        ({"vocab_size": 10**9}, CannotRestore, "do not fit"),
        ({"hidden_size": "wide"}, BadFile, "does not describe"),
    ):
        with pytest.raises(error, match=words):
            load_learner(changed(**changes))


def test_weights_are_saved_and_loaded(learn, bert, tmp_path):
    quiet(learn, "fine_tune", 1, 1e-2)
    learn.save("one")
    learn.save_encoder("enc")
    other = text_classifier_learner(loaders(bert), bert, path=tmp_path)
    assert_close(other.load("one").get_preds()[0], learn.get_preds()[0])
    other = text_classifier_learner(loaders(bert), bert, path=tmp_path).load_encoder("enc")
    assert_close(other.model[0].state_dict(), learn.model[0].state_dict())
    assert isinstance(other.dls.one_batch()[0], TensorText)


# -- labels of words


def tagged(count):
    words = [text.split() for text in texts(count)]
    return pd.DataFrame(
        {"words": words, "tags": [["B-OP" if opinion(word) == "good" else "O" for word in w] for w in words]}
    )


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_labels_of_words_have_an_output_for_each_token(kind, tmp_path):
    folder = write_folder(tmp_path / kind, kind)
    dls = TextDataLoaders.from_df(
        tagged(60),
        text_col="words",
        label_col="tags",
        y_block=TokenCategoryBlock,
        tok_tfm=folder,
        bs=8,
        seed=0,
        device="cpu",
    )
    learn = text_classifier_learner(dls, folder, metrics=[accuracy, EntityF1()], path=tmp_path, seed=1)
    learn.unfreeze()
    quiet(learn, "fit_one_cycle", 4, 1e-2)
    assert learn.validate()[1] > 0.95
    labels, _, _ = learn.predict("the film is great")
    assert list(labels) == ["O", "O", "O", "B-OP"]
    exported = load_learner(learn.export("words.layered"))
    assert list(exported.predict("the film is great")[0]) == list(labels)
    model, (ids, _) = learn.model.eval(), learn.dls.valid.one_batch()
    with torch.inference_mode():
        scores = model(ids.as_plain()).logits
        alone = torch.stack(
            [model(row[~hidden][None]).logits[0, -1] for row, hidden in zip(ids.as_plain(), ids.padding, strict=True)]
        )
    ends = (~ids.padding).sum(1) - 1
    assert_close(scores[torch.arange(len(ids)), ends], alone)
    early = Pad_Input(1, pad_first=True).padded([row[~hidden] for row, hidden in zip(ids, ids.padding, strict=True)])
    rows = torch.stack([row.as_plain() for row in early])
    rows.padding = torch.stack([row.padding for row in early])
    with torch.inference_mode():
        assert_close(model(rows).logits[:, -1], alone)
    with pytest.raises(BadArgument, match="single linear layer"):
        text_classifier_learner(dls, folder, lin_ftrs=[8])


# -- vectors of texts


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_texts_have_the_mean_of_their_tokens_in_the_order_of_the_texts(kind, tmp_path):
    tok = tokenizer(kind in DECODERS)
    learn = text_classifier_learner(loaders(tok), tiny(kind), lin_ftrs=[8], path=tmp_path)
    items, model = texts(20), learn.model[0].module.eval()
    with torch.inference_mode():
        ids = [torch.tensor([HuggingFaceTokenizer(tok)(text).tolist()]) for text in items]
        wanted = torch.cat([model(row).last_hidden_state.mean(1) for row in ids])
    found = learn.embed(items)
    assert_close(found, wanted)
    assert_close(learn.embed(items, normalize=True), nn.functional.normalize(wanted))
    assert_close(learn.embed(items[3]), wanted[3:4])
    assert_close(
        learn.embed(items, pool=lambda encoded: encoded[0][:, 0]),
        torch.cat([model(row).last_hidden_state[:, 0] for row in ids]),
    )
    similarities, positions = most_similar(found, learn.embed([items[7]]), k=1)
    assert_close(similarities, torch.ones(1, 1))
    assert items[positions.item()] == items[7]
    assert len(learn.embed()) == len(learn.dls.valid_ds)
    exported = load_learner(learn.export("e.layered"))
    assert_close(exported.embed(items), wanted)


def test_texts_of_a_recurrent_classifier_have_the_mean_of_its_outputs(clas):
    items = texts(12)
    encoder, vocab = clas.model[0].module.eval(), clas.dls.vocab[0]
    rows = []
    for text in items:
        encoder.reset()
        with torch.inference_mode():
            rows.append(encoder(torch.tensor([[vocab.index(word) for word in f"xxbos {text}".split()]]))[0].mean(0))
    encoder.reset()
    assert_close(clas.embed(items), torch.stack(rows))
