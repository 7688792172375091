"""Names of what configs ask for."""


def type_name(settings):
    """Name of the type of a part of a config, without its scope; new-style configs give the class itself."""
    kind = (settings or {}).get('type') or ''
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__
