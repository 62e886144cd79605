"""What somebody who writes an adapter tests it with; needs pytest, Hypothesis and pytest-trio.

The suites' tests and fixtures are asynchronous: pytest's configuration must say `trio_mode = true`.
"""

import pytest

for _name in ("bus_contract", "storage_contract", "storage_programs"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")
