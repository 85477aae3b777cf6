"""Numbers as people read them: the words of engine.trace.units, which files use as well."""

from engine.trace.units import ABSENT as ABSENT
from engine.trace.units import count as count
from engine.trace.units import duration as duration
from engine.trace.units import energy as energy
from engine.trace.units import fine_ratio as fine_ratio
from engine.trace.units import frequency as frequency
from engine.trace.units import microseconds as microseconds
from engine.trace.units import milliseconds as milliseconds
from engine.trace.units import number as number
from engine.trace.units import per_second as per_second
from engine.trace.units import power as power
from engine.trace.units import rate as rate
from engine.trace.units import ratio as ratio
from engine.trace.units import share as share
from engine.trace.units import size as size
from engine.trace.units import temperature as temperature
from engine.trace.units import time_unit as time_unit
from engine.trace.units import visible as visible
