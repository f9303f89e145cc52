"""Tests of the package alone: no server, no process, no clock. They run on every Python: ``make pythons``."""

import os

from hypothesis import HealthCheck, Phase, settings

# A machine that has other things to do is no finding: time is not what these tests are about.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _COMMON, max_examples=50)
settings.register_profile("long", _COMMON, max_examples=20_000)
# For those who want to know whether there is a failure, and not which: ``python -m tests.fuzz.mutants``.
settings.register_profile("unshrunk", _COMMON, max_examples=50, database=None,
                          phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
