"""Where models come from: presets built here, directories, the Hugging Face cache and hub; and what may go wrong."""
