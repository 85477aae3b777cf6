"""The models that ship with the program: the demo model, which writes, and the draft model that proposes its tokens."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from engine.runtime.models.errors import ModelError


@dataclass(frozen=True, slots=True)
class Demo:
    """A model in `resources`. `folder`: where in resources/demo_model it lies."""

    name: str
    folder: str
    remark: str

    @property
    def directory(self) -> Path:
        """Its files, in Hugging Face form. Raises ModelError when they were not installed."""
        path = Path(str(files("resources"))) / "demo_model" / self.folder
        if not (path / "model.safetensors").is_file():
            raise ModelError(
                f"The files of the model '{self.name}' are missing from this installation ('{path}'):"
                " install Cyclograph again, or choose a preset."
            )
        return path


DEMOS = {
    demo.name: demo
    for demo in (
        Demo("demo", "large", "trained on Python's standard library; writes code and its documentation"),
        Demo("demo-draft", "draft", "proposes tokens for the demo model"),
    )
}


def demo_dtype(device_type: str) -> str:
    """The precision in which a demo model runs unless told otherwise; its weights are stored in 16 bit."""
    return "float32" if device_type == "cpu" else "float16"
