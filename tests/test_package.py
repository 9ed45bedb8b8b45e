import subprocess
import sys

import pytest

import rdi_keras as rdi


def test_importing_the_package_loads_no_tensorflow():
    code = "import sys, rdi_keras, rdi_keras.presets; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_is_there():
    for name in rdi.__all__:
        assert getattr(rdi, name) is not None
    assert set(rdi.__all__) <= set(dir(rdi))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rdi.nothing
