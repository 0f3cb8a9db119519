"""The public names of a package, each loaded when first used."""

import sys

# Type checkers know this name; importing typing would take longer than importing the whole package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def lazy(package: str, /, **modules: str) -> "tuple[Callable[[str], object], Callable[[], list[str]]]":
    """Make the ``__getattr__`` and the ``__dir__`` of a package (PEP 562).

    Type checkers must see imports instead; with a ``__getattr__`` they would accept every name.

    Args:
        package: The ``__name__`` of the package.
        modules: The public names of each module, separated by spaces. A public name must not be the name of a module,
            because importing the module would hide it.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Imported here, because importing importlib takes as long as importing the package.
        from importlib import import_module

        value: object = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return load, names
