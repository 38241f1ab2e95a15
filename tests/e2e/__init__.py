"""Commands of runsc over busybox bundles. Each case ends with a search for leftovers."""
import importlib
import os
import pkgutil

import sandbox
from cases import Registry, Skip  # noqa: F401

registry = Registry()


def cases():
    for module in pkgutil.iter_modules([os.path.dirname(__file__)]):
        importlib.import_module("e2e." + module.name)
    return registry.rows


def prepare(out, chosen):
    del chosen
    sandbox.guest_root(out)
    return out


def private(env, out):
    """The root of the bundles of one case, which writes to it."""
    return sandbox.private_root(env, out, programs=False)
