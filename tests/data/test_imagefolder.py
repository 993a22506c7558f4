"""The user's own images: what is read from a folder or a .zip, how it is cut, what is refused."""

import numpy as np
import pytest
from PIL import Image

from pfrl.data import DataError
from pfrl.data.base import IMAGENET_MEAN, IMAGENET_STD
from tests.support.folders import COLOUR, GREY, draw, fill, read, seed_of, zipped


def fingerprints(split):
    return {image.tobytes() for image in split.images}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_folder_with_its_own_splits(kind, root):
    path = root if kind == "folder" else zipped(root)
    found = read(path)
    assert found.name == f"imagefolder:{path}"
    assert found.classes == ("cat", "dog")
    assert found.image_shape == COLOUR
    assert (found.mean, found.std) == (IMAGENET_MEAN, IMAGENET_STD)
    test = found.open_test()
    for split, count in [(found.train, 20), (found.search, 3), (test, 2)]:
        assert np.bincount(split.labels).tolist() == [count, count]
        assert split.images.shape == (2 * count, *COLOUR)
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
    dog = np.random.default_rng(seed_of("test", 1, 1)).integers(0, 256, COLOUR, np.uint8)
    assert np.array_equal(test.images[3], dog)
    assert test.labels[3] == 1


def test_a_folder_and_its_zip_are_the_same(root):
    (root / "test" / "cat" / "001.png").unlink()
    one, other = read(root), read(zipped(root))
    for a, b in [(one.train, other.train), (one.search, other.search)]:
        assert np.array_equal(a.images, b.images)
        assert np.array_equal(a.labels, b.labels)
    assert np.array_equal(one.open_test().images, other.open_test().images)


def test_search_is_another_name_of_val(root):
    before = read(root).search
    (root / "val").rename(root / "search")
    assert np.array_equal(read(root).search.images, before.images)
    fill(root, "val", ("cat", "dog"), 1)
    with pytest.raises(DataError, match="both search/ and val/, which mean the same; keep one"):
        read(root)


def test_the_first_search_images_are_of_all_classes(tmp_path):
    fill(tmp_path, "train", "abcd", 1, (1, 1))
    fill(tmp_path, "val", "abcd", 50, (1, 1))
    fill(tmp_path, "test", "abcd", 1, (1, 1))
    # 100 of 200, 25 of each class expected; the standard deviation is 3.
    first = np.bincount(read(tmp_path).search.labels[:100], minlength=4)
    assert np.abs(first - 25).max() < 12


def test_splits_that_are_missing_are_cut_from_the_training_images(tmp_path):
    fill(tmp_path, "train", ("a", "b"), 30)
    found = read(tmp_path)
    splits = found.train, found.search, found.open_test()
    assert [np.bincount(split.labels).tolist() for split in splits] == [[24, 24], [3, 3], [3, 3]]
    assert len(set.union(*map(fingerprints, splits))) == 60
    again = read(tmp_path)
    assert np.array_equal(found.search.images, again.search.images)
    assert np.array_equal(found.open_test().images, again.open_test().images)


def test_only_the_missing_split_is_cut(root):
    whole = fingerprints(read(root).train)
    for file in (root / "val").rglob("*.png"):
        file.unlink()
    found = read(root)
    assert np.bincount(found.search.labels).tolist() == [2, 2]
    assert fingerprints(found.train) | fingerprints(found.search) == whole
    assert len(found.train) == 36
    assert len(found.open_test()) == 4


def test_few_images_are_cut_to_one_a_class_or_refused(tmp_path):
    fill(tmp_path, "train", ("a", "b"), 3)
    found = read(tmp_path)
    for split in (found.train, found.search, found.open_test()):
        assert split.labels.tolist() in ([0, 1], [1, 0])
    (tmp_path / "train" / "b" / "002.png").unlink()
    with pytest.raises(DataError, match=r"class 'b' of .* too few to cut val/ from train/; add im"):
        read(tmp_path)


def test_grey_images_have_one_channel(tmp_path):
    fill(tmp_path, "train", ("a", "b"), 10, GREY)
    black_and_white = Image.fromarray(np.eye(4, 6, dtype=np.uint8) * 255).convert("1")
    black_and_white.save(tmp_path / "train" / "a" / "000.png")
    found = read(tmp_path)
    assert found.image_shape == (4, 6, 1)
    assert (found.mean, found.std) == ((0.5,), (0.5,))
    everything = fingerprints(found.train) | fingerprints(found.search)
    everything |= fingerprints(found.open_test())
    assert (np.eye(4, 6, dtype=np.uint8) * 255).tobytes() in everything


def test_grey_images_among_colour_ones_become_rgb(root):
    grey = draw(root / "train" / "cat" / "000.png", 5, GREY)
    found = read(root)
    assert np.array_equal(found.train.images[0], np.stack([grey] * 3, -1))
    assert found.train.labels[0] == 0


def test_colour_in_the_test_split_of_a_grey_set(tmp_path):
    for split in ("train", "val", "test"):
        fill(tmp_path, split, ("a", "b"), 2, GREY)
    draw(tmp_path / "test" / "b" / "001.png", 0)
    found = read(tmp_path)
    with pytest.raises(DataError, match=r"test/b/001.png in .* is in colour, but all of train/"):
        found.open_test()


def test_transparency_is_dropped_and_jpeg_is_read(root):
    drawn = draw(root / "train" / "cat" / "000.png", 1, (4, 6, 4))
    palette = Image.fromarray(draw(root / "train" / "cat" / "001.png", 2)).quantize(8)
    palette.save(root / "train" / "cat" / "001.png", transparency=b"\x00\x80")
    draw(root / "train" / "cat" / "002.JPEG", 3, quality=95)
    (root / "train" / "cat" / "002.png").unlink()
    images = read(root).train.images
    assert np.array_equal(images[0], drawn[..., :3])
    assert np.array_equal(images[1], np.asarray(palette.convert("RGB")))
    assert images.shape == (40, *COLOUR)


def test_webp_is_read(root):
    drawn = draw(root / "train" / "cat" / "000.webp", 4, lossless=True)
    (root / "train" / "cat" / "000.png").unlink()
    found = read(root)
    assert np.array_equal(found.train.images[0], drawn)
    assert found.ignored == ""


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_what_is_ignored_is_told(kind, root):
    before = read(root).train
    assert read(root).summary == "40 training and 6 search images, 2 classes"
    (root / "train" / "cat" / "._000.png").write_bytes(b"what macOS leaves in archives")
    (root / ".DS_Store").write_bytes(b"likewise")
    assert read(root).ignored == ""
    draw(root / "train" / "cat" / "more" / "a.png", 0)
    (root / "train" / "cat" / "photo.heic").write_bytes(b"of a telephone")
    (root / "train" / "labels.png").write_bytes(b"not in a class")
    (root / "train" / "cow").mkdir()
    (root / "train" / "cow" / "notes.txt").write_text("no image yet")
    found = read(root if kind == "folder" else zipped(root))
    assert np.array_equal(found.train.images, before.images)
    assert found.summary == (
        "40 training and 6 search images, 2 classes; ignored: 4 files such as"
        " train/cat/more/a.png (expected PNG, JPEG or WebP files in a folder of their class:"
        " convert or move them), 1 empty class such as train/cow/ (add images to it)"
    )


def test_an_empty_class_and_nothing_else(root):
    (root / "train" / "cow").mkdir()
    assert read(root).ignored == "1 empty class such as train/cow/ (add images to it)"


def test_a_folder_of_nothing_but_heic_says_so(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.HEIC").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"classes in train/, 0; .*ignored: 2 files such as train/cat"
    ):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_damaged_image(kind, root):
    file = root / "train" / "dog" / "007.png"
    file.write_bytes(file.read_bytes()[:60])
    path = root if kind == "folder" else zipped(root)
    with pytest.raises(DataError, match=r"train/dog/007.png in .* is no whole PNG, JPEG or WebP"):
        read(path)


def test_an_image_of_another_kind(root):
    draw(root / "train" / "dog" / "007.png", 0, format="GIF")
    with pytest.raises(DataError, match=r"train/dog/007.png in .* is no whole PNG, JPEG or WebP"):
        read(root)
    Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(root / "train" / "dog" / "007.png")
    with pytest.raises(DataError, match=r"pixels of mode I;16, expected 8 bits per channel"):
        read(root)


def test_the_first_image_of_another_size_is_named_with_both_sizes(root):
    draw(root / "train" / "dog" / "005.png", 0, (5, 6, 3))
    draw(root / "train" / "dog" / "009.png", 0, (4, 7, 3))
    sizes = r"train/dog/005.png in .* \(height, width\) \(5, 6\), expected \(4, 6\)"
    with pytest.raises(DataError, match=sizes):
        read(root)


def test_test_images_are_decoded_when_the_split_is_opened(root):
    path, said = root / "test" / "cat" / "000.png", r"test/cat/000.png in .* is no whole PNG, JPEG"
    path.write_bytes(path.read_bytes()[:50])
    found = read(root)
    with pytest.raises(DataError, match=said):
        found.open_test()
    # What is no picture at all is said before anything is trained.
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=said):
        read(root)


@pytest.mark.parametrize("split", ["val", "test"])
def test_classes_that_differ_between_splits(split, root):
    draw(root / split / "cow" / "000.png", 0)
    with pytest.raises(DataError, match=rf"'cow' has images in {split}/ and none in train/"):
        read(root)
    (root / split / "cow" / "000.png").rename(root / "train" / "cat" / "cow.png")
    for file in (root / split / "dog").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=rf"'dog' has images in train/ and none in {split}/"):
        read(root)


def test_what_is_no_folder_of_images(tmp_path):
    with pytest.raises(DataError, match=r"no folder or .zip file at .*/missing; expected one with"):
        read(tmp_path / "missing")
    (tmp_path / "text.zip").write_text("not a .zip")
    with pytest.raises(DataError, match=r"neither a folder nor a whole .zip file .*; expected tra"):
        read(tmp_path / "text.zip")
    with pytest.raises(DataError, match=r"too few classes in train/, 0; expected two or more"):
        read(tmp_path)
    draw(tmp_path / "train" / "only" / "000.png", 0)
    with pytest.raises(DataError, match=r"too few classes in train/, 1; expected two or more"):
        read(tmp_path)


def test_a_zip_whose_end_or_middle_is_damaged(root):
    path = zipped(root)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"neither a folder nor a whole .zip file"):
        read(path)
    # The last entry of the archive, which is the first test image, with a byte turned over.
    end = whole.index(b"PK\x01\x02") - 20
    path.write_bytes(whole[:end] + bytes([whole[end] ^ 255]) + whole[end + 1 :])
    with pytest.raises(DataError, match=r"test/cat/000.png in .* no whole PNG, JPEG or WebP"):
        read(path)


@pytest.mark.slow
def test_sixty_thousand_jpeg_files_in_a_zip(shared):
    found = read(shared / "data" / "cifar10_jpeg.zip")
    test = found.open_test()
    assert [len(split) for split in (found.train, found.search, test)] == [45_000, 5_000, 10_000]
    assert found.image_shape == (32, 32, 3)
    assert np.array_equal(np.bincount(found.search.labels), [500] * 10)
