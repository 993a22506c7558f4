"""For the reference: the function ``agents.search``, which a folder of the same name hides."""

from typing import Any

import griffe


class Functions(griffe.Extension):
    """Puts it beside the folder, as ``agents.search_``; pages show its own name."""

    def on_package(self, *, pkg: griffe.Module, **others: Any) -> None:
        """Called when a whole package was read."""
        if isinstance(pkg.filepath, list):
            return
        code, parser = pkg.filepath.read_text(), griffe.Parser.google
        alone = griffe.visit(pkg.name, pkg.filepath, code, docstring_parser=parser)
        for name, function in alone.functions.items():
            if name in pkg.modules:
                pkg.set_member(f"{name}_", function)
