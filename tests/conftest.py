"""Hypothesis tries the same examples in every run and in any time, so that main does not fail by chance.

`make faults` looks further: it sets HYPOTHESIS_PROFILE=explore, and each run tries other examples.
"""

import os

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
