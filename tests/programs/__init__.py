"""Real programs over a busybox root and a Debian root."""
import importlib
import os
import pkgutil

from cases import Registry, Skip  # noqa: F401

registry = Registry()


def cases():
    for module in pkgutil.iter_modules([os.path.dirname(__file__)]):
        importlib.import_module("programs." + module.name)
    return registry.rows


def prepare(out, chosen):
    from programs import roots
    return roots.prepare(out, any(".deb_" in c.name or c.name.startswith("debian.") for c in chosen))
