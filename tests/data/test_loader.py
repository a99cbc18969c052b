"""A loader makes the same batches whoever makes them, goes on where it stood, and says what failed."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import pickle
import random
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from parts import BatchNoise, Marked, NoiseAlways, Numbers, OddError, Shift, ShiftAlways, decorated, jumbled, noisy
from torch.utils.data import IterableDataset, TensorDataset

from layered.data import Categorize, DataLoader, Datasets, SkipItemException, TfmdDL
from layered.foundation import (
    BadArgument,
    BadItem,
    BadValue,
    L,
    MixedSizes,
    TensorImage,
    Transform,
    UnknownLabel,
    key_of,
    leaves,
    permutation,
    seeded,
)

WORKERS = [0, 1, 2]


def columns(**kwargs):
    dsets = Datasets(list(range(10)), [[noisy], [lambda i: float(np.random.rand())]], splits=[range(8), [8, 9]])
    settings = {"bs": 3, "shuffle": True, "seed": 5, "after_item": Shift, "after_batch": BatchNoise, **kwargs}
    return TfmdDL(dsets.train, **settings)


def rows(batches):
    return [torch.cat([torch.as_tensor(leaf).float().reshape(-1) for leaf in leaves(b)]).tolist() for b in batches]


def global_states():
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


# -- the same batches


@pytest.mark.parametrize("workers", WORKERS[1:])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_make_the_batches_that_are_made_without_them(workers, persistent):
    alone, helped = columns(num_workers=0), columns(num_workers=workers, persistent_workers=persistent)
    for _ in range(2):
        wanted = rows(alone)
        assert rows(helped) == wanted
        assert len(wanted) == 3


@pytest.mark.parametrize("dataset", [Numbers(), list(range(10))])
def test_any_data_set_of_others_gives_the_same_with_workers(dataset):
    def make(workers):
        after_item = noisy if isinstance(dataset, list) else ShiftAlways()
        return DataLoader(dataset, bs=4, shuffle=True, seed=1, num_workers=workers, after_item=after_item)

    assert rows(make(2)) == rows(make(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_code_of_others_that_works_on_samples_together_is_seeded_too(workers):
    def make(workers):
        return DataLoader(list(range(9)), bs=3, seed=1, num_workers=workers, before_batch=jumbled)

    first = rows(make(workers))
    torch.rand(3), random.random()
    assert rows(make(0)) == first
    assert sorted(itertools.chain(*first)) == list(range(9))
    assert first != [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_epochs_differ_and_the_seed_decides():
    dl = columns(num_workers=0)
    first, second = rows(dl), rows(dl)
    assert first != second
    assert rows(columns(num_workers=0)) == first
    assert rows(columns(num_workers=0, seed=6)) != first
    dl.set_epoch(0)
    assert rows(dl) == first
    assert rows(dl) == second


def test_without_a_seed_the_seed_of_the_run_decides():
    with seeded(1):
        first = rows(columns(seed=None, num_workers=0))
        assert rows(columns(seed=None, num_workers=0)) == first
    with seeded(2):
        assert rows(columns(seed=None, num_workers=0)) != first


@pytest.mark.parametrize("workers", WORKERS)
def test_building_and_iterating_move_no_global_generator(workers):
    before = global_states()
    dl = columns(num_workers=workers)
    list(dl), dl.one_batch(), len(dl)
    assert global_states() == before


def test_the_order_is_a_permutation_that_depends_on_the_epoch_alone():
    dl = DataLoader(list(range(20)), bs=20, shuffle=True, seed=3)
    (first,), (second,) = dl, dl
    assert sorted(first.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()
    assert first.tolist() == permutation(20, key_of(key_of(3, "train", 0), "order")).tolist()


def test_two_processes_take_disjoint_rows_with_the_keys_they_have_alone():
    def rank(r, world, bs):
        dl = columns(bs=bs, num_workers=0, drop_last=True)
        dl.share = (r, world)
        return list(dl)

    alone, first, second = rank(0, 1, 4), rank(0, 2, 2), rank(1, 2, 2)
    assert len(alone) == len(first) == len(second) == 2
    for whole, even, odd in zip(alone, first, second, strict=True):
        for part in (0, 1):
            assert torch.equal(whole[part][0::2], even[part])
            assert torch.equal(whole[part][1::2], odd[part])


def test_the_length_is_the_number_of_batches_in_every_process():
    for n, bs, world, drop_last in itertools.product((0, 1, 5, 8, 9), (1, 2, 3), (1, 2, 3), (True, False)):
        for r in range(world):
            dl = DataLoader(list(range(n)), bs=bs, drop_last=drop_last)
            dl.share = (r, world)
            assert len(dl) == len(list(dl)), (n, bs, world, drop_last, r)


def test_item_and_batch_transforms_of_a_sample_draw_apart():
    zeros = [torch.zeros(2) for _ in range(6)]
    (by_item,) = DataLoader(zeros, bs=6, seed=1, after_item=ShiftAlways())
    (before,) = DataLoader(zeros, bs=6, seed=1, before_batch=lambda b: list(NoiseAlways()(torch.stack(b))))
    (after,) = DataLoader(zeros, bs=6, seed=1, after_batch=NoiseAlways())
    drawn = torch.cat([by_item[:, 0], before.flatten(), after.flatten()])
    assert len(drawn.unique()) == len(drawn)


# -- going on


@pytest.mark.parametrize(
    ("workers", "persistent", "start"), [(0, False, 1), (0, False, 3), (2, False, 1), (2, True, 2)]
)
def test_it_goes_on_from_any_batch_of_any_epoch(workers, persistent, start):
    dl = columns(num_workers=workers, persistent_workers=persistent)
    rows(dl)
    batches = iter(dl)
    taken = [next(batches) for _ in range(start)]
    state = pickle.loads(pickle.dumps(dl.state_dict()))
    rest, after = rows(batches), rows(dl)
    assert len(taken) + len(rest) == 3

    other = columns(num_workers=workers, persistent_workers=persistent, seed=None)
    if persistent:
        next(iter(other))
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert rows(other) == rest
    assert rows(other) == after


def test_between_epochs_its_state_is_that_of_the_next():
    dl = columns(num_workers=0)
    rows(dl)
    state = dl.state_dict()
    wanted = rows(dl)
    other = columns(num_workers=0, seed=None)
    other.load_state_dict(state)
    assert rows(other) == wanted
    fresh = columns(num_workers=0)
    fresh.load_state_dict(columns(num_workers=0).state_dict())
    assert rows(fresh) == rows(columns(num_workers=0))


def test_looking_moves_nothing_on():
    wanted = [rows(dl := columns(num_workers=0)), rows(dl)]
    dl = columns(num_workers=0)
    look = dl.one_batch()
    batches = iter(dl)
    found = rows([next(batches)])
    state = dl.state_dict()
    dl.one_batch()
    with dl.peeking():
        assert len(rows(dl)) == 3
    assert dl.state_dict() == state
    found += rows(batches)
    assert [found, rows(dl)] == wanted
    assert rows([look]) != wanted[0][:1]


class Plus(Transform):
    def __init__(self, more):
        self.more = more

    def encodes(self, x: int):
        return x + self.more


def test_workers_end_with_their_pass_also_while_its_failure_is_held():
    def odd(i):
        if i == 5:
            raise OddError
        return i

    before = set(multiprocessing.active_children())
    dl = DataLoader(list(range(40)), bs=2, num_workers=2, after_item=odd)
    with pytest.raises(BadItem) as held:
        list(dl)
    assert held.value.__traceback__ is not None
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("seconds", [0, 1000])
def test_a_process_ends_though_a_pass_with_workers_has_not(tmp_path, persistent, seconds):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from layered.data.loader import DataLoader\n"
        "def wait(i):\n"
        f"    time.sleep({seconds} if i > 6 else 0)\n"
        "    return i\n"
        "batches = iter(DataLoader(\n"
        f"    list(range(400)), bs=2, num_workers=2, persistent_workers={persistent}, after_item=wait\n"
        "))\n"
        "print(next(batches).tolist())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 1]\n", "")


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_end_with_a_process_that_is_killed(tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, time\n"
        "from layered.data.loader import DataLoader\n"
        "if __name__ == '__main__':\n"
        f"    dl = DataLoader(list(range(400)), bs=2, num_workers=2, multiprocessing_context={method!r})\n"
        "    batches = iter(dl)\n"
        "    next(batches)\n"
        "    print(*(process.pid for process in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert len(workers) == 2
    until = time.monotonic() + 60
    while any(map(_runs, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(_runs, workers))


def _runs(pid):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] not in ("", "Z")


def test_persistent_workers_notice_that_a_transform_inside_the_data_set_has_changed():
    step = Plus(1)
    dl = TfmdDL(Datasets([1, 2, 3], [[step]]), bs=3, num_workers=1, persistent_workers=True)
    assert dl.one_batch()[0].tolist() == [2, 3, 4]
    assert next(iter(dl))[0].tolist() == [2, 3, 4]
    step.more = 10
    assert next(iter(dl))[0].tolist() == [11, 12, 13]


def test_persistent_workers_notice_that_the_pipeline_has_changed():
    dl = DataLoader(list(range(4)), bs=2, num_workers=1, persistent_workers=True)
    assert rows(dl) == [[0, 1], [2, 3]]
    workers = dl._workers._torch_loader
    assert rows(dl) == [[0, 1], [2, 3]]
    assert dl._workers._torch_loader is workers
    dl.after_item = lambda i: i + 10
    assert rows(dl) == [[10, 11], [12, 13]]
    dl.bs = 4
    assert rows(dl) == [[10, 11, 12, 13]]


def test_persistent_workers_notice_what_was_changed_in_a_step_or_a_loader():
    class Scaled(DataLoader):
        scale = 1

        def create_item(self, i):
            return self.dataset[i] * self.scale

    dl = Scaled([1, 2], bs=2, num_workers=1, persistent_workers=True, after_item=ShiftAlways())
    rows(dl)
    dl.scale = 10
    assert [round(x - x % 10) for x in rows(dl)[0]] == [10, 20]
    dl.after_item.p = 0.0
    assert rows(dl) == [[10, 20]]


def test_a_pass_that_was_left_does_not_spoil_the_next():
    dl = columns(num_workers=2, persistent_workers=True)
    for _ in dl:
        break
    dl.set_epoch(0)
    assert rows(dl) == rows(columns(num_workers=0))


# -- processes that are not forked


def test_spawned_workers_make_the_same():
    items = [3, 1, 2]
    for tfm in (ShiftAlways(), decorated):
        dsets = Datasets(items, [[noisy] if tfm is not decorated else [decorated], [Categorize()]])
        settings = {"bs": 2, "seed": 1, "shuffle": True}
        alone = TfmdDL(dsets, num_workers=0, **settings)
        helped = TfmdDL(dsets, num_workers=1, multiprocessing_context="spawn", **settings)
        helped.after_batch = lambda batch: batch  # stays in the parent
        assert rows(helped) == rows(alone)


def test_what_cannot_be_sent_to_workers_is_an_error_where_they_were_asked_for():
    dl = DataLoader([1, 2], bs=2, after_item=lambda x: x, num_workers=2, multiprocessing_context="spawn")
    with pytest.raises(BadValue, match="cannot start 2 workers") as caught:
        list(dl)
    assert "lambda" in str(caught.value)


def test_what_cannot_be_sent_is_named():
    import threading

    dataset = Numbers()
    dataset.lock = threading.Lock()
    with pytest.raises(BadValue) as caught:
        list(DataLoader(dataset, bs=2, num_workers=1, multiprocessing_context="spawn"))
    assert "its dataset cannot be pickled" in caught.value.got


def test_by_default_what_cannot_be_sent_is_made_here_with_one_line():
    dl = DataLoader([1, 2], bs=2, after_item=lambda x: x, num_workers=2, multiprocessing_context="spawn")
    dl.workers_by_default = True
    with pytest.warns(UserWarning, match="without workers, because its after_item cannot be pickled"):
        assert rows(dl) == [[1, 2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows(dl) == [[1, 2]]


# -- failures


def fails_at(bad, kind=ZeroDivisionError, message="no"):
    def step(x):
        if int(x) in bad:
            raise kind(message)
        return x

    return step


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_names_the_item_and_the_step_and_keeps_its_cause(workers):
    dsets = Datasets(["5", "6", "7"], [[str.strip, fails_at([6])]], splits=[[0], [1, 2]])
    dl = TfmdDL(dsets.valid, bs=2, num_workers=workers)
    with pytest.raises(BadItem) as caught:
        list(dl)
    assert "item 1 of the validation items (str '6')" in caught.value.problem
    assert "step 2 of 2" in caught.value.problem
    assert "ZeroDivisionError: no" in caught.value.got
    assert "ZeroDivisionError" in repr(caught.value.__cause__)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_item_transform_names_the_item(workers):
    dsets = Datasets(["5", "6"], [[str.strip]], splits=[[1], [0]])
    dl = TfmdDL(dsets.train, bs=1, num_workers=workers, after_item=[fails_at([6])])
    with pytest.raises(BadItem, match=r"transforming item 1 of the training items \(str '6'\), in step 1 of 1"):
        list(dl)
    with pytest.raises(BadItem, match="failed transforming item 1"):
        list(DataLoader([5, 6], bs=1, num_workers=workers, after_item=fails_at([6])))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_class_of_an_error_survives(workers):
    unknown = Datasets(["a", "b"], [[Categorize(vocab=["a", "x"])]])
    with pytest.raises(UnknownLabel, match="'b' is not in the vocabulary"):
        list(TfmdDL(unknown, bs=2, num_workers=workers))
    sizes = [(TensorImage(torch.zeros(3, n, 2)), 0) for n in (2, 2, 4)]
    with pytest.raises(MixedSizes, match=r"collating item 0 and item 2") as caught:
        list(DataLoader(sizes, bs=3, num_workers=workers))
    assert "Resize" in caught.value.fix


@pytest.mark.parametrize("workers", [0, 1])
def test_even_an_error_that_cannot_travel_is_told(workers):
    dl = DataLoader([0], bs=1, num_workers=workers, before_batch=fails_first)
    with pytest.raises((OddError, BadItem), match="strange"):
        list(dl)


def fails_first(samples):
    raise OddError("strange", 2)


def test_an_interrupt_passes():
    for on_bad in ("raise", "skip"):
        with pytest.raises(KeyboardInterrupt):
            list(DataLoader([0], bs=1, on_bad=on_bad, after_item=fails_at([0], KeyboardInterrupt)))


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_items_can_be_left_out_by_name_and_so_can_a_batch_of_them(workers):
    dl = DataLoader(
        list(range(7)), bs=2, num_workers=workers, on_bad="skip", after_item=fails_at([1, 2, 3], ValueError, "")
    )
    with pytest.warns(UserWarning, match="3 items could not be made") as caught:
        assert rows(dl) == [[0], [4, 5], [6]]
    text = str(caught[0].message)
    assert all(f"item {i}: ValueError" in text for i in (1, 2, 3))


def test_items_left_out_do_not_change_what_the_others_draw():
    items = [torch.tensor(float(i)) for i in range(4)]

    def make(**kwargs):
        return DataLoader(items, bs=4, seed=1, after_batch=NoiseAlways(), **kwargs)

    (whole,) = make()
    with pytest.warns(UserWarning, match="1 item "):
        (part,) = make(on_bad="skip", after_item=fails_at([2]))
    assert torch.equal(part, whole[[0, 1, 3]])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_may_ask_to_be_left_out(workers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dl = DataLoader(list(range(4)), bs=2, num_workers=workers, after_item=fails_at([1], SkipItemException))
        assert rows(dl) == [[0], [2, 3]]


@pytest.mark.parametrize(
    ("kwargs", "meant"),
    [({"shufle": True}, "shuffle"), ({"bach_size": 3}, "batch_size"), ({"after_itm": len}, "after_item")],
)
@pytest.mark.parametrize("kind", [DataLoader, TfmdDL])
def test_a_misspelt_keyword_is_refused_with_the_name_that_was_meant(kind, kwargs, meant):
    with pytest.raises(BadArgument, match=f"{kind.__name__} got an unknown argument") as caught:
        kind([1, 2], **kwargs)
    assert caught.value.fix == f"did you mean '{meant}'?"
    with pytest.raises(TypeError, match="new got an unknown argument"):
        kind([1, 2], bs=1).new(**kwargs)


@pytest.mark.parametrize("kwargs", [{"bs": 0}, {"bs": 1.5}, {"on_bad": "ignore"}])
def test_values_that_make_no_sense_are_refused(kwargs):
    with pytest.raises(BadValue):
        DataLoader([1], **kwargs)


def test_a_loader_without_a_batch_says_why():
    with pytest.raises(BadValue, match="no batch") as caught:
        DataLoader([1], bs=2, drop_last=True).one_batch()
    assert "1 items with bs=2" in caught.value.got


# -- forms


def test_the_forms_of_the_book():
    dl = DataLoader(list(range(15)), batch_size=5, shuffle=True)
    batches = list(dl)
    assert len(dl) == len(batches) == 3
    assert sorted(torch.cat(batches).tolist()) == list(range(15))
    pairs = DataLoader(L(enumerate("abcd")), bs=2)
    numbers, letters = next(iter(pairs))
    assert numbers.tolist() == [0, 1]
    assert list(letters) == ["a", "b"]
    dl.get_idxs = lambda: [1, 1, 2]
    assert rows(dl) == [[1, 1, 2]]


def test_stages_can_be_given_overridden_and_assigned():
    class Doubling(DataLoader):
        def create_item(self, i):
            return 2 * self.dataset[i]

        def get_idxs(self):
            return [int(np.random.randint(3)) for _ in range(3)]

    before = global_states()
    dl = Doubling([1, 10, 100], bs=3, seed=1)
    first = rows(dl)
    assert set(first[0]) <= {2, 20, 200}
    assert global_states() == before
    dl.set_epoch(0)
    assert rows(dl) == first
    events = []
    dl = DataLoader(
        [1, 2],
        bs=1,
        before_iter=lambda: events.append("before"),
        after_iter=lambda: events.append("after"),
        create_batch=tuple,
        after_batch=lambda b: b * 2,
    )
    assert list(dl) == [(1, 1), (2, 2)]
    assert events == ["before", "after"]
    assert rows(DataLoader([1, 2, 3], bs=3, shuffle=True, shuffle_fn=lambda order: order[::-1])) == [[3, 2, 1]]


def test_a_worker_runs_its_start_function():
    def start():
        import os

        os.environ["LAYERED_TEST_WORKER"] = "yes"

    def read(x):
        import os

        return x if os.environ.get("LAYERED_TEST_WORKER") == "yes" else -1

    assert rows(DataLoader([1, 2], bs=2, num_workers=1, wif=start, after_item=read)) == [[1, 2]]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_may_be_mappings_and_nested_tuples_and_keep_their_types(workers):
    items = [({"image": TensorImage(torch.full((1, 2, 2), i)), "n": i}, (Marked([i]), [i, (i,)])) for i in range(4)]
    inputs, (marked, (n, (m,))) = next(iter(DataLoader(items, bs=4, num_workers=workers)))
    assert type(inputs["image"]) is TensorImage
    assert inputs["n"].tolist() == n.tolist() == m.tolist() == [0, 1, 2, 3]
    assert type(marked) is Marked


def test_ragged_samples_can_be_padded_before_they_are_collated():
    def pad(samples):
        longest = max(map(len, samples))
        return [torch.nn.functional.pad(s, (0, longest - len(s))) for s in samples]

    items = [torch.ones(n) for n in (1, 3, 2)]
    assert next(iter(DataLoader(items, bs=3, before_batch=pad))).sum(1).tolist() == [1, 3, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_tensors_in_memory_are_indexed_whole_and_give_the_same(workers, monkeypatch):
    dataset = TensorDataset(torch.arange(10.0)[:, None], torch.arange(10))
    settings = {"bs": 3, "shuffle": True, "seed": 1, "num_workers": workers, "after_batch": NoiseAlways()}
    fast, slow = DataLoader(dataset, **settings), DataLoader(dataset, after_item=lambda item: item, **settings)
    wanted = rows(slow)
    monkeypatch.setattr(TensorDataset, "__getitem__", None)
    assert rows(fast) == wanted


def test_streams_are_taken_as_they_come():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(7))

    assert rows(DataLoader(Stream(), bs=3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert rows(DataLoader(Stream(), bs=3, drop_last=True, num_workers=2)) == [[0, 1, 2], [3, 4, 5]]
    assert rows(DataLoader(Stream(), bs=3, n=4)) == [[0, 1, 2], [3]]
    assert rows(DataLoader((i for i in range(3)), bs=2, after_item=lambda x: -x)) == [[0, -1], [-2]]
    with pytest.raises(TypeError, match="stream has no length"):
        len(DataLoader(Stream(), bs=3))
    with pytest.raises(BadItem, match="transforming int 2"):
        list(DataLoader(Stream(), bs=3, after_item=fails_at([2])))
    dl = DataLoader(Stream(), bs=3)
    next(batches := iter(dl))
    state, rest = dl.state_dict(), rows(batches)
    dl.load_state_dict(state)
    assert rows(dl) == rest


def test_items_that_are_batches_already_are_converted():
    batches = [(np.zeros((4, 2)), np.int64(i)) for i in range(3)]
    dl = DataLoader(batches)
    assert len(dl) == 3
    assert [b[0].shape for b in dl] == [(4, 2)] * 3


def test_only_the_first_items_can_be_used():
    assert rows(DataLoader(list(range(9)), bs=2, n=3)) == [[0, 1], [2]]


def test_another_loader_can_be_made_of_one():
    dl = DataLoader(list(range(4)), bs=2, shuffle=True, seed=1)
    rows(dl)
    other = dl.new(list(range(6)), shuffle=False, bs=3)
    assert rows(other) == [[0, 1, 2], [3, 4, 5]]
    assert dl.bs == 2
    assert other.seed == 1
    dl.set_epoch(7, "valid")
    assert dl.new().state_dict() == {"seed": 1, "purpose": "train", "epoch": 0, "consumed": 0}


def test_unknown_attributes_are_those_of_the_data_set():
    dsets = Datasets([1, 2], [[], [Categorize()]])
    assert TfmdDL(dsets, bs=2).vocab == [1, 2]
    with pytest.raises(AttributeError, match="neither TfmdDL nor its Datasets has 'vocbulary'"):
        _ = TfmdDL(dsets, bs=2).vocbulary


def test_loaders_can_be_copied_and_pickled():
    dl = DataLoader(Numbers(), bs=5, seed=2, shuffle=True)
    wanted = rows(copy.copy(dl))
    assert rows(pickle.loads(pickle.dumps(dl))) == wanted


def test_batches_go_to_the_device():
    dl = DataLoader([torch.zeros(2)], bs=1).to("meta")
    assert next(iter(dl)).device.type == "meta"


def test_what_is_no_data_is_refused_at_once():
    with pytest.raises(BadArgument, match="cannot make batches of this data") as caught:
        DataLoader(5, bs=2)
    assert caught.value.got == "a int, 5"
    with pytest.raises(BadValue, match="the number of items is unknown"):
        list(DataLoader(bs=2))
    assert rows(DataLoader(bs=2, n=4, create_item=lambda i: i * i)) == [[0, 1], [4, 9]]


@pytest.mark.parametrize(("name", "value"), [("seed", {}), ("purpose", 1), ("epoch", -1), ("consumed", 0.5)])
def test_a_position_that_makes_no_sense_is_refused_and_changes_nothing(name, value):
    dl = DataLoader(list(range(9)), bs=2, shuffle=True, seed=1)
    before = dl.state_dict()
    with pytest.raises(BadValue, match="not a position"):
        dl.load_state_dict({**before, name: value})
    assert dl.state_dict() == before
