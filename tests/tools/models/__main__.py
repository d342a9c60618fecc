"""``python -m tests.tools.models``: prints where the models are."""

from tests.tools.models import bundled_models

print(bundled_models())
