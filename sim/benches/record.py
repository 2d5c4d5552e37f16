"""Runs a bench that is not ours: listed before it in COCOTB_TEST_MODULES, and imported first.

The design is an instance inside a wrapper, so that registers behind its ports can be written; the
bench sees that instance as `dut`. The program around the simulation (sim/foreign/strikes.cpp) is
told when a test has failed, and when all have passed.
"""

import ctypes
import os
from typing import Any

import cocotb
from cocotb.regression import RegressionManager

_end = ctypes.CDLL(None).tercet_end


def _tell(name: str, failed: int) -> None:
    """Before this method of the regression manager runs, tell the program."""
    original = getattr(RegressionManager, name)

    def method(manager: RegressionManager, *args: Any, **kwargs: Any) -> Any:
        _end(failed)
        return original(manager, *args, **kwargs)

    setattr(RegressionManager, name, method)


cocotb.top = cocotb.top[os.environ["TERCET_DESIGN"]]
_tell("_record_test_failed", 1)
_tell("_record_test_init_failed", 1)
_tell("_tear_down", 0)
