"""The consumer archive: packing, extracting and checking."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .archive import ArchiveLimits, Consumer, digest, open_archive
    from .checks import Finding, Level, Match, check_imports, check_loops, check_notification, check_parts
    from .packing import PackedArchive, open_consumer, pack
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(
        __name__,
        archive="ArchiveLimits Consumer digest open_archive",
        checks="Finding Level Match check_imports check_loops check_notification check_parts",
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
