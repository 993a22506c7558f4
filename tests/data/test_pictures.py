"""Pictures as people have them: of all sizes and kinds, turned, broken."""

import numpy as np
import pytest
from PIL import Image

from experiments.settings.blocks import ModelBlock
from pfrl.data import DataError, load
from pfrl.data.crops import random_crops
from pfrl.data.pictures import PictureError, Reading, decoded

TURNED_LEFT = 6
"""EXIF's orientation of a picture whose top is at the right of the file."""


def content(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return (tmp_path / name).read_bytes()


def halves(height=12, width=8):
    """Red above blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, :, 0] = pixels[height // 2 :, :, 2] = 255
    return pixels


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "L", "1", "LA"])
def test_every_kind_of_picture_is_read(mode, tmp_path):
    name = "a.jpg" if mode == "CMYK" else "a.png"
    image = Image.fromarray(halves()).convert(mode)
    pixels = decoded(content(tmp_path, image, name), Reading())
    assert pixels.dtype == np.uint8
    assert pixels.shape == (12, 8, 1 if mode in ("L", "1") else 3)
    if pixels.shape[-1] == 3 and mode != "LA":
        assert pixels[0, 0].argmax() == 0 and pixels[-1, 0].argmax() == 2


def test_a_turned_picture_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = TURNED_LEFT
    lying = Image.fromarray(np.rot90(halves()))
    for name in ("a.jpg", "a.png"):
        pixels = decoded(content(tmp_path, lying, name, exif=exif), Reading())
        assert pixels.shape == (12, 8, 3)
        assert pixels[1, 4, 0] > 200 and pixels[-2, 4, 2] > 200


def test_the_middle_of_the_short_side_stays(tmp_path):
    """14 pixels for a crop of 12; of a picture twice as wide as high the middle."""
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, 15:45] = 255
    found = decoded(content(tmp_path, Image.fromarray(pixels)), Reading(12))
    assert found.shape == (14, 14, 3) and found[1:-1, 1:-1].min() == 255


@pytest.mark.parametrize("bad", [b"", b"junk", None])
def test_what_is_no_picture_says_why(bad, tmp_path):
    if bad is None:
        deep = Image.fromarray(np.full((4, 6), 40_000, np.uint16))
        with pytest.raises(PictureError, match="has pixels of mode I;16, expected 8 bits"):
            decoded(content(tmp_path, deep), Reading())
        return
    with pytest.raises(PictureError, match="is no whole PNG, JPEG or WebP"):
        decoded(bad, Reading())


def test_random_crops_are_of_all_places_and_sizes():
    ramp = np.arange(64, dtype=np.uint8)
    images = np.broadcast_to(ramp[:, None, None] * 4, (200, 64, 64, 1))
    crops = random_crops(images, 8, np.random.default_rng(0))
    assert crops.shape == (200, 8, 8, 1)
    top, span = crops[:, 0, 0, 0] / 4, (crops[:, -1, 0, 0] - crops[:, 0, 0, 0].astype(int)) / 4
    assert top.max() > 30 and span.min() < 25 < 45 < span.max()
    shares = (span * 8 / 7 / 64) ** 2
    assert 0.45 < shares.mean() < 0.65  # of a uniform share from 0.08 to 1 the mean is 0.54


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures a class, no two of one size, one broken in each."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (20 + i, 40 - i, 3), np.uint8) // 2 + 100 * label
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "train" / name / f"{i:02}.jpg")
        (tmp_path / "train" / name / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path


def data(folder, **options):
    return ModelBlock(data=f"imagefolder:{folder}", **options).data


def test_pictures_of_all_sizes_are_brought_to_one(folder):
    dataset = load(data(folder, image_size=16, skip_broken=True))
    assert dataset.image_shape == (16, 16, 3)
    splits = dataset.train, dataset.search, dataset.open_test()
    assert sum(map(len, splits)) == 24
    assert dataset.summary.endswith("2 classes; ignored: 2 broken images")
    assert dataset.wide is not None and dataset.wide.shape[1:] == (18, 18, 3)
    assert np.array_equal(dataset.wide[:, 1:17, 1:17], dataset.train.images)
    # Training sees crops of another place each time, all else the middle.
    (first, _), (second, _) = dataset.training_batches(8, np.random.default_rng(0), 2)
    assert first.shape == (8, 16, 16, 3) and not np.array_equal(first, second)


def test_broken_pictures_are_named_and_counted(folder):
    with pytest.raises(DataError, match=r"/broken\.jpg in .*--skip-broken") as found:
        load(data(folder, image_size=16)).open_test()
    assert "\n" not in str(found.value)
    with pytest.raises(DataError, match="give --image-size"):
        load(data(folder, skip_broken=True))


def test_options_of_pictures_are_refused_elsewhere(folder):
    for name in ("digits", "npz:a.npz"):
        with pytest.raises(
            DataError, match="--image-size and --skip-broken are for folders of pic"
        ):
            load(ModelBlock(data=name, image_size=8).data)
    with pytest.raises(DataError, match="--image-size from 1 to"):
        load(data(folder, image_size=0))
