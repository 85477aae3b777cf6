"""Shows what a demo model writes: `python -m resources.demo_model.samples [large|draft]`, greedy and sampled."""

import argparse

import torch
from transformers import AutoTokenizer, set_seed

from resources.demo_model.evaluate import HERE, load
from resources.demo_model.settings import SEED

PROMPTS = ("def ", "class ", '"""Return', "The ", "import os\nimport ", "    def __init__(self")
NEW_TOKENS = 80


def main() -> None:
    """Print what follows each prompt."""
    parser = argparse.ArgumentParser(description="Shows what a demo model writes.")
    parser.add_argument("model", choices=("large", "draft"), nargs="?", default="large")
    name = parser.parse_args().model
    tokenizer, model = AutoTokenizer.from_pretrained(HERE / name), load(name)
    set_seed(SEED)
    for prompt in PROMPTS:
        for how in ({"do_sample": False}, {"do_sample": True, "temperature": 0.8, "top_k": 0}):
            with torch.inference_mode():
                ids = model.generate(
                    **tokenizer(prompt, return_tensors="pt"), max_new_tokens=NEW_TOKENS, **how
                )
            print(f"--- {prompt!r}, {'sampled' if how['do_sample'] else 'greedy'}")
            print(tokenizer.decode(ids[0]))


if __name__ == "__main__":
    main()
