"""Loaders with transforms, side by side."""

from __future__ import annotations

import pickle

import matplotlib as mpl
import numpy as np
import pytest
import torch
from parts import BatchNoise, Shift
from torch.utils.data import DataLoader as TorchDataLoader

from layered.data import Categorize, DataLoader, DataLoaders, Datasets, TfmdDL, TfmdLists
from layered.data.tfmd_loader import batch_to_samples
from layered.foundation import BadArgument, BadValue, L, Pipeline, TensorImage, Transform, plain

mpl.use("Agg")

pairs = L((torch.tensor([float(i)]), i % 2) for i in range(10))


class Negate(Transform):
    def encodes(self, x: TensorImage):
        return -x

    def decodes(self, x: TensorImage):
        return -x


def picture(i):
    return TensorImage(torch.full((1, 2, 2), float(ord(i) - 97)))


def letters(**kwargs):
    dsets = Datasets(list("abcdefgh"), [[picture], [str.upper, Categorize()]], splits=[[0, 1, 2, 3, 4, 5], [6, 7]])
    dsets.tls[1].tfms[1].vocab = Categorize(vocab="ABCDEFGH").vocab
    return dsets.dataloaders(**{"bs": 2, "num_workers": 0, "device": "cpu", **kwargs})


def test_loaders_are_made_of_loaders():
    train, valid = DataLoader([1, 2], bs=1), DataLoader([3], bs=1)
    dls = DataLoaders(train, valid, path="models")
    assert dls.train is dls[0] is train
    assert dls.valid is dls[1] is valid
    assert dls.valid_ds == [3]
    assert dls.train_ds == [1, 2]
    assert str(dls.path) == "models"
    assert len(dls) == 2
    with pytest.raises(BadValue, match="no loader 2"):
        _ = dls[2]
    with pytest.raises(BadValue):
        DataLoaders()


def test_loaders_of_others_and_lists_of_batches_can_stand_side_by_side():
    dls = DataLoaders(TorchDataLoader(list(range(4)), batch_size=2), [torch.zeros(1)])
    assert dls.one_batch().tolist() == [0, 1]
    assert dls.device is None
    assert dls.to("cpu").device == torch.device("cpu")
    assert dls.train_ds == [0, 1, 2, 3]


def test_data_sets_that_are_lists_of_tuples_make_loaders():
    dls = DataLoaders.from_dsets(pairs, pairs, bs=4, shuffle=False, drop_last=True)
    assert [len(y) for _, y in dls.train] == [4, 4]
    assert [len(y) for _, y in dls.valid] == [4, 4]
    assert next(iter(dls.train))[0].flatten().tolist() == [0, 1, 2, 3]
    assert dls.train.n_inp == 1


def test_training_is_shuffled_and_drops_the_rest_and_validation_does_neither():
    dls = DataLoaders.from_dsets(pairs, pairs, bs=4, seed=1)
    train, valid = (torch.cat([x.flatten() for x, _ in dl]).tolist() for dl in dls)
    assert len(train) == 8
    assert train != sorted(train)
    assert valid == list(range(10))
    other = DataLoaders.from_dsets(pairs, pairs, bs=4, val_bs=5, val_shuffle=True, val_n=6, seed=1)
    assert [len(y) for _, y in other.valid] == [5, 1]


def test_the_last_batch_that_is_asked_to_be_left_out_of_a_split_is_that_of_training():
    dls = letters(bs=4, drop_last=True, shuffle=False, val_bs=4)
    assert [len(y) for _, y in dls.train] == [4]
    assert [len(y) for _, y in dls.valid] == [2]


def test_more_items_a_batch_than_there_are_is_an_error_with_a_number_that_would_do():
    with pytest.raises(BadValue, match="bs=64 exceeds the 10 training items") as caught:
        DataLoaders.from_dsets(pairs, pairs)
    assert "bs=5" in caught.value.fix
    assert len(DataLoaders.from_dsets(pairs, bs=64, drop_last=False)[0]) == 1


@pytest.mark.parametrize("kwargs", [{"shufle": False}, {"num_wrokers": 2}, {"val_shufle": True}])
def test_a_misspelt_keyword_is_refused(kwargs):
    with pytest.raises(BadArgument, match="unknown argument"):
        DataLoaders.from_dsets(pairs, pairs, bs=2, **kwargs)
    with pytest.raises(TypeError):
        letters(**kwargs)


def test_the_slots_are_pipelines_that_know_their_split():
    dls = letters(after_item=Shift, after_batch=[Negate, BatchNoise])
    assert isinstance(dls.train.after_item, Pipeline)
    train, valid = (plain(dl.one_batch()[0]) for dl in dls)
    assert (train != train.round()).all()
    assert torch.equal(valid, torch.tensor([-6.0, -7.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2))


def test_order_of_batch_transforms_is_theirs_and_those_that_fit_see_the_ones_before():
    class Centre(Transform):
        order = 2

        def setups(self, dl: TfmdDL):
            self.mean = plain(dl.one_batch()[0]).mean()

        def encodes(self, x: TensorImage):
            return x - self.mean

    dl = letters(bs=6, shuffle=False, after_batch=[Centre, Negate]).train
    assert dl.after_batch.mean == -2.5
    assert plain(dl.one_batch()[0]).mean() == 0


def test_decoding_a_batch_undoes_everything():
    dls = letters(shuffle=False, after_batch=Negate)
    (image, label), _ = dls.train.decode_batch(dls.one_batch())
    assert torch.equal(plain(image), torch.zeros(1, 2, 2))
    assert label == "A"
    x, y, samples = dls.train.show_batch(max_n=2, show=False)
    assert type(x) is TensorImage
    assert y.tolist() == [0, 1]
    assert [s[1] for s in samples] == ["A", "B"]


def test_one_item_can_be_looked_at_again_and_again():
    dl = letters(shuffle=False, after_item=Shift).train
    x, y, _ = dl.show_batch(max_n=4, unique=True, show=False)
    assert y.long().tolist() == [0, 0, 0, 0]
    assert len(plain(x)[:, 0, 0, 0].unique()) == 4
    assert torch.equal(plain(next(iter(letters(seed=3).train))[0]), plain(next(iter(letters(seed=3).train))[0]))


def test_samples_are_taken_off_a_batch():
    batch = (torch.arange(3), [torch.arange(6).reshape(3, 2), ["a", "b", "c"]])
    assert batch_to_samples(batch, 2)[1][1][1] == "b"
    assert len(batch_to_samples(batch)) == 3
    assert batch_to_samples({"n": torch.arange(3), "s": ["a", "b", "c"]}, 2) == [{"n": 0, "s": "a"}, {"n": 1, "s": "b"}]


def test_transforms_can_be_added_to_the_slots_of_one_loader_or_all():
    dls = letters(shuffle=False)
    dls.add_tfms([Negate], "after_batch", loaders=[1])
    assert len(dls.train.after_batch) == 0
    assert plain(dls.valid.one_batch()[0]).max() == -6
    dls.add_tfms(Negate(), "after_item")
    assert len(dls.train.after_item) == 1


def test_a_test_loader_takes_inputs_in_order_and_labels_on_request():
    dls = letters()
    (x,) = dls.test_dl(["c", "a", "b"]).one_batch()
    assert plain(x)[:, 0, 0, 0].tolist() == [2, 0]
    assert [len(b[0]) for b in dls.test_dl(["c", "a", "b"], bs=3)] == [3]
    _, y = dls.test_dl(["c", "a"], with_labels=True).one_batch()
    assert [dls.vocab[i] for i in y] == ["C", "A"]
    (x,) = dls.test_dl("b").one_batch()
    assert plain(x).flatten().tolist() == [1, 1, 1, 1]
    assert next(iter(dls.test_dl(["a"], num_workers=1)))[0].shape == (1, 1, 2, 2)


def test_steps_that_the_items_have_behind_them_are_left_out():
    tls = TfmdLists(["1", "2"], [str.strip, int], splits=[[0], [1]])
    dls = tls.dataloaders(bs=1, num_workers=0)
    assert dls.test_dl([" 3 "]).one_batch().tolist() == [3]
    assert dls.test_dl([b"4"], rm_type_tfms=1).one_batch().tolist() == [4]


def test_unknown_attributes_are_those_of_the_training_data():
    dls = letters()
    assert dls.vocab == list("ABCDEFGH")
    assert dls.c == 8
    assert dls.bs == 2
    with pytest.raises(
        AttributeError,
        match="neither DataLoaders nor its TfmdDL nor its Datasets has 'vocbulary'; did you mean 'vocab'",
    ):
        _ = dls.vocbulary


def test_loaders_without_items_keep_the_pipelines():
    empty = letters(after_batch=Negate).new_empty()
    assert len(empty.train) == len(empty.valid) == 0
    assert empty.vocab == list("ABCDEFGH")
    assert plain(empty.test_dl(["b"]).one_batch()[0]).max() == -1


def test_workers_are_there_by_default_only_for_data_that_is_made():
    dsets = Datasets([1, 2], [[], []])
    assert TfmdDL(dsets, bs=1).num_workers > 0
    assert TfmdDL(dsets, bs=1).workers_by_default
    assert TfmdDL(pairs, bs=1).num_workers == 0
    assert TfmdDL(dsets, bs=1, num_workers=0).num_workers == 0


def test_batches_go_to_the_device_of_the_loaders():
    dls = letters(device=None).to("meta")
    assert dls.device == torch.device("meta")
    assert next(iter(dls.valid))[0].device.type == "meta"
    assert dls.cpu().device == torch.device("cpu")


def test_only_so_many_training_items_can_be_used():
    assert len(letters(n=4).train) == 2
    assert len(letters(n=4).valid) == 1


def test_loaders_survive_pickling():
    dls = pickle.loads(pickle.dumps(letters(shuffle=False, after_batch=Negate)))
    assert dls.one_batch()[1].tolist() == [0, 1]
    assert dls.vocab == list("ABCDEFGH")


def test_a_look_into_a_loader_of_others_moves_no_global_generator():
    dls = DataLoaders(TorchDataLoader(list(range(10)), batch_size=2, shuffle=True), device="meta")
    before = torch.get_rng_state()
    assert dls.one_batch().device.type == "meta"
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(BadValue, match="would consume"):
        DataLoaders(iter([1, 2])).one_batch()


@pytest.mark.parametrize("verb", ["show_batch", "new_empty", "test_dl"])
def test_what_needs_transforms_says_so_for_a_loader_of_others(verb):
    dls = DataLoaders(TorchDataLoader([1, 2]), TorchDataLoader([3]))
    with pytest.raises(BadArgument, match=f"{verb} needs a loader of this library") as caught:
        getattr(dls, verb)(*([[1]] if verb == "test_dl" else []))
    assert "DataLoader" in caught.value.got


def test_without_cuda_that_is_said_before_anything_moves(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    dls = letters()
    with pytest.raises(BadValue, match="no CUDA device"):
        dls.cuda()
    assert dls.device == torch.device("cpu")


def test_each_loader_can_have_settings_of_its_own():
    dls = DataLoaders.from_dsets(pairs, pairs, bs=4, dl_kwargs=[{"bs": 2}, {"bs": 5}])
    assert [dl.bs for dl in dls] == [2, 5]
    with pytest.raises(BadArgument, match="unknown argument 'sb'"):
        DataLoaders.from_dsets(pairs, bs=4, dl_kwargs=[{"sb": 2}])


def test_too_few_items_asked_for_are_an_error():
    with pytest.raises(BadValue, match="bs=8 exceeds the 3 training items"):
        DataLoaders.from_dsets(pairs, bs=8, n=3)


def test_a_loader_can_be_made_of_one_of_another_class():
    class Other(TfmdDL):
        pass

    dl = DataLoader([1, 2, 3, 4], bs=3, seed=2, shuffle=True, after_item=lambda x: -x)
    other = dl.new(cls=TfmdDL)
    assert isinstance(other.after_item, Pipeline)
    assert [b.tolist() for b in other] == [b.tolist() for b in dl]
    train = letters(after_batch=Negate).train
    assert type(train.new(cls=Other)) is Other
    assert plain(train.new(cls=Other).one_batch()[0]).max() <= 0
    assert len(train.new(pairs, cls=DataLoader)) == 5


def test_asking_for_an_attribute_costs_no_search_for_names(monkeypatch):
    monkeypatch.setattr("layered.foundation.errors.nearest", None)
    assert not hasattr(letters(), "vocbulary")
    assert "vocab" in dir(letters().train)


class TestAssigning:
    """What is assigned has the effect of the argument of that name, or is refused with what to type."""

    @pytest.fixture
    def dls(self):
        splits = [list(range(8)), [8, 9]]
        return Datasets(list(range(10)), [[float], [lambda i: i % 2]], splits=splits).dataloaders(bs=4, num_workers=0)

    def test_loaders(self, dls):
        dls.train = dls.train.new(shuffle=False)
        assert next(iter(dls.train))[0].tolist() == [0, 1, 2, 3]
        dls.valid = None
        assert len(dls) == 1

    def test_data_sets(self, dls):
        train, valid = dls.train_ds, dls.valid_ds
        dls.train.dataset = valid
        assert (dls.train.n, len(dls.train), dls.train.after_item.split_idx) == (2, 0, 1)
        dls.train_ds, dls.valid_ds = train, train
        assert (len(dls.train), len(dls.valid), dls.train.after_item.split_idx) == (2, 2, 0)
        weighted = dls.train.new(weights="balanced")
        with pytest.raises(BadArgument, match="weights of this loader") as caught:
            weighted.dataset = valid
        assert "new(dataset, weights=" in caught.value.fix

    def test_settings(self, dls):
        dls.bs, dls.device = np.int64(2), "cpu"
        assert [len(dl) for dl in dls] == [4, 1]
        assert dls.train.device == torch.device("cpu")
        for loader in (dls, dls.train):
            with pytest.raises(BadValue, match="invalid batch size"):
                loader.bs = 0

    def test_slots(self, dls):
        dls.after_batch = [lambda x: x * 10]
        assert dls.one_batch()[0].max() >= 30
        dls.train.after_batch = lambda batch: batch[:1]
        assert len(dls.one_batch()) == 1

    @pytest.mark.parametrize(
        "name", ["sampler", "batch_sampler", "batch_size", "collate_fn", "worker_init_fn", "weights"]
    )
    def test_what_loaders_of_torch_have_is_refused_with_the_way_here(self, dls, name):
        for loader in (dls, dls.train):
            with pytest.raises(BadArgument, match=f"no '{name}' to assign to") as caught:
                setattr(loader, name, 1)
            assert "dl." in caught.value.fix


def test_numbers_of_numpy_are_settings_of_loaders():
    numbers = {"bs": 2, "n": 6, "seed": 3, "num_workers": 0, "shuffle_buffer": 2}
    of_numpy = {name: np.int64(number) for name, number in numbers.items()}
    given, plain = (DataLoader(list(range(8)), shuffle=True, **kwargs) for kwargs in (of_numpy, numbers))
    assert [batch.tolist() for batch in given] == [batch.tolist() for batch in plain]
