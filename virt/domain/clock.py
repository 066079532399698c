"""The guest's time: the clock that it starts with, and the timers that it counts by."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, element, yes_no


class ClockOffset(StrEnum):
    UTC = "utc"
    LOCALTIME = "localtime"  # what Windows takes the hardware clock for
    VARIABLE = "variable"  # `basis` and `adjustment_s` off it, which follows what the guest sets


class ClockBasis(StrEnum):
    UTC = "utc"
    LOCALTIME = "localtime"


class TimerName(StrEnum):
    PIT = "pit"
    RTC = "rtc"
    HPET = "hpet"
    HYPERVCLOCK = "hypervclock"
    KVMCLOCK = "kvmclock"
    TSC = "tsc"


class TickPolicy(StrEnum):
    """What becomes of ticks that the guest missed while it was not scheduled. QEMU has no other."""

    DELAY = "delay"  # they come late, at the usual rate
    CATCHUP = "catchup"  # they come faster until the guest is up to date
    DISCARD = "discard"  # they are lost


class TimerTrack(StrEnum):
    """Which clock the RTC follows. QEMU has no other."""

    GUEST = "guest"  # stands still with the guest
    WALL = "wall"
    REALTIME = "realtime"


@dataclass(frozen=True, kw_only=True)
class TimerConfig(Config):
    """One of the machine's timers.

        <timer name="rtc" tickpolicy="catchup" track="guest"/>
        <timer name="hpet" present="no"/>
        <timer name="tsc" frequency="2400000000"/>

    https://libvirt.org/formatdomain.html#time-keeping
    """

    name: TimerName
    tick_policy: TickPolicy | None = None
    track: TimerTrack | None = None
    present: bool | None = None
    frequency_hz: int | None = None

    def to_element(self) -> etree._Element:
        return element(
            "timer",
            name=self.name,
            present=yes_no(self.present),
            tickpolicy=self.tick_policy,
            track=self.track,
            frequency=self.frequency_hz,
        )


@dataclass(frozen=True, kw_only=True)
class ClockConfig(Config):
    """The clock that the guest starts with.

        <clock offset="variable" adjustment="3600" basis="utc">
          <timer …/>
        </clock>

    https://libvirt.org/formatdomain.html#time-keeping
    """

    offset: ClockOffset
    basis: ClockBasis | None = None
    adjustment_s: int | None = None
    timers: tuple[TimerConfig, ...] = ()

    def to_element(self) -> etree._Element:
        return element(
            "clock",
            [timer.to_element() for timer in self.timers],
            offset=self.offset,
            adjustment=self.adjustment_s,
            basis=self.basis,
        )
