from __future__ import annotations

import pytest

from dms.calls.libraries import library_wanted


@pytest.mark.parametrize(
    ("written", "library"),
    [("numpy", "numpy"), ("Scikit_Learn == 1.5", "scikit-learn==1.5"), ("zope.interface==6.0", "zope-interface==6.0")],
)
def test_a_requirement_is_read_as_machines_name_their_packages(written: str, library: str) -> None:
    assert library_wanted(written) == library
