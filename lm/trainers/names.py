"""Former names of IFT's options, which work for one version; light, as the command reads it before it imports TRL."""

NEW_NAMES = {
    "propagation": "form",
    "propagation_source": "source",
    "propagation_norm": "norm",
    "propagation_side": "side",
}
