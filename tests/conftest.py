"""Hypothesis profiles: ``dev`` explores anew each time, ``ci`` repeats the same examples."""

import os

from hypothesis import HealthCheck, settings

# Simulators and shared machines make single examples slow now and then; that is no failure.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
