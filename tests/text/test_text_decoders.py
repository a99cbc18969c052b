"""Decoders of Hugging Face as language models: they learn, go on with texts, and are kept."""

import math

import pytest
import torch
from reviews import texts
from tiny_transformers import loaders, tiny, write_folder
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.text.all import (
    DataBlock,
    HuggingFaceTokenizer,
    LMLearner,
    Perplexity,
    RandomSplitter,
    TextBlock,
    accuracy,
    language_model_learner,
    load_learner,
    text_classifier_learner,
)

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("gpt2"), "gpt2")


def streams(folder, seq_len=12):
    block = DataBlock(TextBlock(folder, is_lm=True, seq_len=seq_len), splitter=RandomSplitter(0.2, seed=0))
    return block.dataloaders(texts(60), bs=4, device="cpu")


@pytest.fixture
def lm(folder, tmp_path):
    torch.manual_seed(0)
    return language_model_learner(streams(folder), folder, metrics=[accuracy, Perplexity()], path=tmp_path, seed=1)


def quiet_fit(learn, epochs=3, lr=1e-2):
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(epochs, lr)


def test_a_decoder_learns_and_reports_what_a_loop_by_hand_finds(lm):
    assert type(lm) is LMLearner
    assert len(lm.opt.param_lists if lm.opt else lm.splitter(lm.model)) == 3
    assert all(p.requires_grad for p in lm.model.parameters())
    before = lm.validate()[0]
    quiet_fit(lm)
    loss, hits, perplexity = lm.validate()
    assert loss < before - 0.5
    model, losses, right = lm.model.module.eval(), [], []
    with torch.inference_mode():
        for x, y in lm.dls.valid:
            scores = model(x.as_plain()).logits.flatten(0, 1)
            losses.append(nn.functional.cross_entropy(scores, y.as_plain().flatten(), reduction="none"))
            right.append(scores.argmax(1) == y.as_plain().flatten())
    assert loss == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert hits == pytest.approx(torch.cat(right).float().mean().item(), rel=1e-5)
    assert perplexity == pytest.approx(math.exp(loss), rel=1e-5)


def test_a_text_goes_on_as_transformers_generate_it(lm, folder):
    quiet_fit(lm)
    tok = HuggingFaceTokenizer(folder)
    ids = torch.tensor([tok.body("the film")])
    ends = tok.id_of_role("eos")
    greedy = lm.model.module.eval().generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False
    )
    wanted = [i for i in greedy[0].tolist() if i != ends]
    assert lm.predict("the film", 30, no_unk=False, temperature=0) == tok.decode(
        torch.tensor(wanted).as_subclass(type(tok("a")))
    )
    assert lm.predict("the film", 20, seed=3, temperature=0.8, min_p=0.01, top_k=9, top_p=0.9) == lm.predict(
        "the film", 20, seed=3, temperature=0.8, min_p=0.01, top_k=9, top_p=0.9
    )
    assert lm.predict("the film", 300, seed=1, temperature=5.0).startswith("the film")  # longer than the model reads


def test_a_trained_decoder_ends_where_texts_end(lm):
    quiet_fit(lm, 6, 2e-2)
    lengths = [len(lm.predict("the", 500, seed=seed).split()) for seed in range(3)]
    assert max(lengths) < 250


def test_a_decoder_is_kept_and_its_encoder_handed_on(lm, folder, tmp_path):
    quiet_fit(lm, 1)
    again = load_learner(lm.export("lm.layered"))
    assert again.predict("the film", 9, seed=2) == lm.predict("the film", 9, seed=2)
    head, table = again.model.module.lm_head.weight, again.model.module.transformer.wte.weight
    assert head is table  # tied, as in the file they came from
    lm.save("lm")
    other = language_model_learner(streams(folder), folder, path=tmp_path).load("lm")
    assert_close(other.model.state_dict(), lm.model.state_dict())
    lm.save_encoder("enc")
    clas = text_classifier_learner(loaders(folder), folder, path=tmp_path).load_encoder("enc")
    assert_close(clas.encoder.state_dict(), lm.encoder.state_dict())


def test_what_is_no_language_model_or_does_not_fit_is_refused(folder, tmp_path):
    bert = write_folder(tmp_path / "bert", "bert")
    with pytest.raises(BadValue, match="does not go on with texts"):
        language_model_learner(streams(bert), bert)
    with pytest.raises(BadValue, match="does not go on with texts"):
        language_model_learner(streams(folder), tiny("gpt2"))
    with pytest.raises(BadValue, match="rows of a batch are longer") as error:
        language_model_learner(streams(folder, seq_len=60), folder)
    assert error.value.fix == "seq_len=40"
    whole = language_model_learner(streams(folder), tiny("gpt2", for_lm=True), path=tmp_path)
    assert whole.predict("the film", 3, seed=1).startswith("the film")
