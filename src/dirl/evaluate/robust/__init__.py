"""How an encoder bears what scanners, stains, hospitals and angles do to a tile."""
