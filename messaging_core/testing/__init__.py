"""What somebody who writes an adapter tests it with; needs pytest, hypothesis and pytest-trio."""

import pytest

pytest.register_assert_rewrite("messaging_core.testing.storage_contract")
