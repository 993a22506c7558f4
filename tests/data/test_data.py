"""What every data set keeps: disjoint splits, fixed by seed, and augmentation in training only."""

import copy
import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfrl.data import DataError, Dataset, Split, hold_out, load, sources
from pfrl.registry import RegistryError


def no_test_split():
    raise AssertionError("the test split was opened")


def dataset(images, labels=None, **options):
    """A data set whose training images are ``images`` [N, H, W, C] and whose test split is shut."""
    images = np.asarray(images, np.uint8)
    labels = np.arange(len(images)) if labels is None else labels
    train = Split(images, np.asarray(labels, np.int32))
    mean, std = (0.5,) * images.shape[-1], (0.25,) * images.shape[-1]
    return Dataset(
        "toy", train, train.take(slice(1)), no_test_split, ("a", "b"), mean, std, **options
    )


def fingerprints(*splits):
    """Images and labels as sorted bytes: equal lists mean equal collections, in any order."""
    return sorted(
        image.tobytes() + bytes([label])
        for split in splits
        for image, label in zip(split.images, split.labels, strict=True)
    )


@pytest.fixture(scope="module")
def fashion():
    places = (*sources.FASHION_FOLDERS, sources.cache_folder() / "fashion-mnist")
    if not all(any((folder / name).is_file() for folder in places) for name in sources.FASHION_MD5):
        pytest.skip("Fashion-MNIST is not on this machine (Debian: dataset-fashion-mnist)")
    return load("fashion_mnist")


def test_digits_are_parted_without_loss_or_overlap():
    from sklearn.datasets import load_digits

    digits = load("digits")
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    test = digits.open_test()
    assert [len(split) for split in (digits.train, digits.search, test)] == [1077, 360, 360]
    assert fingerprints(digits.train, digits.search, test) == fingerprints(Split(images, labels))
    for split in (digits.search, test):
        expected = np.bincount(labels) * (360 / 1797)
        assert np.abs(np.bincount(split.labels) - expected).max() < 1
    assert digits.train.images.dtype == np.uint8
    assert digits.train.labels.dtype == np.int32


def test_fashion_mnist_is_parted_without_loss_or_overlap(fashion):
    archive = Split(
        sources._read_idx(sources._fashion_file("train-images-idx3-ubyte.gz"))[..., None],
        sources._read_idx(sources._fashion_file("train-labels-idx1-ubyte.gz")),
    )
    assert fingerprints(fashion.train, fashion.search) == fingerprints(archive)
    assert np.array_equal(np.bincount(fashion.train.labels), [5500] * 10)
    assert np.array_equal(np.bincount(fashion.search.labels), [500] * 10)
    test = fashion.open_test()
    assert test.images.shape == (10_000, 28, 28, 1)
    assert np.array_equal(np.bincount(test.labels), [1000] * 10)


# The weights that come with the package were trained on these training splits: were an image to
# move from the training to the search split, every reward would be flattered.
def test_splits_stay_what_they_were_when_the_weights_were_trained(fashion):
    found = [
        hashlib.md5(split.images.tobytes(), usedforsecurity=False).hexdigest()
        for split in (load("digits").train, fashion.train)
    ]
    assert found == ["a0cac5c318ccfbb6140c40d8832d9a03", "e3f490c93968845264e0fdc618f62f41"]


def test_the_search_images_of_cifar_stay_those_that_its_weights_have_not_seen():
    search = sources._cifar_search(np.arange(50_000) % 10)
    found = hashlib.md5(np.packbits(search).tobytes(), usedforsecurity=False).hexdigest()
    assert (search.sum(), found) == (5_000, "b78668835217cb6682a63670222bd0bc")


def test_splits_do_not_depend_on_the_global_generator():
    np.random.seed(1)
    one = load("digits").search.images
    np.random.seed(2)
    assert np.array_equal(one, load("digits").search.images)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_hold_out_takes_one_share_of_every_class(sizes, share, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = round(share * len(labels))
    rest, held = hold_out(labels, count, np.random.default_rng(seed))
    assert len(held) == count
    assert np.array_equal(np.sort(np.r_[rest, held]), np.arange(len(labels)))
    # There is a share t with |held of a class - t * size| < 1 for every class.
    taken, sizes = np.bincount(labels[held], minlength=len(sizes)), np.asarray(sizes)
    assert ((taken - 1) / sizes).max() < ((taken + 1) / sizes).min()


def test_a_data_set_can_be_sent_to_another_process():
    digits = load("digits")
    for copied in (copy.deepcopy(digits), pickle.loads(pickle.dumps(digits))):
        assert np.array_equal(copied.open_test().images, digits.open_test().images)


def test_a_folder_without_its_kind_is_told_its_names(tmp_path):
    for name in (str(tmp_path), f"{tmp_path}?size=48"):
        with pytest.raises(DataError, match=f"its kind is missing: give imagefolder:{tmp_path} "):
            load(name)


def test_an_unknown_data_set():
    with pytest.raises(RegistryError, match=r"unknown dataset 'mnist'; expected one of .*digits, "):
        load("mnist")


def test_normalize_by_hand():
    # mean 0.5, std 0.25: black is -2, white is +2, and 51 = 0.2 * 255 is (0.2 - 0.5) / 0.25 = -1.2.
    toy = dataset([[[[0], [255], [51]]]])
    normalized = toy.normalize(toy.train.images)
    np.testing.assert_allclose(normalized, [[[[-2], [2], [-1.2]]]], rtol=1e-6)
    assert normalized.dtype == np.float32


def test_augmentation_is_fixed_by_its_generator():
    digits = load("digits")
    images = digits.train.images[:64]
    one, same, other = (digits.augment(images, np.random.default_rng(s)) for s in (0, 0, 1))
    assert one.shape == images.shape
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_crops_are_the_windows_of_the_padded_image():
    image = np.asarray([[1, 2, 3], [4, 5, 6]])
    toy = dataset(np.repeat(image[None, :, :, None], 400, 0), crop=1, flip=False)
    padded = np.pad(image, 1)
    windows = {padded[i : i + 2, j : j + 3].tobytes() for i in range(3) for j in range(3)}
    crops = toy.augment(toy.train.images, np.random.default_rng(0))[..., 0].astype(padded.dtype)
    assert {crop.tobytes() for crop in crops} == windows


def test_half_of_the_images_are_mirrored():
    toy = dataset(np.repeat([[[[1], [2]]]], 1000, 0), crop=0, flip=True)
    pairs = toy.augment(toy.train.images, np.random.default_rng(0))[:, 0, :, 0].tolist()
    mirrored = pairs.count([2, 1])
    assert mirrored + pairs.count([1, 2]) == 1000
    assert 450 < mirrored < 550  # 500 ± 3 standard deviations of 16


def test_training_changes_no_split_and_opens_no_test_split():
    toy = dataset(np.arange(2 * 16).reshape(2, 4, 4, 1))
    before = copy.deepcopy((toy.train, toy.search))
    for _ in toy.training_batches(2, np.random.default_rng(0), 20):
        pass
    for split, old in zip((toy.train, toy.search), before, strict=True):
        assert np.array_equal(split.images, old.images)
        assert np.array_equal(split.labels, old.labels)


def numbered_batches(n, batch, count=None):
    """Labels of the batches of ``n`` images, each of which is as bright as its label says."""
    images = np.broadcast_to(np.arange(n)[:, None, None, None], (n, 1, 1, 1))
    toy = dataset(images, crop=0, flip=False)
    found = []
    for x, labels in toy.training_batches(batch, np.random.default_rng(0), count):
        assert x.shape == (batch, 1, 1, 1)
        np.testing.assert_allclose(x[:, 0, 0, 0], (labels / 255 - 0.5) / 0.25, rtol=1e-5)
        found.append(labels.tolist())
    return found


def test_a_pass_has_every_image_at_most_once_in_batches_of_one_shape():
    batches = numbered_batches(10, 4)
    assert len(batches) == 2
    assert len({label for batch in batches for label in batch}) == 8


def test_more_than_a_pass_shuffles_again():
    batches = numbered_batches(8, 4, 6)
    passes = [batches[0] + batches[1], batches[2] + batches[3], batches[4] + batches[5]]
    assert [sorted(one) for one in passes] == [list(range(8))] * 3
    assert passes[0] != passes[1]


def test_a_batch_that_is_larger_than_the_split_is_drawn_with_replacement():
    batches = numbered_batches(3, 50)
    assert len(batches) == 1
    assert set(batches[0]) == {0, 1, 2}


def test_batches_are_held_as_bytes_and_made_when_they_are_looked_at():
    digits = load("digits")
    held = digits.held_batches(16, np.random.default_rng(0), 3)
    plain = list(digits.training_batches(16, np.random.default_rng(0), 3))
    assert len(held) == 3 and {images.dtype for images, _ in held.parts} == {np.dtype(np.uint8)}
    for found, (images, labels) in zip(held, plain, strict=True):
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], labels)
    assert len(held[1:]) == 2
    *_, (images, labels) = digits.batches(digits.search.take(slice(70)), 32)
    assert images.shape == (32, 8, 8, 1) and images.dtype == np.float32 and len(labels) == 6
    np.testing.assert_array_equal(images[:6], digits.normalize(digits.search.images[64:70]))
    assert not images[6:].any()
