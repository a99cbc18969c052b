"""`tabular_learner` from training to prediction in another process: classes, numbers, labels, several targets."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from people import CATS, CONTS, PROCS, people
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue, EmptySource, NotExportable, transforms
from layered.tabular.all import (
    BCEWithLogitsLossFlat,
    CategoryBlock,
    Checkpoint,
    ClassificationInterpretation,
    CrossEntropyLossFlat,
    Learner,
    MSELossFlat,
    MultiCategoryBlock,
    MultiTaskLoss,
    RandomSplitter,
    TabularDataLoaders,
    TabularLearner,
    TabularPandas,
    TabularProc,
    TabularResNet,
    accuracy,
    class_weights,
    get_emb_sz,
    load_learner,
    tabular_config,
    tabular_learner,
)


def fit(learn, epochs, lr=1e-2):
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(epochs, lr)
    return learn


def test_a_class_is_learnt_as_well_as_by_logistic_regression():
    df = load_breast_cancer(as_frame=True).frame
    splits = RandomSplitter(0.3, seed=0)(df)
    names = list(df.columns[:-1])
    to = TabularPandas(df, PROCS, None, names, "target", CategoryBlock(), splits=splits)
    torch.manual_seed(0)
    learn = fit(tabular_learner(to.dataloaders(32, device="cpu", seed=0), [32], metrics=accuracy), 5)
    train, valid = df.iloc[splits[0]], df.iloc[splits[1]]
    scaler = StandardScaler().fit(train[names])
    oracle = LogisticRegression(max_iter=1000).fit(scaler.transform(train[names]), train.target)
    found = learn.validate()[1]
    assert found > 0.94
    assert found > oracle.score(scaler.transform(valid[names]), valid.target) - 0.03


def test_a_number_is_learnt_as_well_as_by_ridge_regression():
    df = load_diabetes(as_frame=True).frame
    splits = RandomSplitter(0.3, seed=0)(df)
    names = list(df.columns[:-1])
    to = TabularPandas(df, PROCS, None, names, "target", splits=splits)
    torch.manual_seed(0)
    dls = to.dataloaders(32, device="cpu", seed=0)
    learn = fit(tabular_learner(dls, [16], y_range=(0, 400)), 15, 3e-2)
    assert isinstance(learn.loss_func, MSELossFlat)
    train, valid = df.iloc[splits[0]], df.iloc[splits[1]]
    oracle = Ridge(1e-3).fit(train[names], train.target)
    error = np.mean((oracle.predict(valid[names]) - valid.target) ** 2)
    assert learn.validate()[0] < 1.15 * error
    row, decision, output = learn.predict(valid.iloc[0])
    assert row.items.target[0] == decision.item() == output.item()


def test_what_is_learnt_depends_on_categories(learn):
    assert fit(learn, 8, 3e-2).validate()[1] > 0.8


def test_arguments_reach_the_model_and_the_learner(dls):
    learn = tabular_learner(
        dls,
        [20, 10],
        {"city": 7},
        tabular_config(ps=[0.1, 0.2], embed_p=0.3, use_bn=False),
        n_out=5,
        y_range=(0, 2),
        wd=0.1,
    )
    assert isinstance(learn, TabularLearner)
    args = learn.model.init_args
    assert args["emb_szs"] == [(4, 7), (5, 4), (3, 3)]
    assert (args["layers"], args["out_sz"], args["n_cont"], args["ps"], args["y_range"]) == (
        [20, 10],
        5,
        2,
        [0.1, 0.2],
        (0, 2),
    )
    assert learn.wd == 0.1
    assert tabular_learner(dls).model.init_args["layers"] == [200, 100]
    with pytest.raises(BadArgument, match="did you mean 'embed_p'"):
        tabular_learner(dls, config={"embedp": 0.1})
    with pytest.raises(BadArgument, match="did you mean 'layers'"):
        tabular_learner(dls, layer=[20])


def test_the_number_of_outputs_has_to_be_known(df):
    with pytest.raises(BadValue, match="number of outputs is unknown"):
        tabular_learner(TabularPandas(df, PROCS, CATS, CONTS).dataloaders(8))


def test_a_model_of_ones_own_and_the_residual_one_train_in_any_learner(dls):
    model = TabularResNet(get_emb_sz(dls), len(dls.cont_names), dls.c, size=16, num_layers=1)
    assert fit(TabularLearner(dls, model, metrics=accuracy), 8, 3e-2).validate()[1] > 0.75
    assert isinstance(fit(Learner(dls, model), 1).loss_func, CrossEntropyLossFlat)


def test_weights_of_classes_reach_the_loss(dls):
    learn = tabular_learner(dls, [8], loss_func=CrossEntropyLossFlat(weight=class_weights(dls)))
    preds, targets = learn.get_preds(act=lambda x: x)
    wanted = torch.nn.functional.cross_entropy(preds, targets[:, 0], class_weights(dls), reduction="none")
    assert_close(learn.get_preds(with_loss=True)[2], wanted)


# -- an export is used in a process that knows nothing of the training

READ = """
import sys, torch, pandas as pd
from layered.basics import load_learner
import layered.tabular.all
learn = load_learner(sys.argv[1])
df = pd.read_pickle(sys.argv[2])
preds = learn.get_preds(dl=learn.dls.test_dl(df))[0]
torch.save((preds, [learn.predict(df.iloc[i])[2] for i in range(3)], type(learn).__name__), sys.argv[3])
"""


def test_an_export_predicts_the_same_in_another_process(learn, tmp_path):
    fit(learn, 1)
    df = people(30, seed=5).drop(columns="buys")
    df.loc[0, ["city", "income"]] = ["Nowhere", None]
    df.to_pickle(tmp_path / "new.pkl")
    file = learn.export("people.layered")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ, file, tmp_path / "new.pkl", tmp_path / "out.pt"], check=True
    )
    preds, singles, kind = torch.load(tmp_path / "out.pt")
    assert kind == "TabularLearner"
    wanted = learn.get_preds(dl=learn.dls.test_dl(df))[0]
    assert torch.equal(preds, wanted)
    assert_close(torch.stack(singles), wanted[:3], atol=1e-6, rtol=1e-6)


def test_a_loaded_learner_knows_the_table_and_shows_rows(learn, shown):
    learn.export("people.layered")
    again = load_learner(learn.path / "people.layered")
    assert (list(again.dls.cat_names), list(again.dls.cont_names), list(again.dls.vocab)) == (
        list(learn.dls.cat_names), list(learn.dls.cont_names), ["no", "yes"],
    )  # fmt: skip
    assert again.dls.classes == learn.dls.classes
    assert again.predict(people().iloc[0])[0].items.equals(learn.predict(people().iloc[0])[0].items)
    again.export("twice.layered")
    dl = load_learner(learn.path / "twice.layered").dls.test_dl(people().iloc[:4])
    dl.show_batch()
    assert shown[0].buys.tolist() == people().buys[:4].tolist()


def test_a_loaded_learner_has_no_rows_to_train_on(learn):
    again = load_learner(learn.export("people.layered"))
    with again.no_bar(), again.no_logging(), pytest.raises(EmptySource, match="an export holds no data"):
        again.fit(1)


@transforms.register("test.Rounded")
class Rounded(TabularProc):
    """Whole years."""

    fits = ("to_what",)

    def setups(self, to):
        self.to_what = 0

    def encodes(self, to):
        to["age"] = to["age"].round(self.to_what)


class Unknown(Rounded):
    """A proc that no file can name."""


def test_procs_of_ones_own_are_exported_by_their_registered_name(df, tmp_path):
    dls = TabularPandas(df, [*PROCS, Rounded], CATS, CONTS, "buys").dataloaders(32, device="cpu", path=tmp_path)
    learn = tabular_learner(dls, [8])
    again = load_learner(learn.export())
    assert_close(again.predict(df.iloc[3])[2], learn.predict(df.iloc[3])[2])
    dls = TabularPandas(df, [*PROCS, Unknown], CATS, CONTS, "buys").dataloaders(
        32, device="cpu", path=tmp_path / "other"
    )
    with pytest.raises(NotExportable, match="Unknown"):
        tabular_learner(dls, [8]).export()
    assert not (tmp_path / "other").exists()


# -- other kinds of targets


@pytest.fixture
def several():
    return people().assign(happy=lambda d: d.income % 2, score=lambda d: d.income / 1e6)


TASKS = {
    "numbers": (["score", "happy"], None, MSELossFlat),
    "labels": (["happy", "owns"], MultiCategoryBlock(encoded=True, vocab=["happy", "owns"]), BCEWithLogitsLossFlat),
    "tasks": (["buys", "score"], None, MultiTaskLoss),
    "classes": (["buys", "happy"], [CategoryBlock(), CategoryBlock()], MultiTaskLoss),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_target_trains_predicts_exports_and_is_shown(several, tmp_path, task, shown):
    y_names, y_block, loss = TASKS[task]
    df = several.assign(owns=lambda d: (d.rooms > 2).astype(int))
    to = TabularPandas(df, PROCS, CATS, CONTS, y_names, y_block, splits=RandomSplitter(seed=0)(df))
    dls = to.dataloaders(32, device="cpu", path=tmp_path)
    learn = fit(tabular_learner(dls, [8]), 1)
    assert isinstance(learn.loss_func, loss)
    preds, _, losses = learn.get_preds(with_loss=True)
    assert losses.mean().item() == pytest.approx(learn.validate()[0], rel=1e-3)
    learn.show_results(max_n=3, shuffle=False)
    assert {f"{name}_pred" for name in y_names} < set(shown[0].columns)
    row, _, output = learn.predict(df.iloc[to.valid.items.index[0]])
    again = load_learner(learn.export()).predict(df.iloc[to.valid.items.index[0]])
    assert row.items[y_names].iloc[0].tolist() == again[0].items[y_names].iloc[0].tolist()
    sides = [o if isinstance(o, tuple) else (o,) for o in (output, again[2], preds)]
    for mine, twin, every in zip(*sides, strict=True):
        assert_close(mine, twin)
        assert_close(mine, every[0], atol=1e-5, rtol=1e-5)


# -- the rest of the learner


def test_results_and_losses_are_shown_with_their_rows(learn, shown):
    assert learn.show_results(max_n=5, shuffle=False) is None
    decisions = learn.get_preds(with_decoded=True)[2][:5]
    assert shown[0].buys_pred.tolist() == [["no", "yes"][int(d)] for d in decisions]
    interp = ClassificationInterpretation.from_learner(learn)
    assert interp.confusion_matrix().sum() == 40
    interp.plot_top_losses(3)
    assert_close(torch.tensor(shown[1].loss.tolist()), interp.top_losses(3)[0].float(), check_dtype=False)
    learn.summary()


def test_a_fit_goes_on_from_its_checkpoint_where_it_was_killed(df, splits, tmp_path):
    class Killed(Exception):
        pass

    def train(kill_at=None, **kwargs):
        torch.manual_seed(0)
        to = TabularPandas(df, PROCS, CATS, CONTS, "buys", splits=splits)
        learn = tabular_learner(to.dataloaders(32, device="cpu", seed=1), [8], path=tmp_path)

        @learn.on("after_batch")
        def stop(learn):
            if learn.train_iter == kill_at:
                raise Killed

        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(3, 1e-2, **kwargs)
        return learn.model.state_dict()

    wanted = train()
    with pytest.raises(Killed):
        train(8, checkpoint=Checkpoint(tmp_path / "saved"))
    for name, value in train(resume=tmp_path / "saved", checkpoint=Checkpoint(tmp_path / "saved")).items():
        assert torch.equal(value, wanted[name])


def test_a_learner_without_a_table_says_so():
    x = torch.randn(8, 2)
    dls = TabularDataLoaders.from_arrays(x, x.sum(1), bs=2)
    with pytest.raises(Exception, match="how a row becomes a batch"):
        TabularLearner(dls, torch.nn.Linear(2, 1), loss_func=MSELossFlat()).predict({"a": 1})
