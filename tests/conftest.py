"""Property tests draw the same examples on every machine and every run, and may take their time on a busy one."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "overage", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("overage")
