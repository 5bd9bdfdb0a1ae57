"""Progress off a terminal: plain lines with what is done, the rate and the remaining time."""

from __future__ import annotations

import re

import pytest

from diffusion_cli.errors import Interrupted
from diffusion_cli.runs import session
from diffusion_cli.runs.session import Lines, Session
from diffusion_cli.runs.signals import Stop


def test_a_line_every_so_often(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps a second, from step 100 of 1100, as a clock of our own has it: 21 seconds are two hundred steps."""
    now = 0.0
    monkeypatch.setattr(session.time, "monotonic", lambda: now)
    caplog.set_level("INFO")
    with Lines(1100, 100, "step", lambda: None) as lines:
        for k in range(1, 410):
            now = k / 10
            lines.set_postfix_str("loss 0.5", refresh=False)
            lines.update()
    assert caplog.messages == [
        "step 300 of 1100, loss 0.5, 10 a second, 80 s left",
        "step 500 of 1100, loss 0.5, 10 a second, 60 s left",
    ]


def test_off_a_terminal_and_for_a_job_among_others_there_are_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with Session(Stop(), alone=False).bar(3, unit="pair") as bar:
        bar.every = 0.0
        bar.update(2)
    assert re.fullmatch(r"pair 2 of 3, [\d.e+]+ a second, 0 s left", caplog.messages[0])


def test_an_update_stops_where_a_signal_has_come() -> None:
    stop = Stop()
    bars = [Session(stop).bar(3), Session(stop).bar(3, stops=False)]
    stop.signum = 15
    bars[1].update()
    with pytest.raises(Interrupted):
        bars[0].update()


def test_a_phase_says_its_name_and_every_so_often_how_long_it_has_taken(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(session.time, "monotonic", lambda: now)
    caplog.set_level("INFO")
    stop = Stop()
    with Session(stop).phase("sampling") as tick:
        for k in range(500):
            now = k / 10
            tick()
        stop.signum = 15
        with pytest.raises(Interrupted):
            tick()
    assert caplog.messages == ["sampling", "sampling: 20 s so far", "sampling: 40 s so far"]
