"""LoRA: what is trained, that it equals peft's formula, and that adapters and head are kept."""

import json
import subprocess
import sys

import pytest
import torch
from reviews import texts
from tiny_transformers import loaders, write_folder
from torch.testing import assert_close

from layered.foundation import BadValue, CannotRestore
from layered.text.all import (
    DataBlock,
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
    return write_folder(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture
def learn(folder, tmp_path):
    torch.manual_seed(0)
    return text_classifier_learner(loaders(folder), folder, metrics=accuracy, path=tmp_path, seed=1)


def quiet_fit(learn, epochs=2, lr=1e-2):
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(epochs, lr)


def frozen(learn):
    return {n: x.clone() for n, x in learn.model.state_dict().items() if ".lora_" not in n and n.startswith("0.")}


def test_adapters_and_head_are_trained_and_nothing_else(learn):
    before = learn.get_preds()[0]
    assert learn.to_lora(4, target_modules=["query", "value"]) is learn
    assert_close(learn.get_preds()[0], before)  # adapters begin at zero
    trained = {name for name, p in learn.model.named_parameters() if p.requires_grad}
    assert sum(".lora_" in name for name in trained) == 2 * 2 * 2
    assert {name for name in trained if ".lora_" not in name} == {"1.layers.0.1.weight", "1.layers.0.1.bias"}
    kept, head = frozen(learn), learn.model[1].state_dict()["layers.0.1.weight"].clone()
    learn.unfreeze()
    quiet_fit(learn)
    assert_close(frozen(learn), kept, rtol=0, atol=0)
    assert not torch.equal(learn.model[1].state_dict()["layers.0.1.weight"], head)
    weights = dict(learn.model.named_parameters())
    assert all(weights[name].abs().max() > 0 for name in trained)
    assert len(learn.opt.param_lists) == 1


def test_an_adapter_is_the_product_of_two_matrices_scaled_by_alpha_over_r(learn):
    learn.to_lora(4, alpha=12, target_modules=["query"])
    quiet_fit(learn)
    layer = learn.model[0].module.encoder.layer[0].attention.self.query
    x = torch.randn(3, 32)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    wanted = x @ layer.base_layer.weight.T + layer.base_layer.bias + 12 / 4 * (x @ a.T @ b.T)
    assert_close(layer.eval()(x), wanted)


def test_a_merged_model_gives_the_same_and_is_plain(learn, tmp_path):
    learn.to_lora(4)
    quiet_fit(learn)
    before = learn.get_preds()[0]
    assert_close(learn.merge_lora().get_preds()[0], before, rtol=1e-4, atol=1e-5)
    assert not any("lora" in name or "base_layer" in name for name in learn.model.state_dict())
    learn.create_opt()
    assert len(learn.opt.param_lists) == 4
    assert_close(load_learner(learn.export("m.layered")).predict("a great film")[2], learn.predict("a great film")[2])
    with pytest.raises(BadValue, match="no adapters"):
        learn.merge_lora()
    quiet_fit(learn.to_lora(2), 1)


def test_an_export_with_adapters_goes_on_to_train_these_alone(learn, folder):
    learn.to_lora(4)
    quiet_fit(learn, 1)
    again = load_learner(learn.export("adapters.layered"))
    wanted = {name for name, p in learn.model.named_parameters() if p.requires_grad}
    assert {name for name, p in again.model.named_parameters() if p.requires_grad} == wanted
    before, again.dls = frozen(again), loaders(folder)
    quiet_fit(again, 1)
    assert_close(frozen(again), before, rtol=0, atol=0)


def test_adapters_are_kept_alone_and_loaded_beside_the_same_weights_only(learn, folder, tmp_path):
    learn.to_lora(4)
    quiet_fit(learn)
    file = learn.save_adapters("lora")
    assert file.stat().st_size < learn.save("whole", with_opt=False).stat().st_size / 2
    for other in (
        text_classifier_learner(loaders(folder), folder, path=tmp_path),
        text_classifier_learner(loaders(folder), folder, path=tmp_path).to_lora(4),
    ):
        assert_close(other.load_adapters("lora").get_preds()[0], learn.get_preds()[0], rtol=0, atol=0)
    whole = text_classifier_learner(loaders(folder), folder, path=tmp_path).to_lora(4).load("whole")
    assert_close(whole.get_preds()[0], learn.get_preds()[0], rtol=0, atol=0)
    quiet_fit(whole, 1)
    with pytest.raises(CannotRestore, match="other settings"):
        text_classifier_learner(loaders(folder), folder, path=tmp_path).to_lora(4, alpha=1).load_adapters("lora")
    wide = text_classifier_learner(loaders(folder), folder, n_out=5, path=tmp_path)
    with pytest.raises(CannotRestore, match="do not fit"):
        wide.load_adapters("lora")
    assert "lora" not in wide.recipe["args"]
    trained = text_classifier_learner(loaders(folder), folder, path=tmp_path)
    trained.unfreeze()
    quiet_fit(trained, 1)
    with pytest.raises(CannotRestore, match="beside other weights"):
        trained.load_adapters("lora")
    with pytest.raises(CannotRestore, match="holds no adapters"):
        other.load_adapters("whole")


def test_what_has_no_such_layers_is_refused(learn, clas):
    with pytest.raises(BadValue, match="no such layers") as error:
        learn.to_lora(4, target_modules=["q_proj"])
    assert "query" in error.value.expected
    for wrong in ({"r": 0}, {"r": 2.5}, {"target_modules": [3]}):
        with pytest.raises(BadValue, match="invalid settings"):
            learn.to_lora(**wrong)
    with pytest.raises(BadValue, match="for models of Hugging Face"):
        clas.to_lora(4)
    with pytest.raises(BadValue, match="has no adapters"):
        learn.save_adapters("x")
    quiet_fit(learn.to_lora(4), 1)
    with pytest.raises(BadValue, match="has adapters"):
        learn.to_lora(4)


def test_adapters_of_a_decoder_in_a_new_process(tmp_path):
    """A classifier's export and adapters beside a folder, both by a process that has not trained them."""
    folder = write_folder(tmp_path / "gpt2", "gpt2")
    block = DataBlock(TextBlock(str(folder), is_lm=True, seq_len=12), splitter=RandomSplitter(0.2, seed=0))
    dls = block.dataloaders(texts(60), bs=4, device="cpu")
    lm = language_model_learner(dls, folder, path=tmp_path).to_lora(4)
    quiet_fit(lm)
    lm.save_adapters("lora")
    clas = text_classifier_learner(loaders(folder), folder, path=tmp_path).to_lora(4)
    quiet_fit(clas)
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[3]); from reviews import texts; from layered.text.all import *\n"
        "block = DataBlock(TextBlock(sys.argv[1], is_lm=True, seq_len=12), splitter=RandomSplitter(0.2, seed=0))\n"
        "dls = block.dataloaders(texts(60), bs=4, device='cpu')\n"
        "lm = language_model_learner(dls, sys.argv[1], path=sys.argv[2]).load_adapters('lora')\n"
        "clas = load_learner(sys.argv[4])\n"
        "print(json.dumps([lm.validate()[0], lm.predict('the film', 9, seed=1), clas.predict('a great film')[2].tolist()]))"
    )
    exported = clas.export("c.layered")
    args = [folder, tmp_path, __file__.rpartition("/")[0], exported]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    loss, text, scores = json.loads(done.stdout.splitlines()[-1])
    assert loss == lm.validate()[0]
    assert text == lm.predict("the film", 9, seed=1)
    assert_close(torch.tensor(scores), clas.predict("a great film")[2])
