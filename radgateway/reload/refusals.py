"""Why a configuration that was read is not put in force."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN_MAX = 20


class NeedsRestart(Exception):
    """It changes what a running process can't follow. `paths` names each such key."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        more = f" and {len(paths) - _SHOWN_MAX} more" if len(paths) > _SHOWN_MAX else ""
        super().__init__(
            f"{', '.join(paths[:_SHOWN_MAX])}{more}: needs a restart; nothing was changed. "
            "Restart with this configuration, or take these changes out of it."
        )


class ReloadFailed(Exception):
    """It is valid, and could not be put in force; the message says why. Nothing was changed."""
