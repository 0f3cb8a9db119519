"""Run with pytest, in an environment that has the requirements; pacifica-notifications-consumer brings the fixtures."""


def test_text_becomes_upper_case(pacifica_consumer, pacifica_notification):
    """Of each plain-text file there is one in upper case, and of nothing else."""
    notification = pacifica_notification({"notes/a.txt": "straße\n", "raw.bin": b"\0"})
    result = pacifica_consumer.run(notification)
    assert result.files == {"notes/a.txt": b"STRASSE\n"}


def test_transactions_without_text_are_ignored(pacifica_consumer, pacifica_notification):
    """A transaction without plain text does not match its filter."""
    assert not pacifica_consumer.matches(pacifica_notification({"raw.bin": b"\0"}))
