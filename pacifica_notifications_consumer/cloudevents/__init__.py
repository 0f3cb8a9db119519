"""CloudEvents: notifications, their versions and modes, and their validation."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .notification import FileRecord, Notification
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, notification="FileRecord Notification")

__all__ = ["FileRecord", "Notification"]
