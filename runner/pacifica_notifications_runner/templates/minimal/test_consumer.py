"""Run with pytest, in an environment that has the requirements; pacifica-notifications-consumer brings the fixtures."""


def test_names_are_sent_back(pacifica_consumer, pacifica_notification):
    """The new transaction has one file, with the names of those of the old one."""
    notification = pacifica_notification({"a.txt": "one", "spectra/b.bin": b"\0"})
    result = pacifica_consumer.run(notification)
    assert result.files == {"names.txt": b"a.txt\nspectra/b.bin\n"}
