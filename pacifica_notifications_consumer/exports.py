"""The public names of a package, each loaded when first used."""

import sys

# The name is what type checkers go by; importing typing would take longer than importing the whole package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def lazy(package: str, /, **modules: str) -> "tuple[Callable[[str], object], Callable[[], list[str]]]":
    """Make the ``__getattr__`` and the ``__dir__`` of a package (PEP 562).

    Type checkers must not see the two, or they would take every name for one of the package's; they see imports.

    Args:
        package: Its ``__name__``.
        modules: For each of its modules the public names that are in it, with spaces between them. None of the names
            may also be that of a module: importing the module would hide it.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Importing importlib takes as long as importing the package, too.
        from importlib import import_module

        value: object = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return load, names
