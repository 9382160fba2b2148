"""The project's read-only reference data, where a checkout has it: tests that need it skip, with a reason, elsewhere."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("SERVECAST_SHARED") or Path(__file__).resolve().parents[2] / "shared")

needs_shared = pytest.mark.skipif(
    not (SHARED / "servegen").is_dir(),
    reason=f"reference data not found at {SHARED.name}/ beside the checkout; set SERVECAST_SHARED",
)
