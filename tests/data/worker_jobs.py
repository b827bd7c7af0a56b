"""What workers do in `test_workers.py`: each imports this module by its name, and must not wait for pytest.

A job is (what to do, a number).
"""

import os
import signal
import sys
import time
from typing import Any

from simpipe.errors import DataError

Job = tuple[str, int]


def work(job: Job) -> Any:
    what, number = job
    match what:
        case "hang":
            time.sleep(60)
        case "spin":
            while True:
                pass
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(0)
        case "quit":
            sys.exit(3)
        case "allocate":
            return len(bytearray(number))
        case "raise":
            raise DataError(f"no {number}", hint="mend it")
        case "divide":
            return number / 0
        case "raise_locally":
            raise type("Local", (Exception,), {})(number)
        case "unsendable":
            return lambda: None
        case "who":
            return os.getpid()
        case "slow":
            time.sleep(0.002)
        case "nap":
            time.sleep(0.05)
        case "talk":
            print("words on stdout")
            os.write(2, b"words on stderr")
        case "large":
            return bytes(number)
    return number * number


def loaded(name: str) -> bool:
    import simpipe.data.examine  # noqa: F401

    return name in sys.modules
