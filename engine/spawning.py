"""The engine process is started here. Imports next to nothing, so that a front end can do it before all else."""

import os
import subprocess
import sys
from pathlib import Path

SERVER = "engine.runtime.serve"


def spawn_engine() -> "subprocess.Popen[bytes]":
    """Start an engine process; it takes commands on its standard input (`engine.hosts.ProcessHost` speaks to it).

    It ends by itself when that is closed, thus also when whoever started it is gone.
    """
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
