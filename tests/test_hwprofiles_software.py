"""Software eras: every shipped one loads, and a wrong name says which there are."""

import pytest

from hwprofiles import ProfileError, known_software, load_software
from hwprofiles.software import DEFAULT


def test_every_era_loads_and_says_where_it_is_from():
    for name in known_software():
        era = load_software(name)
        assert era.id == name and era.source and load_software(era) is era


def test_the_default_era_is_shipped():
    assert DEFAULT in known_software()


def test_host_time_grows_with_layers_and_with_the_first_split():
    for era in map(load_software, known_software()):
        assert 0 <= era.host_ms(1, 1) <= era.host_ms(80, 1) <= era.host_ms(80, 2) == era.host_ms(80, 8)


def test_an_unknown_era_is_refused_with_the_nearest():
    with pytest.raises(ProfileError, match="did you mean 'vllm-202"):
        load_software("vllm-2027")
