"""The cycle model without hardware: order, monotony, and one program counted by hand.

That the prediction equals the hardware is tested in ``tests/test_equivalence.py``.
"""

from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.scheduler import schedule
from nupes.compiler.program import compile
from nupes.compiler.timing.timeline import predict
from nupes.model.network import IntegerNetwork
from tests.compiler.test_program import ARRAYS
from tests.networks import networks


@given(networks(), ARRAYS, st.integers(1, 100))
def test_time_flows(network: IntegerNetwork, config: ArrayConfig, latency: int) -> None:
    plan = schedule(network, config)
    timeline = predict(plan, config, latency)
    steps = [step for step in plan.steps if step.count]
    assert len(timeline.first_issue) == len(timeline.final_issue) == len(steps)
    assert len(timeline.marks) == len(network.layers)
    previous = 0
    for step, first, final in zip(steps, timeline.first_issue, timeline.final_issue, strict=True):
        assert first > previous
        assert final >= first + step.count * step.per_pixel - 1
        previous = final
    assert timeline.cycles > previous
    marked = [
        first
        for step, first in zip(steps, timeline.first_issue, strict=True)
        if step.fields["mark"]
    ]
    assert list(timeline.marks) == marked


@given(networks(), ARRAYS, st.integers(1, 100))
def test_a_slower_memory_never_saves_time(
    network: IntegerNetwork, config: ArrayConfig, latency: int
) -> None:
    plan = schedule(network, config)
    assert predict(plan, config, latency).cycles <= predict(plan, config, latency + 1).cycles


@given(networks(), st.integers(1, 60))
def test_latency_is_an_argument_of_compile(network: IntegerNetwork, latency: int) -> None:
    config = ArrayConfig(4, 4)
    program = compile(network, config, latency)
    assert program.latency == latency
    assert program.timeline == predict(schedule(network, config), config, latency)
