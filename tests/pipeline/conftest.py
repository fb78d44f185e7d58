"""What the tests of the pipeline share."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline.scripts import Programs


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """No program yet, but this Python."""
    return Programs(tmp_path)
