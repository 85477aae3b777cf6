"""All settings that can be switched on a live model, in on-screen order."""

from engine.runtime.settings.attention import Attention
from engine.runtime.settings.base import Setting
from engine.runtime.settings.compilation import Compile
from engine.runtime.settings.cuda_graphs import CudaGraphs
from engine.runtime.settings.decoding import NUMBERS, Strategy
from engine.runtime.settings.execution import PrefillChunk, Threads
from engine.runtime.settings.grad_mode import GradMode
from engine.runtime.settings.instrumentation import DetailLevel
from engine.runtime.settings.kv_cache import KvCache, KvWindow
from engine.runtime.settings.precision import Precision

ALL: tuple[Setting, ...] = (
    Precision(),
    Attention(),
    KvCache(),
    KvWindow(),
    Threads(),
    PrefillChunk(),
    GradMode(),
    Compile(),
    CudaGraphs(),
    Strategy(),
    *NUMBERS,
    DetailLevel(),
)
