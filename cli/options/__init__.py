"""The flags that commands share: parsed here into one value each, used once."""
