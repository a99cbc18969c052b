"""Cross-validation: what the folds are trained on, what they say of the others, intervals, and all of them as one file."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_wine
from sklearn.model_selection import KFold, RepeatedKFold, TimeSeriesSplit
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader, Subset, TensorDataset, WeightedRandomSampler

from layered.collab import CollabDataLoaders, collab_learner
from layered.data import CategoryBlock, DataBlock, DataLoaders, RegressionBlock, get_image_files, parent_label
from layered.files import write_archive
from layered.foundation import BadArgument, BadFile, BadValue, CannotTrain, NotExportable, OutOfRange
from layered.metrics import accuracy, mae
from layered.tabular import TabularDataLoaders, tabular_learner
from layered.text import AWD_LSTM, BaseTokenizer, TextDataLoaders, text_classifier_learner
from layered.training import Ensemble, Learner, cross_validate, load_ensemble, load_learner
from layered.vision import ImageDataLoaders, Resize, vision_learner

WINE = load_wine(as_frame=True).frame[["alcohol", "hue", "target"]].iloc[::2].sample(frac=1, random_state=0)
WINE["target"] = WINE["target"].map({0: "red", 1: "rose", 2: "white"})


def of_wine(splitter, df=WINE, **kwargs):
    dls = TabularDataLoaders.from_df(df, y_names="target", splitter=splitter, bs=16, device="cpu", **kwargs)
    return tabular_learner(dls, layers=[8], metrics=accuracy)


def one_epoch(learn):
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, 0.1)


@pytest.fixture(scope="module")
def wine():
    return cross_validate(of_wine, WINE, folds=3, fit=one_epoch, stratify="target", seed=1)


def test_each_item_is_predicted_by_the_learner_that_was_not_trained_on_it(wine):
    for learn, (train, valid) in zip(wine.learners, wine.splits, strict=True):
        assert sorted([*train, *valid]) == list(range(len(WINE)))
        rows = WINE.iloc[valid].drop(columns="target")
        np.testing.assert_allclose(wine.oof[valid], learn.get_preds(dl=learn.dls.test_dl(rows))[0], atol=1e-6)
    classes = np.array(wine.vocab)
    assert classes[wine.targets.squeeze(1)].tolist() == WINE["target"].tolist()
    right = classes[wine.oof.argmax(1)] == WINE["target"]
    by_fold = [right.iloc[valid].mean() for _, valid in wine.splits]
    np.testing.assert_allclose(wine.scores["accuracy"], by_fold)


def test_statistics_are_those_of_the_training_items_of_each_fold(wine):
    for learn, (train, _) in zip(wine.learners, wine.splits, strict=True):
        assert learn.dls.train_ds.procs[-1].means["hue"] == pytest.approx(WINE["hue"].iloc[train].mean())


def test_the_interval_is_that_of_nadeau_and_bengio(wine):
    values = wine.scores["accuracy"]
    mean, half = wine.interval("accuracy", confidence=0.9)
    with pytest.raises(OutOfRange, match="confidence"):
        wine.interval("accuracy", 95)
    share = np.mean([len(valid) / len(train) for train, valid in wine.splits])
    assert mean == pytest.approx(values.mean())
    assert half == pytest.approx(stats.t.ppf(0.95, 2) * np.sqrt((1 / 3 + share) * values.var(ddof=1)))
    assert f"accuracy    {mean:.4f}"[:15] in repr(wine)


def test_new_rows_get_the_mean_of_all_folds_and_the_file_predicts_the_same(wine, tmp_path):
    rows = WINE.drop(columns="target").iloc[:5]
    each = [learn.get_preds(dl=learn.dls.test_dl(rows))[0] for learn in wine.learners]
    assert not torch.allclose(each[0], each[1])
    mean = torch.stack(each).mean(0)
    torch.testing.assert_close(wine.get_preds(rows), mean)
    loaded = load_ensemble(wine.export(tmp_path / "wine"))
    assert torch.equal(loaded.get_preds(rows), wine.get_preds(rows))
    for item in (rows.iloc[0], rows.iloc[:1], rows.iloc[0].to_dict()):
        target, decision, probabilities = loaded.predict(item)
        assert (target, decision) == (wine.vocab[mean[0].argmax()], mean[0].argmax())
        torch.testing.assert_close(probabilities, mean[0])
    with pytest.raises(BadValue, match="predict takes one item"):
        loaded.predict(rows)


def test_a_seed_repeats_folds_and_training(wine):
    again = cross_validate(of_wine, WINE, folds=3, fit=one_epoch, stratify="target", seed=1)
    assert torch.equal(again.oof, wine.oof)


def test_images_texts_and_ratings(pictures, tmp_path):
    files = get_image_files(pictures)
    net = lambda pretrained: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(1, 1))
    args = {"item_tfms": Resize(16), "bs": 4, "num_workers": 0, "device": "cpu"}
    recipes = (
        lambda splitter: ImageDataLoaders.from_folder(pictures, splitter=splitter, **args),
        lambda splitter: ImageDataLoaders.from_path_func(pictures, files, parent_label, splitter=splitter, **args),
    )
    seen = []
    for recipe in recipes:
        cv = cross_validate(
            lambda s: vision_learner(recipe(s), net, pretrained=False),
            files,
            folds=2,
            fit=one_epoch,
            stratify=parent_label,
            seed=0,
        )
        seen.append(cv.oof)
        assert [cv.vocab[i] for i in cv.targets] == list(map(parent_label, files))
        loaded = load_ensemble(cv.export(tmp_path / "images"))
        torch.testing.assert_close(loaded.predict(files[0])[2], cv.get_preds(files[:2])[0])
    torch.testing.assert_close(*seen)

    texts = pd.DataFrame({"text": [f"{'good' if i % 2 else 'bad'} film {'so ' * (i % 5)}" for i in range(24)]})
    texts["label"] = np.where(texts.index % 2, "pos", "neg")

    def of_texts(splitter):
        dls = TextDataLoaders.from_df(
            texts, tok_tfm=BaseTokenizer, splitter=splitter, bs=4, device="cpu", num_workers=0
        )
        return text_classifier_learner(dls, AWD_LSTM, pretrained=False, config={"n_layers": 1, "n_hid": 8, "emb_sz": 6})

    groups = texts.index // 4
    cv = cross_validate(of_texts, texts, folds=3, fit=one_epoch, groups=groups)
    assert [cv.vocab[i] for i in cv.targets] == texts["label"].tolist()
    for learn, (train, valid) in zip(cv.learners, cv.splits, strict=True):
        assert not set(groups[train]) & set(groups[valid])
        new = learn.get_preds(dl=learn.dls.test_dl(texts["text"].iloc[valid]))[0]
        torch.testing.assert_close(cv.oof[valid], new, atol=1e-5, rtol=1e-4)

    ratings = pd.DataFrame(
        [(u, i, float((u * i) % 5)) for u in range(8) for i in range(8)], columns=["user", "item", "stars"]
    )
    cv = cross_validate(
        lambda s: collab_learner(CollabDataLoaders.from_df(ratings, splitter=s, bs=8, device="cpu"), 4, metrics=mae), ratings,
        folds=2, fit=one_epoch,
    )  # fmt: skip
    assert cv.targets.squeeze(1).tolist() == ratings["stars"].tolist()
    assert np.isfinite(cv.interval("mae")).all()
    torch.testing.assert_close(load_ensemble(cv.export(tmp_path / "ratings")).get_preds(ratings), cv.get_preds(ratings))


X, Y = torch.arange(24.0)[:, None], torch.arange(24.0)[:, None] * 2


def line(splitter):
    learn = Learner(
        DataLoaders.from_arrays(X, Y, splits=splitter(X), bs=4, device="cpu"), nn.Linear(1, 1), nn.MSELoss()
    )
    one_epoch(learn)
    return learn


def test_folds_in_time_leave_the_earliest_items_without_a_prediction():
    day = pd.Series(pd.date_range("2024-01-01", periods=24))[::-1]
    cv = cross_validate(line, X, folds=3, time=day.to_numpy(), gap="2 days")
    for train, valid in cv.splits:
        gap = (day.iloc[valid].min() - day.iloc[train].max()).days
        assert gap == 2
    assert torch.isnan(cv.oof.squeeze(1)).tolist() == (day < "2024-01-07").tolist()


def test_folds_of_scikit_learn_and_repeated_ones():
    cv = cross_validate(line, X, folds=KFold(4))
    assert [valid.tolist() for _, valid in cv.splits] == [valid.tolist() for _, valid in KFold(4).split(X)]
    twice = cross_validate(line, X, folds=RepeatedKFold(n_splits=2, n_repeats=2, random_state=0))
    of_first = [
        learn.get_preds(dl=[(X[:1],)])[0]
        for learn, (_, valid) in zip(twice.learners, twice.splits, strict=True)
        if 0 in valid
    ]
    torch.testing.assert_close(twice.oof[:1], torch.stack(of_first).mean(0))
    assert (
        len(cross_validate(line, X, folds=[(train, valid) for train, valid in TimeSeriesSplit(3).split(X)]).learners)
        == 3
    )


def test_groups_are_kept_whole_and_labels_even():
    labels, groups = np.arange(24) % 2, np.arange(24) // 2
    cv = cross_validate(line, X, folds=3, stratify=labels, groups=groups)
    for train, valid in cv.splits:
        assert not set(groups[train]) & set(groups[valid])
        assert labels[valid].mean() == 0.5


def test_what_was_split_otherwise_is_refused():
    with pytest.raises(BadValue, match="did not use its splitter"):
        cross_validate(lambda splitter: line(lambda x: (range(12), range(12, 24))), X)
    with pytest.raises(BadValue, match="other training items than the fold"):
        cross_validate(lambda splitter: line(lambda x: (splitter(x)[0][:-1], splitter(x)[1])), X)
    with pytest.raises(BadValue, match="are not those that cross_validate was given"):
        cross_validate(lambda splitter: of_wine(splitter, WINE.sort_values("hue")), WINE, fit=one_epoch)
    with pytest.raises(BadValue, match="are not those that cross_validate was given"):
        cross_validate(lambda splitter: splitter(X[:-1]), X)


def test_learners_without_training_and_folds_that_cannot_be_made_are_refused(pictures):
    with pytest.raises(CannotTrain, match="was not trained"):
        cross_validate(of_wine, WINE)
    with pytest.raises(BadArgument, match="did not return a learner"):
        cross_validate(lambda splitter: splitter(X), X)
    with pytest.raises(BadArgument, match="needs the items"):
        cross_validate(line, pictures)
    with pytest.raises(BadArgument, match="folds by time"):
        cross_validate(line, X, time=np.arange(24), groups=np.arange(24))
    for folds in ("five", 2.5):
        with pytest.raises(BadArgument, match="neither a number"):
            cross_validate(line, X, folds=folds)
    with pytest.raises(BadValue, match="two folds or more"):
        cross_validate(line, X, folds=[(range(12), range(12, 24))])
    for folds in (1, 0, True):
        with pytest.raises(BadValue, match="two folds or more"):
            cross_validate(line, X, folds=folds)
    for parts in ((range(12),), (range(12), range(12, 18), range(18, 24))):
        with pytest.raises(BadValue, match="not a pair"):
            cross_validate(line, X, folds=[parts, parts])
    with pytest.raises(BadValue, match="more folds than items"):
        cross_validate(line, X, folds=25)
    with pytest.raises(BadValue, match="every label occurs less often"):
        cross_validate(line, X, stratify=np.arange(24) / 7)
    for absent in (None, float("nan")):
        with pytest.raises(BadValue, match="an item has no group"):
            cross_validate(line, X, groups=np.array([absent, *"ab" * 11, "c"], dtype=object))
    with pytest.raises(BadArgument, match="fold"):
        cross_validate(line, X, fold=5)


def test_predictions_that_do_not_belong_to_the_items_of_the_fold_are_refused():
    def of_torch(splitter, kind=TorchDataLoader, **kwargs):
        items = TensorDataset(X, Y)
        train, valid = (Subset(items, list(map(int, positions))) for positions in splitter(X))
        loaders = DataLoaders(TorchDataLoader(train, batch_size=4), kind(valid, batch_size=5, **kwargs))
        return Learner(loaders, nn.Linear(1, 1), nn.MSELoss())

    shuffled = cross_validate(lambda s: of_torch(s, shuffle=True), X, folds=3, fit=one_epoch)
    assert torch.equal(shuffled.targets, Y)
    with pytest.raises(BadValue, match="one for each validation item"):
        cross_validate(lambda s: of_torch(s, drop_last=True), X, folds=3, fit=one_epoch)
    with pytest.raises(BadValue, match="order of the validation items is not known"):
        cross_validate(lambda s: of_torch(s, sampler=WeightedRandomSampler([1.0] * 8, 8)), X, folds=3, fit=one_epoch)

    class Shuffling(TorchDataLoader):
        pass

    with pytest.raises(BadValue, match="order of the validation items is not known"):
        cross_validate(lambda s: of_torch(s, Shuffling, shuffle=True), X, folds=3, fit=one_epoch)


def test_a_model_that_an_earlier_fold_has_trained_is_refused():
    model, kept = nn.Linear(1, 1), []

    def shared(splitter):
        loaders = DataLoaders.from_arrays(X, Y, splits=splitter(X), bs=4, device="cpu")
        return Learner(loaders, model, nn.MSELoss())

    def reused(splitter):
        kept.append(shared(splitter))
        return kept[0]

    body = nn.Linear(1, 1)

    def frozen(splitter):
        body.requires_grad_(False)
        return Learner(shared(splitter).dls, nn.Sequential(body, nn.Linear(1, 1)), nn.MSELoss())

    def thaw(learn):
        learn.model.requires_grad_(True)
        one_epoch(learn)

    statistics = nn.BatchNorm1d(1, affine=False)

    def normed(splitter):
        return Learner(shared(splitter).dls, nn.Sequential(statistics, nn.Linear(1, 1)), nn.MSELoss())

    cross_validate(frozen, X, folds=2, fit=one_epoch)
    with pytest.raises(BadValue, match="already trained in an earlier fold"):
        cross_validate(frozen, X, fit=thaw)
    for make_learner in (shared, reused, normed):
        with pytest.raises(BadValue, match="already trained in an earlier fold"):
            cross_validate(make_learner, X, fit=one_epoch)


def test_errors_say_in_which_fold_they_arose():
    def fails(learn):
        raise RuntimeError("too hot")

    with pytest.raises(RuntimeError) as caught:
        cross_validate(of_wine, WINE, folds=3, fit=fails)
    assert caught.value.__notes__ == ["in fold 1 of 3"]


def test_classes_that_differ_have_no_mean():
    colours = WINE["target"].where(WINE["target"] != "rose", "white")
    learners = [of_wine(None, df, seed=0) for df in (WINE, WINE.assign(target=colours))]
    with pytest.raises(BadValue, match="different classes"):
        Ensemble(learners)
    with pytest.raises(BadValue, match="at least one"):
        Ensemble([])
    for wrong in (learners[0], [Ensemble(learners[:1])]):
        with pytest.raises(BadArgument, match="made of learners"):
            Ensemble(wrong)
    numbers = [
        tabular_learner(
            TabularDataLoaders.from_df(WINE.drop(columns="target").assign(x=range(len(WINE))), y_names=names, bs=16)
        )
        for names in (["hue", "alcohol"], ["alcohol", "hue"])
    ]
    with pytest.raises(BadValue, match="different columns"):
        Ensemble(numbers)


def test_several_targets_are_predicted_as_by_a_learner_and_each_must_have_the_same_classes():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(1, 3), nn.Linear(1, 3)

        def forward(self, x):
            x = x.reshape(-1, 1).float()
            return self.first(x), self.second(x)

    def made(vocab):
        blocks = RegressionBlock(), CategoryBlock(vocab=vocab, sort=False), CategoryBlock()
        getters = [lambda row, name=name: row[name] for name in ("hue", "target", "target")]
        dls = DataBlock(blocks, getters=getters, n_inp=1).dataloaders(WINE, bs=16, device="cpu", num_workers=0)
        return Learner(dls, Both(), lambda pred, *y: sum(map(nn.functional.cross_entropy, pred, y)))

    learn = made(["red", "rose", "white"])
    row = WINE.iloc[0]
    assert Ensemble([learn]).predict(row)[0] == tuple(learn.predict(row)[0])
    with pytest.raises(BadValue, match="different classes"):
        Ensemble([learn, made(["white", "rose", "red"])])


def test_files_of_other_kinds_and_damaged_ones_are_refused(wine, tmp_path):
    file = wine.export(tmp_path / "wine")
    with pytest.raises(BadFile, match="load_ensemble opens an ensemble"):
        load_learner(file)
    with pytest.raises(BadFile, match="load_learner opens an export"):
        load_ensemble(wine.learners[0].export(tmp_path / "one.layered"))
    for members in (None, [], {}, [1], [{}], [{"model": {}}] * 1001):
        write_archive(tmp_path / "bad.layered", {"members": members}, {}, kind="ensemble")
        with pytest.raises(BadFile):
            load_ensemble(tmp_path / "bad.layered")
    write_archive(tmp_path / "bad.layered", {"members": [{}]}, {"7.x": torch.zeros(1)}, kind="ensemble")
    with pytest.raises(BadFile, match="none of its members"):
        load_ensemble(tmp_path / "bad.layered")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    learn = line(lambda x: (range(12), range(12, 24)))
    other = line(lambda x: (range(12), range(12, 24)))
    other.loss_func = lambda pred, target: (pred - target).abs().mean()
    other.loss_func.activation = print
    with pytest.raises(NotExportable):
        Ensemble([learn, other]).export(tmp_path / "both")
    assert not list(tmp_path.iterdir())
