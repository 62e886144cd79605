"""What somebody who writes an adapter tests it with; needs pytest, hypothesis and pytest-trio."""

import pytest

for _name in ("bus_contract", "storage_contract", "storage_programs"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")
