"""`python -m tests.integration.bed`: start the bed, tell where everything is, and keep it until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import time

from tests.integration.bed import Bed


def main() -> None:
    """Run the command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt), Bed() as bed:
        print(f"The services run after {time.monotonic() - started:.1f} s, their files in {bed.directory}:")
        for service, url in bed.urls.items():
            print(f"  {service:<18} {url}")
        print("For an entry-point run by hand:")
        for name, value in bed.environ().items():
            print(f"  export {name}={value}")
        print("Ctrl-C ends them.", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
