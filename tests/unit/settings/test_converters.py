"""One set of units serves all settings, both ways, and the texts for people."""

import pytest

from pacifica_notifications_consumer.archive.archive import ArchiveLimits
from pacifica_notifications_consumer.catch_up.catch_up import CatchUpRules
from pacifica_notifications_consumer.jobs.retention import Keep
from pacifica_notifications_consumer.settings.converters import describe_size, show_size, size


@pytest.mark.parametrize(
    ("number", "written", "described"),
    [
        (1, "1", "1 B"),
        (1000001, "1000001", "976.6 KiB"),
        (1536, "1536", "1.5 KiB"),
        (64 << 10, "64K", "64.0 KiB"),
        (20 << 30, "20G", "20.0 GiB"),
        (5000 << 40, "5000T", "5000.0 TiB"),
    ],
)
def test_sizes(number: int, written: str, described: str) -> None:
    """A size is written as it is read, in the largest unit without a remainder, and shown to people in any."""
    assert (show_size(number), describe_size(number)) == (written, described)
    assert size(written) == size(written.lower()) == number


@pytest.mark.parametrize(
    ("text", "age", "count"),
    [("30d", 30 * 86400.0, None), ("1000", None, 1000), ("12h, 5", 43200.0, 5), ("5,12h", 43200.0, 5), ("0", None, 0)],
)
def test_what_is_kept(text: str, age: float | None, count: int | None) -> None:
    """An age, a number, or both in any order."""
    assert Keep.parse(text) == Keep(age=age, count=count)


@pytest.mark.parametrize("text", ["", "30x", "1,2", "1d,2d", "1d,2,3", "-1", "20G"])
def test_what_cannot_be_kept(text: str) -> None:
    """Anything else is refused, with examples."""
    with pytest.raises(ValueError, match="it must be an age such as 30d or 12h, a number of jobs, or both"):
        Keep.parse(text)


def test_docstrings_describe_settings() -> None:
    """The help of a setting is its description in the class's docstring, beside those of other arguments."""
    described = (ArchiveLimits.__doc__ or "").partition("\nArgs:\n")[2].splitlines()
    assert [line.split(":")[0].strip() for line in described] == ["entries", "ratio", "size"]
    assert "    interval: Seconds between two searches" in (CatchUpRules.__doc__ or "")
    assert "if ``policy_url`` is set" in (CatchUpRules.__doc__ or "")
