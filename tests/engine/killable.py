"""`python killable.py ARGUMENTS` is `simpipe ARGUMENTS` with the real stages, and a fault.

`FAULT` is a JSON document: {"number", "action", "root"} for the shim of faults.c, which must be preloaded; or
{"batch": n}, and the process kills itself in the middle of an epoch, after n training batches.
"""

import ctypes
import json
import os
import signal
from collections.abc import Callable
from typing import Any

from simpipe.cli import main


def kill_after_batches(count: int) -> None:
    from simpipe.learning import trainer

    make_step = trainer._training_step

    def counting(*arguments: Any) -> Callable[..., Any]:
        step, done = make_step(*arguments), 0

        def one(features: Any, labels: Any) -> Any:
            nonlocal done
            if done == count:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return step(features, labels)

        return one

    trainer._training_step = counting


if __name__ == "__main__":
    fault = json.loads(os.environ.get("FAULT", "{}"))
    if "batch" in fault:
        kill_after_batches(fault["batch"])
    elif fault:
        shim = ctypes.CDLL(None)
        assert not shim.fault_arm(fault["number"], fault["action"].encode(), os.fsencode(fault["root"]))
    main()
