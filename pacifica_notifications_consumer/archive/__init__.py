"""The consumer archive: packing, extracting and checking."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .archive import ArchiveLimits, Consumer, digest, open_archive
    from .checks import check_parts
    from .filter_checks import Match, check_loops, check_notification
    from .findings import Finding, Level
    from .import_checks import check_imports
    from .packing import PackedArchive, open_consumer, pack
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(
        __name__,
        archive="ArchiveLimits Consumer digest open_archive",
        checks="check_parts",
        filter_checks="Match check_loops check_notification",
        findings="Finding Level",
        import_checks="check_imports",
        packing="PackedArchive open_consumer pack",
    )

__all__ = [
    "ArchiveLimits",
    "Consumer",
    "Finding",
    "Level",
    "Match",
    "PackedArchive",
    "check_imports",
    "check_loops",
    "check_notification",
    "check_parts",
    "digest",
    "open_archive",
    "open_consumer",
    "pack",
]
