import io
import struct
import tarfile
import zipfile

import pytest
from pictures import encoded, photo
from PIL import TiffImagePlugin

from simpipe.data.decode import BadImage, decode
from simpipe.data.foreign import foreign, is_heif, is_raw_photo
from simpipe.data.quiet import quiet


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("cat/1.jpg", encoded(photo(1)))
    return sink.getvalue()


def tarred() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("cat/1.jpg"))
    return sink.getvalue()


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (zipped(), "archives are not unpacked"),
        (tarred(), "archives are not unpacked"),
        (b"\x1f\x8b\x08" + bytes(20), "archives are not unpacked"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM images are not read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript images"),
        (b"\x1aE\xdf\xa3" + bytes(20), "WebM and Matroska videos"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "MP4 and QuickTime videos"),
        (b"\0\0\0\x14ftypqt  " + bytes(20), "MP4 and QuickTime videos"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(20), "AVI videos"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw camera images"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(20), "raw camera images"),
        (b"\xff\x0a\xfa\x1f\x01", "JPEG XL images"),
        (b"\xff\x4f\xff\x51\0\x29", "JPEG 2000 images"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- -->\n<svg width="9">', "SVG images"),
        (b"%PDF-1.7\n", "PDF images"),
    ],
)
def test_what_people_have_is_called_by_its_name(raw: bytes, told: str) -> None:
    with pytest.raises(BadImage, match=told) as caught:
        decode(raw, 10**6)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize(
    "raw", [b"", b"\0", b"some text", b"<html><body>not found</body></html>", bytes(600)]
)
def test_of_anything_else_nothing_is_claimed(raw: bytes) -> None:
    assert foreign(raw) is None and not is_heif(raw) and not is_raw_photo(raw)


def tiff(tags: dict[int, object], **options: object) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
        info.tagtype[tag] = {330: 4, 50706: 1}.get(tag, 4)
    return encoded(photo(1), "TIFF", tiffinfo=info, **options)


def test_the_preview_in_a_raw_photo_is_not_the_photo() -> None:
    """Pillow opens these as what their first directory holds, a thumbnail."""
    dng = tiff({50706: b"\1\4\0\0"})
    nef = tiff({254: 1, 330: 8})
    cr2 = tiff({})
    cr2 = cr2[:4] + struct.pack("<I", 16) + b"CR\2\0" + bytes(4) + moved(cr2, 8)
    for raw in (dng, nef, cr2):
        assert is_raw_photo(raw)
        with pytest.raises(BadImage, match="raw camera images are not read"):
            decode(raw, 10**6)
    sensor = bytearray(tiff({}))
    entry = sensor.index(struct.pack("<HHIH", 262, 3, 1, 2))
    sensor[entry + 8 : entry + 10] = struct.pack("<H", 32803)
    assert is_raw_photo(bytes(sensor))


def moved(raw: bytes, by: int) -> bytes:
    """All behind the header of a little-endian TIFF with one directory at 8; its offsets are not followed."""
    assert struct.unpack_from("<I", raw, 4) == (8,)
    return raw[8:] + bytes(by)


def test_a_tiff_with_smaller_copies_of_itself_is_read() -> None:
    for raw in (tiff({}), tiff({330: 8}), tiff({254: 1}), tiff({}, compression="tiff_lzw")):
        assert not is_raw_photo(raw)
        assert decode(raw, 10**6).size == (64, 48)
    for broken in (b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"):
        with quiet():
            assert not is_raw_photo(broken)


def test_heif_and_avif_share_a_container() -> None:
    avif = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"
    assert not is_heif(avif) and not is_heif(avif.replace(b"mif1\0", b"avif\0"))
    assert is_heif(avif.replace(b"avif", b"heic"))
    assert is_heif(b"\0\0\0\x18ftypheix\0\0\0\0mif1heix")
