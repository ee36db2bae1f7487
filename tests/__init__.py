"""The tests, one folder per stage of the flow."""
