"""Settings of the whole suite."""

from hypothesis import settings

# A deadline is a timed assertion, which a busy machine fails.
settings.register_profile("llm_jepa", deadline=None)
settings.load_profile("llm_jepa")
