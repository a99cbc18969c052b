"""What is written between the fits of a script, held by callbacks, or kept by loaders, goes on as if nothing had happened."""

import itertools
import os
import signal
from collections import Counter, defaultdict, namedtuple
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, Sampler, TensorDataset

from layered.callback import EMACallback, GradientClip, ShortEpochCallback
from layered.callback.speed import ChannelsLast
from layered.data import DataLoaders
from layered.files import decode_tree, encode_tree, read_archive, write_archive
from layered.foundation import BadFile, CannotRestore, CannotSave, LayeredError, noop
from layered.loop import (
    Callback,
    CancelEpochException,
    CancelFitException,
    CancelTrainException,
    Checkpoint,
    Loop,
    Resume,
)
from layered.loop.resume.finding import MARK, checkpoint_files
from layered.optim import SGD, Adam, Lamb, RMSProp

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
SET = TensorDataset(X, X.sum(1, keepdim=True))


class Boom(RuntimeError):
    pass


class DieAt(Callback):
    """Fails at the end of a training batch, once what is being written is on disk."""

    order = 3000
    transient = ("at",)

    def __init__(self, at=None):
        self.at = at

    def after_batch(self):
        learn = self.learn
        if learn.training and (learn.fit_ordinal, learn.epoch, learn.iter) == self.at:
            for cb in learn.cbs:
                if isinstance(cb, Checkpoint):
                    cb.writer.wait()
            raise Boom

    def __repr__(self):
        return "DieAt"


def batches():
    return [(X[i : i + 4], X[i : i + 4].sum(1, keepdim=True)) for i in range(0, 24, 4)]


def mlp():
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Tanh(), nn.Linear(6, 1))


def learner(cbs=(), at=None, dls=None, model=None, opt=Adam):
    torch.manual_seed(0)
    learn = Loop(dls or (batches(), batches()), (model or mlp)(), nn.MSELoss(), opt, lr=0.01, cbs=[*cbs, DieAt(at)])
    learn.logger = noop
    return learn


def saving(folder, every="2 batches", **kwargs):
    return {"checkpoint": Checkpoint(folder, every, **kwargs), "resume": "auto"}


def left(learn):
    return [p.tolist() for p in learn.model.state_dict().values()], learn.recorder.losses, learn.recorder.values


def check_twins(tmp_path, make, fit=lambda learn, **saved: learn.fit(3, **saved), see=left, at=(1, 1, 3)):
    """A learner that dies in a batch and is made anew ends like one that never died; returns it."""
    whole = make(None)
    fit(whole, **saving(tmp_path / "whole"))
    dying = make(at)
    with pytest.raises(Boom):
        fit(dying, **saving(tmp_path / "run"))
    again = make(None)
    fit(again, **saving(tmp_path / "run"))
    assert again.restored is not None
    assert see(again) == see(whole)
    return again


# the fits of a script


def test_the_same_call_on_a_learner_whose_fit_failed_goes_on(tmp_path):
    whole = learner()
    whole.fit(4)
    learn = learner(at=(1, 2, 1))
    with pytest.raises(Boom):
        learn.fit(4, **saving(tmp_path))
    learn.cbs[-1].at = None
    learn.fit(4, **saving(tmp_path))
    assert learn.restored.epoch_and_batch == (2, 2)
    assert left(learn) == left(whole)
    assert learn.fit_ordinal == 1


def test_what_stands_between_two_fits_sees_what_the_first_one_left(tmp_path):
    def script(learn, folder):
        seen = []
        learn.fit(2, **saving(folder))
        seen += [learn.recorder.values[-1], learn.opt.hypers[0]["lr"], learn.validate()[0]]
        learn.save(folder / "between")
        learn.fit_rate = 0.01 if learn.validate()[0] < 2 else 0.001
        learn.fit(2, learn.fit_rate, **saving(folder))
        saved = read_archive(folder / "between.layered")
        return seen, left(learn), {name: x.tolist() for name, x in saved.tensors.items()}

    wanted = script(learner(), tmp_path / "whole")
    with pytest.raises(Boom):
        script(learner(at=(2, 1, 3)), tmp_path / "run")
    assert script(learner(), tmp_path / "run") == wanted


def test_a_seed_that_is_set_between_two_fits_counts_also_where_the_first_one_was_resumed(tmp_path):
    def script(learn, folder):
        torch.manual_seed(4)
        learn.fit(2, **saving(folder))
        torch.manual_seed(9)
        learn.fit(1, **saving(folder))
        return left(learn)

    def fresh(at=None):
        return learner(at=at, dls=DataLoaders.from_dsets(SET, SET, bs=4, device="cpu"))

    wanted = script(fresh(), tmp_path / "whole")
    with pytest.raises(Boom):
        script(fresh(at=(1, 1, 3)), tmp_path / "cut")
    assert script(fresh(), tmp_path / "cut") == wanted


def test_without_what_an_earlier_fit_left_a_script_is_told_so(tmp_path):
    def script(learn):
        learn.fit(1, **saving(tmp_path))
        learn.fit(2, **saving(tmp_path))

    with pytest.raises(Boom):
        script(learner(at=(2, 1, 3)))
    for file in tmp_path.glob("*-fit1.layered"):
        file.unlink()
    with pytest.warns(UserWarning, match="fit 1 is done, but the state it left is not in the folder"):
        script(learner())


def test_a_file_of_an_earlier_fit_is_refused(tmp_path):
    learner().fit(1, checkpoint=tmp_path)
    learn = learner()
    learn.fit(1)
    with pytest.raises(CannotRestore, match="to an earlier fit"):
        learn.fit(2, resume=tmp_path / "checkpoint-000002-fit1.layered")


@pytest.mark.parametrize("allow", ["arguments", "arguments.n_epoch"])
def test_a_fit_goes_on_with_other_arguments_where_they_are_allowed(tmp_path, allow):
    whole = learner()
    whole.fit(4)
    learner().fit(2, **saving(tmp_path))
    learn = learner()
    with pytest.raises(CannotRestore, match=r"n_epoch=4") as caught:
        learn.fit(4, **saving(tmp_path))
    assert "arguments.n_epoch" in caught.value.fix
    learn.fit(4, checkpoint=tmp_path, resume=Resume("auto", allow))
    assert [p.tolist() for p in learn.model.parameters()] == [p.tolist() for p in whole.model.parameters()]


# files


def test_a_folder_gets_its_mark_also_when_the_process_died_before_it(tmp_path):
    with pytest.raises(Boom):
        learner(at=(1, 1, 3)).fit(3, **saving(tmp_path))
    (tmp_path / MARK).unlink()
    learner().fit(3, **saving(tmp_path))
    assert (tmp_path / MARK).exists()


def test_a_damaged_file_does_not_push_out_a_sound_one(tmp_path):
    with pytest.raises(Boom):
        learner(at=(1, 1, 3)).fit(3, **saving(tmp_path))
    *_, sound, damaged = checkpoint_files(tmp_path)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=damaged.name), pytest.raises(Boom):
        learner(at=(1, 1, 2)).fit(3, **saving(tmp_path))
    assert sound in checkpoint_files(tmp_path)
    assert damaged in checkpoint_files(tmp_path)


def test_a_relative_folder_stays_where_it_was_when_the_fit_began(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    away = Callback(before_epoch=lambda cb: monkeypatch.chdir(tmp_path / "other"))
    learner([away]).fit(2, **saving("run"))
    assert len(checkpoint_files(tmp_path / "run")) == 2
    assert not (tmp_path / "other" / "run").exists()


# the optimizer


@pytest.mark.parametrize(
    "other", [partial(SGD, mom=0.9), Lamb, RMSProp, partial(Adam, sqr_mom=0.9), torch.optim.SGD, torch.optim.AdamW]
)
def test_another_optimizer_stops_the_fit_unless_allowed(tmp_path, other):
    with pytest.raises(Boom):
        learner(at=(1, 1, 3)).fit(3, **saving(tmp_path))
    learn = learner(opt=other)
    before = [p.tolist() for p in learn.model.parameters()]
    with pytest.raises(CannotRestore, match=r"optimizer: saved Optimizer\(.*adam_step") as caught:
        learn.fit(3, **saving(tmp_path))
    assert "allow=['optimizer']" in caught.value.fix
    assert [p.tolist() for p in learn.model.parameters()] == before
    learn.fit(3, checkpoint=Checkpoint(tmp_path), resume=Resume("auto", "optimizer"))
    assert learn.recorder.epochs == [0, 1, 2]


# callbacks


def test_parameters_that_a_callback_holds_stay_those_of_the_model(tmp_path):
    class Clamp(Callback):
        def before_fit(self):
            self.held = list(self.learn.model.parameters())

        @torch.no_grad()
        def after_step(self):
            for p in self.held:
                p.clamp_(-0.2, 0.2)

    check_twins(tmp_path, lambda at: learner([Clamp()], at))


def test_tables_of_a_callback_go_on_as_what_they_are(tmp_path):
    class Tables(Callback):
        def __init__(self):
            self.seen, self.count = defaultdict(list), Counter()

        def after_batch(self):
            self.seen[self.learn.epoch].append(self.learn.iter)
            self.count[self.learn.iter] += 1

    check_twins(tmp_path, lambda at: learner([Tables()], at), see=lambda learn: (learn.tables.seen, learn.tables.count))


class Meter:
    def __init__(self):
        self.total = 0


@pytest.mark.parametrize(
    "made", [Meter, lambda: np.random.RandomState(0), list], ids=["object", "generator", "list of others"]
)
def test_what_has_changed_in_place_and_cannot_be_written_stops_the_fit_and_is_named(tmp_path, made):
    class Holds(Callback):
        def __init__(self):
            self.meter = made()

        def after_batch(self):
            if isinstance(self.meter, Meter):
                self.meter.total += 1
            elif isinstance(self.meter, list):
                self.meter.append(namedtuple("Point", "x")(1))

    with pytest.raises(CannotSave, match=r"holds\.meter"):
        learner([Holds()]).fit(1, **saving(tmp_path))


def test_what_has_not_changed_and_cannot_be_written_is_left_as_it_was_made_and_told_of(tmp_path):
    class Holds(Callback):
        def __init__(self):
            self.meter, self.count = Meter(), 0

        def after_batch(self):
            self.count += 1

    again = check_twins(tmp_path, lambda at: learner([Holds()], at), see=lambda learn: learn.holds.count)
    how = {part: how for part, _, how in again.restored.rows}["callbacks.holds"]
    assert how == "1 attributes; left as made: meter"


def test_a_callback_that_is_used_again_forgets_what_came_after_the_checkpoint(tmp_path):
    class Once(Callback):
        def __init__(self):
            self.is_over = False

        def after_batch(self):
            self.is_over = self.is_over or self.learn.train_iter >= 10

    once = Once()
    with pytest.raises(Boom):
        learner([once], at=(1, 1, 4)).fit(3, **saving(tmp_path, "8 batches"))
    assert once.is_over
    learn = learner([once])
    learn.fit(3, checkpoint=tmp_path, resume=Resume("auto", allow="callbacks"))
    assert once.is_over
    assert learn.restored.epoch_and_batch == (1, 2)


def test_a_callback_after_the_checkpoint_is_warned_of(tmp_path):
    class Late(Callback):
        order = 1500

        def __init__(self):
            self.seen = []

        def after_batch(self):
            self.seen.append(self.learn.iter)

    with pytest.warns(UserWarning, match="Late has the order 1500"):
        learner([Late()]).fit(1, **saving(tmp_path))


# loaders and models with a state of their own


@pytest.mark.parametrize("every", ["2 batches", "1 epoch"])
def test_a_loader_with_a_generator_of_its_own_draws_on(tmp_path, every):
    def make(at):
        loader = DataLoader(SET, 4, shuffle=True, generator=torch.Generator().manual_seed(5))
        return learner(at=at, dls=(loader, DataLoader(SET, 4)))

    check_twins(
        tmp_path,
        make,
        lambda learn, checkpoint, **kw: learn.fit(3, checkpoint=Checkpoint(checkpoint.folder, every), **kw),
    )


def test_a_sampler_with_a_generator_of_its_own_draws_on(tmp_path):
    def make(at):
        sampler = RandomSampler(SET, generator=torch.Generator().manual_seed(5))
        return learner(at=at, dls=(DataLoader(SET, 4, sampler=sampler), None))

    check_twins(tmp_path, make)


@pytest.mark.parametrize("at", [(1, 1, 3), (1, 2, 0)])
def test_a_generator_goes_on_behind_what_it_has_given(tmp_path, at):
    def endless():
        for i in itertools.count():
            x = torch.randn(4, 3, generator=torch.Generator().manual_seed(i))
            yield x, x.sum(1, keepdim=True)

    check_twins(
        tmp_path,
        lambda at: learner(at=at, dls=(endless(), None)),
        lambda learn, **saved: learn.fit(3, n_iter=6, **saved),
        at=at,
    )


def test_workers_of_others_that_go_on_from_pass_to_pass_cannot_be_restored(tmp_path):
    def make(at):
        return learner(at=at, dls=(DataLoader(SET, 4, num_workers=1, persistent_workers=True), None))

    with pytest.raises(Boom):
        make((1, 1, 3)).fit(3, **saving(tmp_path))
    with pytest.raises(CannotRestore, match="its persistent workers"):
        make(None).fit(3, **saving(tmp_path))
    make(None).fit(3, checkpoint=tmp_path, resume=Resume("auto", "loader"))


class CountsPasses(Sampler):
    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return iter(torch.randperm(24, generator=torch.Generator().manual_seed(self.passes)).tolist())

    def __len__(self):
        return 24


def test_a_sampler_that_nobody_tells_the_epoch_and_that_counts_cannot_be_restored(tmp_path):
    def make(at):
        return learner(at=at, dls=(DataLoader(SET, 4, sampler=CountsPasses()), None))

    with pytest.raises(Boom):
        make((1, 1, 3)).fit(3, **saving(tmp_path))
    with pytest.raises(CannotRestore, match="set_epoch"):
        make(None).fit(3, **saving(tmp_path))


def test_buffers_that_are_not_saved_with_the_model_go_on_too(tmp_path):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)
            self.register_buffer("count", torch.zeros(()), persistent=False)

        def forward(self, x):
            self.count += self.training
            return self.layer(x) + self.count * 0.01

    check_twins(tmp_path, lambda at: learner(at=at, model=Counting))


# hostile files


def edited(folder, change):
    """The newest checkpoint with another manifest, its digest made anew."""
    file = checkpoint_files(folder)[-1]
    archive = read_archive(file)
    change(archive.manifest)
    return write_archive(folder / "edited.layered", archive.manifest, archive.tensors, kind="checkpoint")


def put(*path):
    *steps, last, value = path

    def change(manifest):
        for step in steps:
            manifest = manifest[step]
        manifest[last] = value

    return change


EDITS = {
    "ordinal": put("fit", "ordinal", {}), "negative": put("position", "epoch", -1), "arguments": put("fit", "arguments", []),
    "state": put("state", -1), "counter": put("state", "counters", "train_iter", "x"),
    "gradient": put("state", "grads", {"strange": {"$tensor": "state.model.0.weight"}}),
    "random": put("state", "random", "torch", 1), "no random": put("state", "random", []),
    "python": put("state", "random", "random", [1, 2]), "hyper": put("state", "opt", "param_groups", 0),
    "method": put("callbacks", "recorder", "after_epoch", 1), "learn": put("callbacks", "recorder", "learn", None),
    "optimizer": put("state", "opt_recipe", [1]), "recipe": put("state", "opt_recipe", {"kind": "x"}),
    "list": put("callbacks", "recorder", "values", 3), "callbacks": put("callbacks", "recorder", 3),
    "losses": put("callbacks", "recorder", "_pending", [[], []]), "average": put("callbacks", "recorder", "_average", []),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_checkpoint_gives_our_errors_and_leaves_the_model(tmp_path, edit):
    with pytest.raises(Boom):
        learner(at=(1, 1, 3)).fit(3, **saving(tmp_path))
    file, learn = edited(tmp_path, EDITS[edit]), learner()
    before = [p.tolist() for p in learn.model.state_dict().values()]
    with pytest.raises((BadFile, CannotRestore)) as caught:
        learn.fit(3, resume=file)
    assert isinstance(caught.value, LayeredError)
    assert [p.tolist() for p in learn.model.state_dict().values()] == before


def test_counters_set_nothing_else_of_the_learner(tmp_path):
    with pytest.raises(Boom):
        learner(at=(1, 1, 3)).fit(3, **saving(tmp_path))
    file, learn = edited(tmp_path, put("state", "counters", "one_batch", 1)), learner()
    learn.fit(3, resume=file)
    assert callable(learn.one_batch)


# passes that end early, and layouts in memory


@pytest.mark.parametrize("order", [1002, 500])
@pytest.mark.parametrize("how", [CancelTrainException, CancelEpochException, CancelFitException])
@pytest.mark.parametrize("every", ["1 batch", "2 batches"])
def test_a_pass_that_a_callback_ends_at_the_batch_of_the_checkpoint_gets_no_batch_more(tmp_path, order, how, every):
    class Ends(Callback):
        def after_batch(self):
            if self.learn.training and self.learn.epoch == 1 and self.learn.iter == 3:
                raise how

    def run(folder, dies=False):
        ends, last = (
            Ends(),
            Callback(**({f"after_cancel_{how.__name__.removeprefix('Cancel')[:-9].lower()}": die} if dies else {})),
        )
        ends.order, last.order = order, 2000
        learn = learner([ends, last])
        learn.fit(3, checkpoint=Checkpoint(folder, every, background=False), resume="auto")
        return left(learn)

    def die(cb):
        raise Boom

    whole = run(tmp_path / "whole")
    with pytest.raises(Boom):
        run(tmp_path / "run", dies=True)
    assert run(tmp_path / "run") == whole


def test_a_sigterm_in_the_batch_that_ends_a_pass_goes_on_where_it_was(tmp_path):
    def run(folder, sends=False):
        send = Callback(
            after_pred=lambda cb: os.kill(os.getpid(), signal.SIGTERM) if sends and cb.learn.iter == 1 else None
        )
        learn = learner([ShortEpochCallback(0.3, short_valid=False), send])
        learn.fit(3, **saving(folder))
        return left(learn)

    whole = run(tmp_path / "whole")
    with pytest.raises(SystemExit):
        run(tmp_path / "run", sends=True)
    assert run(tmp_path / "run") == whole


def test_tensors_come_back_with_their_axes_in_the_same_order_in_memory():
    x = torch.randn(2, 3, 4, 5)
    views = {
        "channels last": x.contiguous(memory_format=torch.channels_last), "transposed": x[0, 0].t(), "plain": x,
        "thin": torch.randn(4, 3, 1, 1).contiguous(memory_format=torch.channels_last), "gaps": x[..., ::2],
    }  # fmt: skip
    tensors = {}
    back = decode_tree(encode_tree(views, tensors, "x"), {name: y.contiguous() for name, y in tensors.items()})
    for name, y in views.items():
        assert torch.equal(back[name], y)
        assert back[name].stride() == (y.contiguous() if name == "gaps" else y).stride()
    with pytest.raises(BadFile, match="lays a tensor out"):
        decode_tree({"$tensor": "x", "strides": [0, 0, 0, 1 << 40]}, {"x": x})


def test_channels_last_with_norms_over_the_weights_goes_on(tmp_path):
    pictures = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    batches = [(pictures[i : i + 4], pictures[i : i + 4].mean((1, 2, 3))[:, None]) for i in range(0, 24, 4)]

    def make(at):
        model = lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1)
        )
        return learner([ChannelsLast(), GradientClip(0.1), EMACallback()], at, (batches, batches), model, Lamb)

    check_twins(tmp_path, make)
