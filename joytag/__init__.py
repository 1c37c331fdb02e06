"""JoyTag's network: `joytag.Models` holds the model, `config.json` the published configuration."""
