"""What can be asked of the API."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

#: How many jobs or notifications are told of at once.
MOST_LISTED = 1000


@attrs.frozen(kw_only=True)
class Route:
    """Something that can be asked for.

    Args:
        method: The method.
        path: The path; what stands in braces is open.
        name: What it is called, also that of the method of `Api` that answers.
        summary: What it does, in a sentence.
        query: The parameters of the query, with what each means.
        answers: What is answered: the name of a schema, or a media type.
        takes: The name of the schema of what the body says, if there is one.
        refusals: The statuses with which it can be refused, besides 400 and 401.
    """

    method: str
    path: str
    name: str
    summary: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    answers: str
    takes: str = ""
    refusals: tuple[int, ...] = ()

    def match(self, path: str) -> Mapping[str, str] | None:
        """The open parts of a path; None if it is another route's."""
        pattern = re.sub(r"\{(\w+)\}", lambda found: f"(?P<{found[1]}>{_OPEN.get(found[1], '[^/]+')})", self.path)
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


_OPEN = {"path": ".+"}
_PAGE = {
    "limit": f"how many at most, up to {MOST_LISTED}",
    "before": "only those with numbers below this one; the field next of the page before",
}

ROUTES = (
    Route(method="GET", path="/api/status", name="status", summary="How the consumer is.", answers="Status"),
    Route(
        method="GET",
        path="/api/jobs",
        name="jobs",
        summary="The newest jobs, the newest first.",
        query={**_PAGE, "state": "only those in this state"},
        answers="Jobs",
    ),
    Route(method="GET", path="/api/jobs/{id}", name="job", summary="A job.", answers="Job", refusals=(404,)),
    Route(
        method="GET",
        path="/api/jobs/{id}/log",
        name="log",
        summary="What the entry-point has printed in all attempts; with follow until the job ends.",
        query={
            "offset": "the byte to begin with; negative from the end",
            "follow": "yes to go on while the job waits or runs",
        },
        answers="text/plain",
        refusals=(404, 503),
    ),
    Route(
        method="GET",
        path="/api/jobs/{id}/files",
        name="files",
        summary="The files in a job's directory.",
        answers="Files",
        refusals=(404,),
    ),
    Route(
        method="GET",
        path="/api/jobs/{id}/files/{path}",
        name="file",
        summary="One of these files.",
        answers="application/octet-stream",
        refusals=(404,),
    ),
    Route(
        method="POST",
        path="/api/jobs/{id}/retry",
        name="retry",
        summary="Queue a job anew that has ended or failed.",
        answers="Job",
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path="/api/jobs/{id}/cancel",
        name="cancel",
        summary="Cancel a job that waits or is running.",
        answers="Job",
        takes="Cancellation",
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path="/api/replay",
        name="replay",
        summary="Queue all jobs anew that have ended or failed and that all of this holds for.",
        answers="Replayed",
        takes="Selection",
    ),
    Route(
        method="GET",
        path="/api/notifications",
        name="notifications",
        summary="The newest notifications, the newest first.",
        query={**_PAGE, "verdict": "only those of this verdict"},
        answers="Notifications",
    ),
    Route(
        method="GET",
        path="/api/notifications/{id}",
        name="notification",
        summary="A notification.",
        answers="Notification",
        refusals=(404,),
    ),
    Route(
        method="GET",
        path="/api/notifications/{id}/body",
        name="body",
        summary="A notification, byte for byte as it was received.",
        answers="application/octet-stream",
        refusals=(404,),
    ),
    Route(
        method="GET",
        path="/api/openapi.json",
        name="openapi",
        summary="This description.",
        answers="application/json",
    ),
)
