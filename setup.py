"""Packaging of the library and of its runner, in one distribution."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="pacifica-notifications-consumer",
    version="0.1.0",
    description="Consume the notifications of the Pacifica scientific data management platform",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="LGPL-3.0-or-later",
    python_requires=">=3.11",
    packages=[*find_packages(include=["pacifica_notifications_consumer*"]), *find_packages("runner")],
    package_dir={
        "pacifica_notifications_consumer": "pacifica_notifications_consumer",
        "pacifica_notifications_runner": "runner/pacifica_notifications_runner",
    },
    package_data={
        "pacifica_notifications_consumer": ["py.typed"],
        "pacifica_notifications_runner": ["py.typed", "templates/*/*"],
        "pacifica_notifications_runner.authoring": ["sandbox_page.js"],
        "pacifica_notifications_runner.status": ["style.css", "script.js"],
    },
    install_requires=["attrs>=23.2", "jsonpath2>=0.4.5", "promise>=2.3", "requests>=2.28"],
    extras_require={"gssapi": ["requests-gssapi"], "uv": ["uv>=0.5"], "celery": ["celery[redis]>=5.7"]},
    entry_points={
        "console_scripts": [
            "start-pacifica-notifications-consumer = pacifica_notifications_runner.start:main",
            "pacifica-notifications-consumer = pacifica_notifications_runner.cli:main",
        ],
        "pytest11": ["pacifica = pacifica_notifications_consumer.testing.pytest_plugin"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Programming Language :: Python :: 3.15",
        "Typing :: Typed",
    ],
)
