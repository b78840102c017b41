"""What all tests share: the same examples for everybody, one thread, the same random weights."""

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "course", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("course")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
