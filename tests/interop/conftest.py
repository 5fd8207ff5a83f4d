# SPDX-License-Identifier: Apache-2.0
"""
Fixtures of the tests with foreign peers: those of tests/net (lab, make_lab ...), and two nodes with a pod of weft and
one of Envoy each. weft does not know the pods of Envoy by enrolment, only their Pod objects, as those of any other
node; the Envoys stand in the pods themselves and have certificates of the CA that the weft nodes share.
"""

import importlib.util
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tools", "tools/bench", "tests/net")]

spec = importlib.util.spec_from_file_location("net_conftest", ROOT / "tests/net/conftest.py")
net_conftest = importlib.util.module_from_spec(spec)
sys.modules["net_conftest"] = net_conftest
spec.loader.exec_module(net_conftest)
from net_conftest import *  # noqa: E402, F401, F403: its fixtures and hooks

import envoy  # noqa: E402
from foreign import Foreign  # noqa: E402
from leaks import BUILD  # noqa: E402


def pytest_collection_finish(session):
    if not envoy.binary(BUILD):
        pytest.exit(f"{BUILD} has no Envoy: run make peers first", returncode=1)


@pytest.fixture(scope="module")
def foreign(lab):
    """The Envoys of a lab that foreign.LAB describes."""
    return Foreign(lab)
