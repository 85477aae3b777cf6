"""How long until the window is there, and until the first token is on it, each against the least that could be.

Each run is a process of its own, timed by the wall clock from before it is started; all find compiled bytecode, as
from the second start on (the first, which writes it, is the warm-up). The window is compared with an
empty PySide6 + pyqtgraph window; the first token with a bare script that imports torch and transformers, loads the same
model and generates one token.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from resources import demo_model
from tests.benchmarks.common import interleave, median_ms, ratios, report

MODEL = "demo"
MODEL_FILES = Path(demo_model.__file__).parent / "large"
PROMPT = "The quick brown fox"

EMPTY_WINDOW = """
import time
from PySide6.QtWidgets import QApplication, QMainWindow
import pyqtgraph
application = QApplication([])
window = QMainWindow()
window.setCentralWidget(pyqtgraph.PlotWidget())
window.resize(1440, 900)
window.show()
application.processEvents()
application.processEvents()
print(time.time(), flush=True)
"""

OUR_WINDOW = f"""
import os, time
from gui import app
draw = app._draw
def timed(application, window):
    draw(application, window)
    print(time.time(), flush=True)
    os._exit(0)
app._draw = timed
app.main(["--model", "{MODEL}", "--size", "1440x900", "--place", "process"])
"""

OUR_FIRST_TOKEN = f"""
import os, time
from gui import app
run = app._run
def timed_run(*arguments):  # not sooner: the engine is started before Qt is imported
    from gui.conductor import Conductor
    frame = Conductor.frame
    def timed(self):
        frame(self)
        if len(self.engine.trace.tokens):
            print(time.time(), flush=True)
            self.engine.shut_down()
            os._exit(0)
    Conductor.frame = timed
    return run(*arguments)
app._run = timed_run
app.main(["--model", "{MODEL}", "--prompt", "{PROMPT}", "--size", "1440x900"])
"""

BARE_FIRST_TOKEN = f"""
import time
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(max(1, torch.get_num_threads() - 1))
tokenizer = AutoTokenizer.from_pretrained("{MODEL_FILES}")
model = AutoModelForCausalLM.from_pretrained("{MODEL_FILES}", dtype="float32").eval()
output = model.generate(**tokenizer("{PROMPT}", return_tensors="pt"), max_new_tokens=1, do_sample=False)
print(tokenizer.decode(output[0, -1:]))
print(time.time(), flush=True)
"""

PAIRS = {"window": (EMPTY_WINDOW, OUR_WINDOW), "first_token": (BARE_FIRST_TOKEN, OUR_FIRST_TOKEN)}


def seconds_until(script: str) -> float:
    """Wall seconds from before the process is started until the moment that it prints last."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment.setdefault("DISPLAY", ":none")
    environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    begin = time.time()
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return float(done.stdout.split()[-1]) - begin


def main() -> None:
    """Print one JSON line for each of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=PAIRS)
    options = parser.parse_args()
    for name in (options.only,) if options.only else PAIRS:
        bare, ours = PAIRS[name]
        arms = {"ours": lambda script=ours: seconds_until(script)}
        values = interleave(lambda script=bare: seconds_until(script), arms, options.rounds, warm_up=1)
        report(
            f"startup_{name}", rounds=options.rounds, median_ms=median_ms(values), against_bare=ratios(values)
        )


if __name__ == "__main__":
    main()
