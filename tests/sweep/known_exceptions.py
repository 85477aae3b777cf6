"""What is known not to work, by name, with the reason: (family, model type) -> stage -> why.

An entry that works by now has to go: the sweep says so. Those of `PACKAGES` may work where the package is.
"""

from engine.protocol import Family

_PAIRS = "small projections beside attention and MLP are counted as norm and residual"
_LISTS = "it keeps attentions, norms and MLPs in lists of their own: there is no module that is a layer"
_POSITIONS = (
    "it counts positions from behind its padding's, as it was trained to; generate() tells it to count from 0"
)
_BLANK = "it predicts at a blank that generate() appends: the engine refuses it"
_SOUND = "it reads sound: the engine refuses it"
_SEQ2SEQ = "its checkpoints are encoder–decoders: it is examined as one"

_D, _S, _E = Family.DECODER, Family.ENCODER_DECODER, Family.ENCODER

_ENTRIES: tuple[tuple[Family, str, str, tuple[str, ...]], ...] = (
    # ------------------------------------------------------------ not built
    (_D, "build", "a part of a model for music: the engine refuses it", ("musicgen", "musicgen_melody")),
    (_D, "build", _SOUND, ("whisper",)),
    (_D, "build", _BLANK, ("xlm", "xlnet")),
    (_D, "build", "transformers' own default configuration is not valid", ("gemma4_assistant",)),
    (_D, "build", "it drafts for another model, out of that one's cache", ("gemma4_unified_assistant",)),
    (_D, "build", "needs the packages timm and pillow", ("gemma3n",)),
    (
        _S,
        "build",
        _SOUND,
        ("audioflamingo3", "glmasr", "granite_speech", "granite_speech_plus", "musicflamingo"),
    ),
    (
        _S,
        "build",
        _SOUND,
        ("moss_transcribe_diarize", "nemo_speechlm", "qwen2_audio", "qwen3_asr", "vibevoice_asr"),
    ),
    (_S, "build", _SOUND, ("voxtral", "voxtral_realtime")),
    (_E, "build", _SEQ2SEQ, ("bart", "mbart", "mvp")),
    (_E, "build", "its default configuration is a decoder's: it is examined as one", ("reformer",)),
    # ------------------------------------------------------------ not run
    (_D, "run", "generate() itself fails: BltConfig has no num_hidden_layers", ("blt",)),
    (
        _E,
        "run",
        "it reads and answers its full length only, whatever the length of the input",
        ("perceiver",),
    ),
    # ------------------------------------------------------------ phases not complete
    (_D, "phases", _PAIRS, ("gemma3n_text", "gemma4", "gemma4_text", "zamba", "zamba2")),
    (_E, "phases", _PAIRS, ("mobilebert",)),
    (_E, "phases", _LISTS, ("flaubert", "xlm")),
    (_D, "phases", "two stacks of layers take turns, again and again", ("hrm_text",)),
    (_E, "phases", "its encoder keeps layers in blocks: only its decoder's are found", ("funnel",)),
    (_E, "phases", "its MLP begins with a convolution", ("squeezebert",)),
    # ------------------------------------------------------------ other tokens than generate()
    (_D, "tokens", _POSITIONS, ("camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xmod")),
    (_D, "tokens", _POSITIONS, ("xlm-roberta", "xlm-roberta-xl")),
    (
        _D,
        "tokens",
        "generate() with its cache and without it differ, too; ours are those without",
        ("cpmant",),
    ),
)

#: What works where a package is that transformers asks for.
PACKAGES: frozenset[tuple[Family, str]] = frozenset({(_D, "gemma3n")})


def _by_type() -> dict[tuple[Family, str], dict[str, str]]:
    known: dict[tuple[Family, str], dict[str, str]] = {}
    for family, stage, reason, model_types in _ENTRIES:
        for model_type in model_types:
            known.setdefault((family, model_type), {})[stage] = reason
    return known


KNOWN = _by_type()
