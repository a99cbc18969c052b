"""DICOM: values, windows and pictures as pydicom has them, on the real files that it ships."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from torch.testing import assert_close

from layered.foundation import BadImage, BadValue, MissingDependency, OutOfRange
from layered.vision import dicom_files, medical
from layered.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Learner,
    PILImage,
    Resize,
    aug_transforms,
    load_learner,
    vision_learner,
)
from layered.vision.medical import (
    DicomSegmentationDataLoaders,
    DicomWindow,
    PILCTScan,
    PILDicom,
    TensorCTScan,
    TensorDicom,
    as_displayed,
    crop_resize,
    dcmread,
    dicom_frame,
    dicom_windows,
    freqhist_bins,
    gauss_blur2d,
    get_dicom_files,
    hist_scaled,
    mask2bbox,
    mask_from_blur,
    pct_in_window,
    pixels,
    png16read,
    save_jpg,
    save_tif16,
    scaled_px,
    set_pixels,
    to_3chan,
    to_nchan,
    to_uint16,
    uniform_blur2d,
    windowed,
    zoom,
    zoom_to,
)


@pytest.fixture(scope="module")
def folder():
    return Path(pytest.importorskip("pydicom").__file__).parent / "data" / "test_files"


def small_net(pretrained=False):
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1))


def of_pydicom(file):
    """Values and window by pydicom alone: in their unit, and in the first window from 0 to 1."""
    import pydicom
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    dcm = pydicom.dcmread(file)
    raw = dcm.pixel_array
    rescaled = apply_modality_lut(raw, dcm)
    shown = apply_voi_lut(raw.astype(float), dcm).astype(float)
    low = -(2 ** (dcm.BitsStored - 1)) if dcm.PixelRepresentation else 0
    high = low + 2**dcm.BitsStored - 1
    return raw, rescaled, (shown - low) / (high - low)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "693_J2KI.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "examples_overlay.dcm"]
)
def test_values_are_those_of_pydicom(folder, name):
    raw, rescaled, _ = of_pydicom(folder / name)
    dcm = dcmread(folder / name)
    assert_allclose(pixels(dcm), raw)
    assert_allclose(scaled_px(dcm), rescaled)
    image = PILDicom.create(folder / name)
    assert (type(image), image.mode, image.shape) == (PILDicom, "F", raw.shape)
    assert_allclose(np.asarray(image), rescaled)
    assert_allclose(np.asarray(PILDicom.create((folder / name).read_bytes())), rescaled)
    with open(folder / name, "rb") as file:
        assert_allclose(np.asarray(PILDicom.create(file)), rescaled)


@pytest.mark.parametrize("name", ["MR_small.dcm", "examples_overlay.dcm"])
def test_what_is_displayed_is_in_the_first_window_of_the_file(folder, name):
    _, _, shown = of_pydicom(folder / name)
    image = as_displayed(dcmread(folder / name))
    assert image.mode == "L"
    assert_allclose(np.asarray(image) / 255, shown, atol=0.51 / 255)


@pytest.mark.parametrize(
    "name", ["examples_rgb_color.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_rle_16bit.dcm", "examples_palette.dcm"]
)
def test_colours_are_displayed_as_colours(folder, name):
    import pydicom.pixels

    dcm = dcmread(folder / name)
    expected = pydicom.pixels.pixel_array(dcm)
    if name == "examples_palette.dcm":
        expected = pydicom.pixels.apply_color_lut(expected, dcm)
    image = as_displayed(dcm)
    assert image.mode == "RGB"
    assert_allclose(np.asarray(image) / 255, expected / np.iinfo(expected.dtype).max, atol=1 / 255)
    with pytest.raises(BadImage, match="in colours"):
        PILDicom.create(folder / name)


def test_files_in_which_large_values_are_dark_are_turned_around(folder, tmp_path):
    dcm = dcmread(folder / "MR_small.dcm")
    normal = np.asarray(PILDicom.create(folder / "MR_small.dcm"))
    bright = np.asarray(as_displayed(dcm)).astype(int)
    dcm.PhotometricInterpretation = "MONOCHROME1"
    dcm.save_as(tmp_path / "dark.dcm")
    assert_allclose(np.asarray(PILDicom.create(tmp_path / "dark.dcm")), normal.max() + normal.min() - normal)
    assert_allclose(np.asarray(as_displayed(dcm)), 255 - bright, atol=1)


def test_windows_and_histograms(folder):
    dcm = dcmread(folder / "CT_small.dcm")
    px = scaled_px(dcm)
    width, level = dicom_windows.brain
    assert len(vars(dicom_windows)) == 11
    assert_close(windowed(px, width, level), ((px - (level - width / 2)) / width).clamp(0, 1))
    assert pct_in_window(dcm, 400, 0) == pytest.approx(((px > -200) & (px < 200)).float().mean().item())
    shades = hist_scaled(px)
    assert (float(shades.min()), float(shades.max())) == (0, 1)
    assert_close(shades.flatten().sort().values, torch.linspace(0, 1, px.numel()), atol=0.03, rtol=0)
    order = px.flatten().argsort()
    assert (shades.flatten()[order].diff() >= 0).all()
    assert_close(hist_scaled(px, freqhist_bins(px)), shades)
    channels = to_nchan(dcm, [dicom_windows.brain, dicom_windows.lungs])
    assert channels.shape == (3, 128, 128)
    assert_close(channels[1:], torch.stack([windowed(px, *dicom_windows.lungs), shades]))
    assert to_nchan(dcm, [dicom_windows.brain], bins=False).shape == (1, 128, 128)


def test_blurs_and_regions():
    from scipy.ndimage import gaussian_filter, uniform_filter

    x = torch.rand(2, 40, 50, generator=torch.Generator().manual_seed(0))
    expected = np.stack([gaussian_filter(o.numpy(), 2, mode="mirror", truncate=3.0) for o in x])
    assert_allclose(gauss_blur2d(x, 2.0), expected, atol=1e-5)
    assert_allclose(
        uniform_blur2d(x, 5), np.stack([uniform_filter(o.numpy(), 5, mode="nearest") for o in x]), atol=1e-5
    )
    px = torch.full((60, 60), -1000.0)
    px[20:40, 10:30], px[0:5, 0:5] = 40.0, 3000.0
    (top, left), (bottom, right) = mask2bbox(mask_from_blur(px, dicom_windows.brain))
    assert (abs(top - 20) <= 4, abs(left - 10) <= 4, abs(bottom - 40) <= 4, abs(right - 30) <= 4) == (True,) * 4
    with pytest.raises(BadValue, match="no box"):
        mask2bbox(torch.zeros(3, 3, dtype=torch.bool))


def test_what_is_not_one_image_is_named(folder, tmp_path, monkeypatch):
    for name, match in {
        "rtdose.dcm": "several frames", "rtplan.dcm": "no pixels", "no_meta.dcm": "cannot be decoded",
        "JPEGLSNearLossless_16.dcm": "no pixels that can be decoded", "MR_truncated.dcm": "no pixels that can be decoded",
    }.items():  # fmt: skip
        with pytest.raises(BadImage, match=match):
            PILDicom.create(folder / name)
    with pytest.raises(FileNotFoundError):
        PILDicom.create(folder / "nothing.dcm")
    with pytest.raises(BadImage, match=r"DICOM file, which has values(.|\n)*layered-learn\[medical\]"):
        PILImage.create(folder / "CT_small.dcm")
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingDependency, match=r"layered-learn\[medical\]"):
        PILDicom.create(folder / "CT_small.dcm")


def test_a_dicom_file_is_recognized_without_pydicom(tmp_path):
    (tmp_path / "x.dcm").write_bytes(bytes(128) + b"DICM" + bytes(50))
    with pytest.raises(BadImage, match=r"layered-learn\[medical\]"):
        PILImage.create(tmp_path / "x.dcm")


def test_a_table_of_files(folder):
    frame = dicom_frame([folder / "CT_small.dcm", folder / "MR_small.dcm"])
    assert frame.Modality.tolist() == ["CT", "MR"]
    assert frame.PixelSpacing1[0] == pytest.approx(0.661468)
    px = scaled_px(dcmread(folder / "CT_small.dcm"))
    assert (frame.img_min[0], frame.img_mean[0]) == pytest.approx((px.min().item(), px.mean().item()))
    assert "img_min" not in dicom_frame([folder / "CT_small.dcm"], px_summ=False)


def test_a_model_sees_windows_of_real_files(folder, tmp_path):
    names = [
        "CT_small.dcm",
        "MR_small.dcm",
        "693_J2KI.dcm",
        "MR_small_bigendian.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "MR_small_RLE.dcm",
    ]
    windows = dicom_windows.brain, dicom_windows.lungs, dicom_windows.spine_bone
    block = DataBlock(
        (ImageBlock(PILDicom), CategoryBlock), get_items=lambda path: [path / name for name in names],
        get_y=lambda file: "MR" if "MR" in file.name else "CT", splitter=IndexSplitter([4, 5]), item_tfms=Resize(64),
        batch_tfms=[DicomWindow(*windows), *aug_transforms()],
    )  # fmt: skip
    dls = block.dataloaders(folder, bs=2, num_workers=0, device="cpu")
    (x, _), (raw, _) = dls.valid.one_batch(), dls.valid.new(after_batch=None).one_batch()
    assert (x.shape, type(raw), raw.dtype) == ((2, 3, 64, 64), TensorDicom, torch.float32)
    small = np.asarray(PILDicom.create(folder / names[5]))
    assert_allclose(raw[1, 0], small)
    plain = raw.as_subclass(torch.Tensor)
    assert_close(x.as_subclass(torch.Tensor), torch.cat([windowed(plain, *window) for window in windows], 1))
    learn = vision_learner(dls, small_net, pretrained=False, path=tmp_path)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    expected = learn.predict(folder / "CT_small.dcm")
    assert_close(load_learner(learn.export("scans")).predict(folder / "CT_small.dcm")[2], expected[2])
    dls.show_batch()
    assert get_dicom_files(folder, recurse=False)


def test_values_can_be_given_too(folder):
    values = np.array([[-1000.0, 40.0], [3.5, 2000.0]], np.float32)
    for source in (values, torch.from_numpy(values)[None], Image.fromarray(values)):
        assert_allclose(np.asarray(PILDicom.create(source)), values)
    assert medical.DicomWindow((80, 40)).windows == ((80, 40),)
    with pytest.raises(BadValue, match="positive"):
        windowed(torch.zeros(2), 0, 40)
    with pytest.raises(BadValue, match="needs a window"):
        DicomWindow()


def test_masks_of_real_scans(folder):
    def bright(file):
        return (scaled_px(dcmread(file)) > 300).numpy()

    files = [folder / "MR_small.dcm", folder / "MR_small_RLE.dcm", folder / "MR_small_bigendian.dcm"]
    dls = DicomSegmentationDataLoaders.from_label_func(
        folder, files, bright, valid_pct=0.4, codes=["dark", "bright"], batch_tfms=DicomWindow((1600, 600)), bs=1,
        num_workers=0, device="cpu",
    )  # fmt: skip
    x, y = (o.as_subclass(torch.Tensor) for o in dls.valid.one_batch())
    assert_close(y, (x[:, 0] > 0.3125).long())


def test_a_deflated_file_is_bounded_and_hostile_attributes_are_named(folder, tmp_path, monkeypatch):
    import pydicom

    deflated = folder / "image_dfl.dcm"
    assert PILDicom.create(deflated).size == PILDicom.create(deflated.read_bytes()).size == (512, 512)
    monkeypatch.setattr(dicom_files, "_UNPACKED", 10_000)
    monkeypatch.setattr(dicom_files, "_RATIO", 1)
    for source in (deflated, deflated.read_bytes()):
        with pytest.raises(BadImage, match="unfolds to very much"):
            dcmread(source)

    pydicom_text = {
        "RescaleSlope": ("DS", b"ab"),
        "WindowWidth": ("DS", b"ab"),
        "SpacingBetweenSlices": ("FD", b"abc "),
    }
    uses = {
        "RescaleSlope": (scaled_px, "unit cannot be read"),
        "WindowWidth": (as_displayed, "window that cannot be read"),
        "SpacingBetweenSlices": (lambda dcm: dicom_frame([tmp_path / "bad.dcm"]), "attribute that cannot be read"),
    }
    for name, (kind, raw) in pydicom_text.items():
        dcm = dcmread(folder / "CT_small.dcm")
        dcm.WindowCenter, dcm.RescaleIntercept = 1, 0
        tag = pydicom.tag.Tag(name)
        dcm[tag] = pydicom.dataelem.RawDataElement(tag, kind, len(raw), raw, 0, False, True)
        dcm.save_as(tmp_path / "bad.dcm")
        use, words = uses[name]
        with pytest.raises(BadImage, match=words):
            use(dcmread(tmp_path / "bad.dcm"))


def test_a_dicom_file_starts_no_program(folder, tmp_path):
    from pydicom.encaps import encapsulate

    dcm = dcmread(folder / "SC_rgb_small_odd_jpeg.dcm")
    dcm.PixelData = encapsulate([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"])
    dcm.save_as(tmp_path / "hostile.dcm")
    with pytest.raises(BadImage, match="no pixels that can be decoded"):
        pixels(dcmread(tmp_path / "hostile.dcm"))


def resized_by_pillow(array, height, width):
    return np.asarray(Image.fromarray(array.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "693_J2KI.dcm"])
def test_resized_scans_are_read_by_pydicom_alone(folder, tmp_path, name):
    import pydicom

    dcm = dcmread(folder / name)
    raw, spacing = pixels(dcm).numpy(), list(dcm.get("PixelSpacing") or [])
    zoom(dcm, (0.5, 0.25))
    dcm.save_as(tmp_path / "small.dcm")
    again = pydicom.dcmread(tmp_path / "small.dcm")
    size = round(raw.shape[0] / 2), round(raw.shape[1] / 4)
    assert (again.Rows, again.Columns) == again.pixel_array.shape == size
    assert_allclose(again.pixel_array, resized_by_pillow(raw, *size), atol=1)
    if spacing:  # the scan is as large as it was
        assert_allclose(again.PixelSpacing, [spacing[0] * 2, spacing[1] * 4], rtol=1e-3)
    assert again.SOPInstanceUID != dcmread(folder / name).SOPInstanceUID


def test_colours_and_frames_are_resized_and_palettes_refused(folder):
    colours = dcmread(folder / "SC_rgb_dcmtk_+eb+cy+np.dcm")
    rgb = pixels(colours).numpy()
    zoom_to(colours, (20, 30))
    expected = np.stack([resized_by_pillow(rgb[..., i], 20, 30) for i in range(3)], -1)
    assert_allclose(pixels(colours), expected, atol=1)
    frames = dcmread(folder / "SC_rgb_rle_2frame.dcm")
    stack = pixels(frames).numpy()
    zoom_to(frames, 16)
    assert_allclose(pixels(frames)[1, ..., 2], resized_by_pillow(stack[1, ..., 2], 16, 16), atol=1)
    with pytest.raises(BadImage, match=r"rtdose\.dcm.*cannot store these pixels"):  # of 32 bits
        zoom_to(dcmread(folder / "rtdose.dcm"), 16)
    with pytest.raises(BadValue, match="numbers of colours"):
        zoom(dcmread(folder / "examples_palette.dcm"), 0.5)
    with pytest.raises(OutOfRange, match="invalid size"):
        zoom_to(dcmread(folder / "CT_small.dcm"), 0)


def test_other_values_are_put_into_a_data_set(folder, tmp_path):
    import pydicom

    dcm = dcmread(folder / "693_J2KI.dcm")
    values = torch.arange(-6, 6, dtype=torch.int16).reshape(3, 4)
    set_pixels(dcm, values)
    dcm.save_as(tmp_path / "new.dcm")
    assert pydicom.dcmread(tmp_path / "new.dcm").pixel_array.tolist() == values.tolist()
    assert PILDicom.create(tmp_path / "new.dcm").size == (4, 3)
    with pytest.raises(BadImage, match=r"693_J2KI.*cannot store these pixels"):
        set_pixels(dcm, values.float())


def test_scans_as_files_of_usual_formats(folder, tmp_path):
    dcm = dcmread(folder / "CT_small.dcm")
    shades = hist_scaled(scaled_px(dcm)).numpy()
    for compress in (True, False):
        file = save_tif16(dcm, tmp_path / f"new/{compress}.dcm", compress=compress)
        assert file == tmp_path / f"new/{compress}.tif"
        assert_allclose(np.asarray(Image.open(file)), shades * 65535, atol=0.51)
        assert png16read(file).tolist() == to_uint16(scaled_px(dcm)).tolist() == np.asarray(Image.open(file)).tolist()
    windows = [dicom_windows.mediastinum, dicom_windows.lungs]
    assert_close(to_3chan(dcm, *windows), to_nchan(scaled_px(dcm), windows))
    seen = np.asarray(Image.open(save_jpg(dcm, tmp_path / "scan", windows, quality=95)))
    assert seen.shape == (128, 128, 3)
    assert np.abs(seen - to_3chan(dcm, *windows).movedim(0, -1).numpy() * 255).mean() < 5
    assert np.asarray(Image.open(save_jpg(dcm, tmp_path / "grey", windows[:1], bins=False))).shape == (128, 128)
    with pytest.raises(BadValue, match="one channel or three"):
        save_jpg(dcm, tmp_path / "x", windows, bins=False)


def test_saved_scans_keep_sixteen_bits_in_batches_and_exports(folder, tmp_path):
    files = [save_tif16(dcmread(folder / name), tmp_path / name) for name in ("CT_small.dcm", "693_J2KI.dcm")]
    block = DataBlock(
        (ImageBlock(PILCTScan), CategoryBlock(["a", "b"])), get_y=lambda _: "a", splitter=IndexSplitter([1])
    )
    dls = block.dataloaders([files[0], files[0]], bs=1, num_workers=0, device="cpu")
    x, _ = dls.valid.one_batch()
    assert type(x) is TensorCTScan
    assert_allclose(x[0, 0].as_subclass(torch.Tensor) * 65535, png16read(files[0]), atol=1e-2)
    assert PILCTScan.create(files[0]).show().images[0].get_cmap().name == "bone"
    assert x[0].show().images[0].get_cmap().name == "bone"
    learn = Learner(
        dls, torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    )
    expected = learn.predict(files[1])
    assert_close(load_learner(learn.export(tmp_path / "scans")).predict(files[1])[2], expected[2])


def test_what_lies_in_the_square_around_a_box():
    px = torch.rand(2, 40, 60, generator=torch.Generator().manual_seed(0)) - 5
    mask = torch.zeros(40, 60)
    mask[10:20, 30:36] = 1  # 10 high, 6 wide: the square is that of columns 28 to 38
    corner = torch.zeros(40, 60)
    corner[0:2, 0:8] = 1  # rows -3 to 5
    made = crop_resize(px, [mask2bbox(mask), mask2bbox(corner)], 10)
    assert_close(made[0], px[0, 10:20, 28:38])
    beyond = torch.cat([px.new_full((3, 8), float(px[1].min())), px[1, :5, :8]])
    assert_allclose(made[1], resized_by_pillow(beyond.numpy(), 10, 10), atol=1e-4)
    assert crop_resize(px[:1], [mask2bbox(mask)], (7, 9)).shape == (1, 7, 9)
    with pytest.raises(BadValue, match="each image needs a box"):
        crop_resize(px, [mask2bbox(mask)], 10)


def test_classes_of_pydicom_are_found_here(folder, monkeypatch):
    import pydicom

    assert isinstance(dcmread(folder / "CT_small.dcm"), medical.DcmDataset)
    assert isinstance(pydicom.tag.Tag("PatientID"), medical.DcmTag)
    assert isinstance(dcmread(folder / "CT_small.dcm").PixelSpacing, medical.DcmMultiValue)
    with pytest.raises(AttributeError, match="DcmNothing"):
        medical.DcmNothing
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingDependency, match=r"layered-learn\[medical\]"):
        medical.DcmDataset
