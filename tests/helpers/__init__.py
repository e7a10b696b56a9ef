"""What several test modules share and is no fixture; fixtures are in the nearest ``conftest.py``."""
