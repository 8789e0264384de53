"""Property tests here assert laws, never times: on a busy machine an example may take long."""

from hypothesis import HealthCheck, settings

settings.register_profile("laws", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("laws")
