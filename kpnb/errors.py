"""The one exception kpnb raises for input it cannot work with."""


class KpnbError(ValueError):
    """Bad input, data or state; the message is one sentence: what is wrong and what to do."""
