"""Progress off a terminal: plain lines with what is done, the rate and the remaining time."""

from __future__ import annotations

import re
import time

import pytest

from diffusion_cli.errors import Interrupted
from diffusion_cli.runs import session
from diffusion_cli.runs.session import Heartbeat, Lines, Session
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


def test_where_nothing_is_said_a_line_says_what_is_in_hand(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(session.time, "monotonic", lambda: now)
    monkeypatch.setattr(session, "LOOK", 1e6)
    caplog.set_level("INFO")
    stop = Stop()
    with Heartbeat("train") as heartbeat:

        def pass_time(until: int) -> None:
            nonlocal now
            while now < until:
                now += 1
                heartbeat.look()

        pass_time(30)
        with Session(stop).phase("sampling") as tick:
            pass_time(70)
            with Session(stop).bar(3) as bar:
                bar.every = 0
                bar.update()
            pass_time(85)
            stop.signum = 15
            with pytest.raises(Interrupted):
                tick()
        pass_time(120)
    assert [re.sub(", .*", "", message) for message in caplog.messages] == [
        "train: 25 s so far", "sampling", "sampling: 25 s so far", "step 1 of 3", "train: 95 s so far", "train: 120 s so far"
    ]  # fmt: skip


def test_a_heart_beats_through_a_step_that_never_looks_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LOOK", 0.001)
    monkeypatch.setattr(session, "QUIET", 0.0)
    caplog.set_level("INFO")
    with Heartbeat("evaluate"):
        while not caplog.messages:
            time.sleep(0.001)
    assert caplog.messages[0] == "evaluate: 0 s so far" and not session.in_hand
