"""The configuration of the services of the bed: one INI file for each, and one for its web server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: The services with a web server of their own, and how many threads that may have.
#: archiveinterface keeps one open file in a process, and uniqueid reads and then writes, so those two have one.
THREADS = {
    "uniqueid": 1,
    "metadata": 8,
    "policy": 8,
    "archiveinterface": 1,
    "cartd": 8,
    "ingest": 8,
    "notifications": 8,
    "proxy": 8,
}
#: Those with workers beside it.
WORKERS = ("cartd", "ingest", "notifications")
#: Those with a database, and its name at PostgreSQL.
DATABASES = {service: f"pacifica_{service}" for service in ("cartd", "ingest", "notifications", "metadata", "uniqueid")}


def write_configuration(directory: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """Write the files of all services.

    Args:
        directory: The bed's directory; the files go to ``etc`` in it.
        ports: On which port each service, ``postgres`` and ``redis`` listen.

    Returns:
        The environment variables that lead the services to their files.
    """
    etc = directory / "etc"
    etc.mkdir()
    environ = {}
    for service, sections in _sections(directory, ports).items():
        (etc / f"{service}.ini").write_text(
            "\n".join(f"[{name}]\n{_lines(values)}" for name, values in sections.items())
        )
        (etc / f"{service}.cp.ini").write_text(_web_server(service, ports[service]))
        environ[f"{service.upper()}_CONFIG"] = str(etc / f"{service}.ini")
        environ[f"{service.upper()}_CPCONFIG"] = str(etc / f"{service}.cp.ini")
    return environ


def _lines(values: Mapping[str, object]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in values.items())


def _sections(directory: Path, ports: Mapping[str, int]) -> dict[str, dict[str, dict[str, object]]]:
    urls = {service: f"http://127.0.0.1:{port}" for service, port in ports.items()}

    def database(service: str) -> dict[str, object]:
        # SQLite would do for uniqueid, but cartd's workers lock each other out of it and lose carts.
        return {"peewee_url": f"postgres://pacifica@127.0.0.1:{ports['postgres']}/{DATABASES[service]}"}

    def celery(number: int) -> dict[str, object]:
        return {"broker_url": f"redis://127.0.0.1:{ports['redis']}/{number}", "backend_url": "rpc://"}

    return {
        "uniqueid": {"database": database("uniqueid")},
        "metadata": {
            "database": database("metadata"),
            "notifications": {"url": f"{urls['notifications']}/receive"},
        },
        "policy": {"metadata": {"endpoint_url": urls["metadata"], "status_url": f"{urls['metadata']}/groups"}},
        "archiveinterface": {"posix": {"use_id2filename": "false"}},
        "cartd": {
            "cartd": {"volume_path": f"{directory / 'cart'}/"},
            "database": database("cartd"),
            "archiveinterface": {"url": f"{urls['archiveinterface']}/"},
            "celery": celery(1),
        },
        "ingest": {
            "ingest": {"volume_path": directory / "ingest"},
            "database": database("ingest"),
            "uniqueid": {"url": urls["uniqueid"]},
            "policy": {"ingest_url": f"{urls['policy']}/ingest"},
            "archiveinterface": {"url": urls["archiveinterface"]},
            "metadata": {"ingest_url": f"{urls['metadata']}/ingest"},
            "celery": celery(2),
        },
        "notifications": {
            "notifications": {"policy_url": urls["policy"]},
            "database": database("notifications"),
            "celery": celery(3),
        },
        "proxy": {
            "archiveinterface": {"url": urls["archiveinterface"]},
            "metadata": {"url": urls["metadata"]},
        },
    }


def _web_server(service: str, port: int) -> str:
    settings: dict[str, object] = {
        "log.screen": True,
        "engine.autoreload.on": False,
        "server.socket_host": "'127.0.0.1'",
        "server.socket_port": port,
        "server.thread_pool": THREADS[service],
        # Else uploads above 100 MB are refused.
        "server.max_request_body_size": 0,
        "server.socket_timeout": 60,
    }
    if service not in ("notifications", "proxy"):  # as in the files that the services come with
        settings["tools.response_headers.on"] = True
        settings["tools.response_headers.headers"] = [("Content-Type", "application/json")]
    return f"[global]\n{_lines(settings)}\n[/]\nrequest.dispatch = cherrypy.dispatch.MethodDispatcher()\n"
