"""For all tests: generated cases have no time limit of their own, for machines may be busy."""

from hypothesis import settings

settings.register_profile("ovsnet", deadline=None)
settings.load_profile("ovsnet")
