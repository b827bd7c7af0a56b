import struct
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from pictures import encoded, photo

from simpipe.data.quiet import quiet


def warn_as(module: str, text: str) -> None:
    warnings.warn_explicit(text, UserWarning, "somewhere.py", 1, module=module)


def test_warnings_are_kept_by_the_thread_that_they_are_of() -> None:
    inside, leave = threading.Barrier(3), threading.Event()
    kept: dict[str, list[str]] = {}

    def decode(name: str) -> None:
        with quiet() as caught:
            inside.wait(10)
            for _ in range(2):  # the second is not lost, as it is by default
                warn_as("PIL.TiffImagePlugin", f"of {name}")
            leave.wait(10)
        kept[name] = caught

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        filters = warnings.filters[:]
        show = warnings.showwarning
        threads = [threading.Thread(target=decode, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        inside.wait(10)
        warn_as("PIL.TiffImagePlugin", "of a thread that is not in it")
        warn_as("somebody", "of somebody else")
        leave.set()
        for thread in threads:
            thread.join(10)
        assert warnings.filters == filters and warnings.showwarning is show
    assert kept == {"a": ["of a"] * 2, "b": ["of b"] * 2}
    assert [str(each.message) for each in shown] == ["of a thread that is not in it", "of somebody else"]


def test_a_warning_of_a_decoder_is_no_error_even_where_warnings_are() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet() as caught:
            warn_as("PIL.Image", "hello")
        assert caught == ["hello"]
        with pytest.raises(UserWarning, match="hello"):
            warn_as("PIL.Image", "hello")


def test_an_error_puts_the_filters_back() -> None:
    filters = warnings.filters[:]
    with pytest.raises(ZeroDivisionError), quiet():
        _ = 1 // 0
    assert warnings.filters == filters


def test_nothing_reaches_the_screen_of_a_fresh_process(tmp_path: Path) -> None:
    """Where no logging is set up, Python shows errors of any logger by itself."""
    strange = bytearray(encoded(photo(1), "TIFF"))
    entry = strange.index(struct.pack("<HHI", 277, 3, 1))  # samples per pixel
    strange[entry + 8 : entry + 10] = struct.pack("<H", 57_603)
    packed = encoded(photo(1), "TIFF", compression="tiff_deflate")
    (tmp_path / "strange").write_bytes(strange)
    (tmp_path / "rotten").write_bytes(packed[:100] + b"\xff" * 50 + packed[150:])
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from simpipe.data.decode import BadImage, decode\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        decode(Path(path).read_bytes(), 1e6)\n"
        "    except BadImage as error:\n"
        "        print(error.reason)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "strange"), str(tmp_path / "rotten")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["decode_error"] * 2
    assert done.stderr == ""
