"""What people have in their folders that Pillow does not read, told by content: what it is, what to do."""

from __future__ import annotations

import io

_CONVERT = "images are not read; convert to JPEG or PNG"
_FRAMES = "videos are not read; save their frames as JPEG or PNG"
_UNPACK = "archives are not unpacked; unpack it and take it out of the folder"

# fmt: off
# (offset, magic bytes, name, advice); the first that fits.
_KNOWN = (
    (0, b"\xff\x0a", "JPEG XL", _CONVERT),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL", _CONVERT),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000", _CONVERT),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", _CONVERT),
    (0, b"\0\0\x01\0", "ICO", _CONVERT),
    (0, b"icns", "ICNS", _CONVERT),
    (0, b"8BPS", "Photoshop", _CONVERT),
    (0, b"gimp xcf", "GIMP", _CONVERT),
    (0, b"v/1\x01", "OpenEXR", _CONVERT),
    (0, b"SIMPLE  =", "FITS", _CONVERT),
    (0, b"DDS ", "DDS", _CONVERT),
    (128, b"DICM", "DICOM", _CONVERT),
    (0, b"%PDF", "PDF", _CONVERT),
    (0, b"%!PS", "PostScript", _CONVERT),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript", _CONVERT),
    (0, b"<svg", "SVG", _CONVERT),
    (0, b"IIRO", "raw camera", _CONVERT),
    (0, b"IIRS", "raw camera", _CONVERT),
    (0, b"IIU\0", "raw camera", _CONVERT),
    (0, b"FOVb", "raw camera", _CONVERT),
    (0, b"FUJIFILMCCD-RAW", "raw camera", _CONVERT),
    (4, b"ftypcrx", "raw camera", _CONVERT),
    (0, b"\x1aE\xdf\xa3", "WebM and Matroska", _FRAMES),
    (8, b"AVI ", "AVI", _FRAMES),
    (0, b"\0\0\x01\xba", "MPEG", _FRAMES),
    (4, b"ftyp", "MP4 and QuickTime", _FRAMES),
    (4, b"moov", "MP4 and QuickTime", _FRAMES),
    (4, b"mdat", "MP4 and QuickTime", _FRAMES),
    (0, b"PK\3\4", "ZIP", _UNPACK),
    (0, b"PK\5\6", "ZIP", _UNPACK),
    (0, b"Rar!", "RAR", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", _UNPACK),
    (0, b"\x1f\x8b", "gzip", _UNPACK),
    (0, b"BZh", "bzip2", _UNPACK),
    (0, b"\xfd7zXZ\0", "xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard", _UNPACK),
    (257, b"ustar", "tar", _UNPACK),
)

# What begins like an image that is read, and yet could not be opened.
_BEGINNINGS = (
    (0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG\r\n\x1a\n", "PNG"), (0, b"GIF8", "GIF"), (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (4, b"ftypavi", "AVIF"),
)
# fmt: on

HEIF_SUFFIXES = (".heic", ".heif")

_SUBFILE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 262, 330, 50706
_SENSOR = (32803, 34892)  # the photometric interpretations of a colour filter array and of linear raw


def foreign(raw: bytes) -> str | None:
    """What a file is that holds no image for this package, and what to do; None if that is not known."""
    for offset, magic, name, advice in _KNOWN:
        if raw.startswith(magic, offset):
            return f"{name} {advice}"
    head = raw[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    return f"SVG {_CONVERT}" if head.startswith(b"<?xml") and b"<svg" in head else None


def beginning(raw: bytes) -> str | None:
    """The format that `raw` begins like, whatever follows; None if that is none of those read."""
    return next((name for offset, magic, name in _BEGINNINGS if raw.startswith(magic, offset)), None)


def is_heif(raw: bytes) -> bool:
    """Whether `raw` is an HEIC or HEIF image. AVIF has the same container, and `mif1` names both."""
    if raw[4:8] != b"ftyp":
        return False
    brands = raw[8 : min(int.from_bytes(raw[:4], "big"), 256)]
    return brands[:3] in (b"hei", b"hev") or (brands[:4] in (b"mif1", b"msf1") and b"avif" not in brands)


def heif_reader() -> str:
    """The reader of HEIF images and its version; "none" where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"pillow-heif {version('pillow-heif')}"
    except PackageNotFoundError:
        return "none"


def is_raw_photo(raw: bytes) -> bool:
    """Whether a TIFF is what a camera's sensor saw, such as DNG, CR2, NEF or ARW.

    What can be opened of one is its preview, often of a few pixels.
    """
    if raw[:4] not in (b"II*\0", b"MM\0*"):
        return False
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    if raw[8:10] == b"CR":
        return True
    try:
        tags = ImageFileDirectory_v2(raw[:8])
        stream = io.BytesIO(raw)
        stream.seek(tags.next)
        tags.load(stream)
        preview = bool(tags.get(_SUBFILE, 0) & 1) and _SUB_IFDS in tags
        return preview or _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _SENSOR
    except Exception:  # no TIFF either; the decoder finds out
        return False
