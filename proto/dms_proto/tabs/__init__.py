"""What calls of services cost: tabs, running accounts agreed once and signed as they add up."""
