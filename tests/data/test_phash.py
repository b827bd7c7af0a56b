import numpy as np
import scipy.fft
from pictures import encoded, photo
from PIL import Image

from simpipe.data.decode import decode
from simpipe.data.phash import hash_grey, miniature, perceptual_hash


def distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_hash_against_scipy() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 32, 32), dtype=np.uint8)
    hashes = hash_grey(grey)
    assert hashes.dtype == np.uint64 and hashes.shape == (20,)
    for image, found in zip(grey, hashes, strict=True):
        low = scipy.fft.dctn(image.astype(float), norm="ortho")[1:9, 1:9].ravel()
        bits = "".join(str(int(value > np.median(low))) for value in low)
        assert int(found) == int(bits, 2)
        assert int(found).bit_count() == 32


def test_copies_are_near_and_other_pictures_far() -> None:
    originals = [photo(seed, 120, 90) for seed in range(30)]
    hashes = [perceptual_hash(image) for image in originals]
    moved = []
    for image, known in zip(originals, hashes, strict=True):
        again = decode(encoded(image, quality=60), 10**6)
        smaller = image.resize((60, 45), Image.Resampling.BILINEAR)
        moved += [distance(known, perceptual_hash(copy)) for copy in (again, smaller)]
        assert np.abs(miniature(image).astype(int) - miniature(again)).mean() < 3
    assert max(moved) <= 8 and np.mean(moved) <= 2
    apart = [distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 10


def test_a_picture_without_detail_has_the_hash_zero() -> None:
    for level in (0, 1, 127, 255):
        flat = Image.new("RGB", (50, 40), (level, 255 - level, 9))
        assert perceptual_hash(flat) == 0
        assert (miniature(flat) == [level, 255 - level, 9]).all()
    assert miniature(flat).shape == (16, 16, 3)
