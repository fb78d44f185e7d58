"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("radgateway", deadline=None)
settings.load_profile("radgateway")

# Failing checks in the shared module show their values, as those in tests do.
pytest.register_assert_rewrite("host_process")
