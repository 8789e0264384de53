"""Every fault by which a file can be refused is in the reference."""

from pathlib import Path

from dms.audit.faults import FaultCode

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "audit-file.md"


def test_every_fault_is_explained_in_the_reference() -> None:
    text = PAGE.read_text()

    assert [code for code in FaultCode if f"| `{code}` |" not in text] == []
