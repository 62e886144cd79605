"""Test suites for adapters, which need pytest, Hypothesis and pytest-trio.

The tests and fixtures are asynchronous: set `trio_mode = true` in pytest's configuration.
"""

import pytest

for _name in ("bus_contract", "storage_contract", "storage_programs"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")
