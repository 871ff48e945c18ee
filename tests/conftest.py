"""Settings of the whole suite."""

import os
import tempfile

from hypothesis import settings

# trackio reads it when it is first imported, by whichever test that is.
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio")

# A deadline is a timed assertion, which a busy machine fails.
settings.register_profile("llm_jepa", deadline=None)
settings.load_profile("llm_jepa")
