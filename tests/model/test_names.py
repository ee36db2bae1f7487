"""Names that nothing has yet."""

from nupes.model.names import free_name


def test_a_name_that_is_taken_gets_underscores() -> None:
    assert free_name("a", {"b"}) == "a"
    assert free_name("a", {"a", "a_", "a___"}) == "a__"
