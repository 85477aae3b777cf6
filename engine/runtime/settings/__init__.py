"""All settings that can be switched on a live model, in on-screen order."""

from engine.runtime.settings.attention import Attention
from engine.runtime.settings.base import Setting
from engine.runtime.settings.compilation import Compile
from engine.runtime.settings.cuda_graphs import CudaGraphs
from engine.runtime.settings.decoding import NUMBERS, SAMPLING_PLACE, TOP_P_METHOD, Strategy
from engine.runtime.settings.execution import PrefillChunk, Threads
from engine.runtime.settings.grad_mode import GradMode
from engine.runtime.settings.instrumentation import AutoDetail, DetailLevel
from engine.runtime.settings.kv_cache import KvCache, KvWindow
from engine.runtime.settings.matmul_precision import MatmulPrecision
from engine.runtime.settings.precision import Precision
from engine.runtime.settings.pruning import HEAD_PRUNING, MLP_PRUNING, LayerSkipping, Sparsity
from engine.runtime.settings.quantization import Quantization
from engine.runtime.settings.read_back import ReadBack
from engine.runtime.settings.speculation import DraftLength, DraftModel, Speculation
from engine.runtime.settings.together import BATCH, BEAMS

ALL: tuple[Setting, ...] = (
    Precision(),
    MatmulPrecision(),
    Quantization(),
    MLP_PRUNING,
    HEAD_PRUNING,
    LayerSkipping(),
    Sparsity(),
    Attention(),
    KvCache(),
    KvWindow(),
    Threads(),
    PrefillChunk(),
    GradMode(),
    Compile(),
    CudaGraphs(),
    ReadBack(),
    Strategy(),
    *NUMBERS,
    TOP_P_METHOD,
    SAMPLING_PLACE,
    BEAMS,
    DraftModel(),
    Speculation(),
    DraftLength(),
    BATCH,
    DetailLevel(),
    AutoDetail(),
)
