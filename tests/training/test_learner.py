"""The learner: the loop with its verbs, usable again whatever stopped a fit."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import ProgressCallback
from layered.foundation import BadArgument, CannotSave
from layered.vision.all import Callback, CrossEntropyLossFlat, Learner, Recorder, TrainEvalCallback


def test_a_typo_in_a_keyword_is_refused_with_the_name_that_was_meant(dls):
    with pytest.raises(TypeError, match="did you mean 'metrics'"):
        Learner(dls, nn.Identity(), metric=None)


@pytest.mark.parametrize(
    ("verb", "typo", "meant"),
    [
        ("fit", "lrr", "lr"), ("fit_one_cycle", "lr_mx", "lr_max"), ("fit_flat_cos", "pct_strt", "pct_start"),
        ("fit_sgdr", "cycle_length", "cycle_len"), ("fine_tune", "freeze_epoch", "freeze_epochs"),
        ("lr_find", "nun_it", "num_it"),
        ("validate", "ds_id", "ds_idx"), ("get_preds", "with_los", "with_loss"), ("predict", "with_inputs", "with_input"),
        ("export", "fnam", "fname"),
    ],
)  # fmt: skip
def test_so_it_is_with_every_verb(dls, verb, typo, meant):
    learn = Learner(dls, nn.Identity())
    with pytest.raises(TypeError, match=f"did you mean '{meant}'"):
        getattr(learn, verb)(1, **{typo: 1})


def test_the_loss_follows_from_the_targets(dls):
    assert isinstance(Learner(dls, nn.Identity()).loss_func, CrossEntropyLossFlat)


def test_the_usual_callbacks_come_unless_they_are_unwanted(dls):
    kinds = {type(cb) for cb in Learner(dls, nn.Identity()).cbs}
    assert {TrainEvalCallback, Recorder, ProgressCallback} <= kinds
    assert not Learner(dls, nn.Identity(), default_cbs=False).cbs


def test_summary_lists_the_layers_with_shapes_and_changes_nothing(learn):
    states = torch.get_rng_state()
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    text = str(learn.summary())
    assert "Conv2d" in text
    assert "8 x 15 x 15" in text
    assert f"{sum(p.numel() for p in learn.model.parameters()):,}" in text
    assert torch.equal(torch.get_rng_state(), states)
    assert_close(dict(learn.model.state_dict()), before)


def test_weights_are_saved_and_loaded(learn, tmp_path):
    learn.fit(1, lr=0.1)
    path = learn.save("one")
    assert path == tmp_path / "models" / "one.layered"
    kept = {k: v.clone() for k, v in learn.model.state_dict().items()}
    learn.fit(1, lr=0.1)
    learn.load("one")
    assert_close(dict(learn.model.state_dict()), kept)


def test_saving_where_nothing_can_be_written_is_an_error_with_a_fix(learn, tmp_path):
    (tmp_path / "models").write_text("a file, not a folder")
    with pytest.raises(CannotSave, match="part of the path is a file"):
        learn.save("one")


class Interrupt(Callback):
    """As if Ctrl-C were pressed in the second training batch."""

    def after_pred(self):
        if self.learn.training and self.learn.iter == 1:
            raise KeyboardInterrupt


def test_after_ctrl_c_the_learner_predicts_and_trains_on(learn):
    with pytest.raises(KeyboardInterrupt):
        learn.fit(2, cbs=Interrupt())
    assert not any(isinstance(cb, Interrupt) for cb in learn.cbs)
    assert all(p.grad is None or not p.grad.any() for p in learn.model.parameters())
    learn.predict(learn.dls.valid_ds.items[0])
    learn.fit(1)
    assert len(learn.recorder.losses) == len(learn.dls.train)
    assert len(learn.recorder.values) == 1


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_real_ctrl_c_with_workers_leaves_a_usable_learner(pictures, tmp_path):
    code = """
        import os, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have switched it off
        from layered.vision.all import *

        def net(pretrained=False):
            return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

        dls = ImageDataLoaders.from_folder(sys.argv[1], valid_pct=0.25, seed=0, item_tfms=Resize(32), bs=4, num_workers=2)
        learn = vision_learner(dls, net, pretrained=False)

        @learn.on("after_step", once=True)
        def press(learn):
            os.kill(os.getpid(), signal.SIGINT)

        try:
            learn.fit(2)
        except KeyboardInterrupt:
            print("stopped")
        print(learn.predict(dls.valid_ds.items[0])[0] in dls.vocab)
        learn.fit(1)
        print(len(learn.recorder.losses) == len(dls.train), len(learn.get_preds()[0]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(pictures)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert [line for line in done.stdout.split("\n") if line in ("stopped", "True", "True 6")] == [
        "stopped",
        "True",
        "True 6",
    ]


def test_a_learner_says_what_it_is_made_of_in_five_lines(learn):
    lines = repr(learn).splitlines()
    count = sum(p.numel() for p in learn.model.parameters())
    assert lines[0].startswith(
        f"Learner on {next(learn.model.parameters()).device}: Sequential with {count:,} parameters"
    )
    assert [line.split()[0] for line in lines[1:]] == ["data", "loss", "optimizer", "callbacks"]
    assert f"train {len(learn.dls.train)} batches, valid {len(learn.dls.valid)} batches" in lines[1]
    assert "ProgressCallback" in lines[4]
    assert learn._repr_html_().count("<tr>") == 4


def test_the_verbs_stand_in_groups_in_the_docstring():
    listed = set(re.findall(r"`(\w+)`", Learner.__doc__.partition("Args:")[0]))
    verbs = {name for name, value in vars(Learner).items() if callable(value) and not name.startswith("_")}
    assert verbs - listed == {"default_callbacks", "logging_callbacks"}  # for classes that are made of it
    assert all(hasattr(Learner, name) for name in listed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu"])
def test_a_device_that_is_not_there_is_named(device):
    learn = Learner(([(torch.zeros(2, 1), torch.zeros(2, 1))], None), nn.Linear(1, 1), nn.MSELoss())
    with pytest.raises(BadArgument, match=rf"(?s)no device '{device}'.*to\('cpu'\)"):
        learn.to(device)
    assert learn.to("cpu") is learn
