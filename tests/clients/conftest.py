"""Generated cases are the same on every machine, and a slow one is no failure: machines are shared."""

from hypothesis import settings

settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")
