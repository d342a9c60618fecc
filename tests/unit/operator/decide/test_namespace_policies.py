"""NetworkPolicies of a namespace with many agents."""

from subterra_operator.decide.namespace_policies import namespace_policies
from subterra_operator.settings import Endpoint, NetworkSettings, OpenAISettings, Settings


def test_agents_of_a_namespace_share_the_writes_and_their_digests() -> None:
    first, second = (namespace_policies("demo", Settings()) for _ in range(2))
    assert first
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert [write.digest for write in namespace_policies("other", Settings())] != [write.digest for write in first]


def test_other_settings_make_other_policies() -> None:
    open_hub = Settings(network=NetworkSettings(hub_cidrs=("10.0.0.0/8",)))
    teacher = Settings(openai=OpenAISettings(endpoints=(Endpoint(base_url="http://t.models.svc/v1", namespace="models"),)))
    digests = {tuple(write.digest for write in namespace_policies("demo", each)) for each in (Settings(), open_hub, teacher)}
    assert len(digests) == 3
    assert namespace_policies("demo", Settings(network=NetworkSettings(enabled=False))) == ()
