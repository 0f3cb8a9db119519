"""Downloading and uploading the files of transactions."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .downloader import download
    from .uploader import upload
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, downloader="download", uploader="upload")

__all__ = ["download", "upload"]
