"""The session file: what was measured, written down as it happens, and read back as the same events.

A file is one SQLite database, in WAL mode while it is written and a single file afterwards. `PRAGMA application_id` is
0x43594347 ("CYCG"), `PRAGMA user_version` is 1000 × major + minor of the format. It holds one session: what the engine
said from the loading of a model to the loading of another. All tables are STRICT. Times are ns of one monotonic clock
(`perf_counter`); `metadata` says what it showed (`started_ns`) at which time of day (`started_at`).

Tables:

    metadata     key, value: program, protocol, python, platform, front, pid, model, device, title, description, pinned,
                 started_at, started_ns, ended_at (missing: the session was interrupted, or goes on)
    steps        step: its number in the file, from 0; begin_ns; wall_ns; a column for each field of
                 engine.protocol.StepEnded (`index` is called step_index); a column for each phase, `<phase>_ns`, by the
                 host's clock: they sum to wall_ns; gaps: the times between neighbouring stamps as little-endian
                 uint32 ns, or as int64 where the blob is twice as long
    tokens       token: its number in the file, from 0; step; id, text, arrival_ns, sequence
    events       event: its number in the file; step: how many steps came before it; at_ns; kind: the name of a class of
                 engine.protocol; body: its fields as JSON
    layout_gaps  what the gaps of a step of a layout are: gap, of so many gaps, phase, layer (-1: none), role, name
    packed       (since 1.1) the numbers of the steps and tokens once more, some thousand rows a blob, which this
                 program reads in place of the rows: block; source: steps or tokens; count: of rows; columns: their
                 names; numbers: see engine.trace.recording.packed. Whoever changes rows has to empty this table.

Views, for those who read with SQL: models, configurations, settings, layouts, generations, marks, joins, alternations,
sameness, beams, results, memory, telemetry, device_telemetry, captures, notes, failures; step_gaps and step_layers take
the blobs apart, some milliseconds a step: for a few hundred steps. For many, with numpy:

    gaps = np.frombuffer(blob, "<u4" if len(blob) == 4 * count else "<i8")

where `count` is layout_gaps.gaps. What sensors said, 4 times a second, and what captured steps were made of are events:
the views memory, telemetry, device_telemetry and captures have their fields by column. Steps and tokens have columns of
their own since there are thousands a second. What an engine says of other things (models on this machine, prompts that
are being typed) is not recorded.

A session can be changed when it is over: its metadata, and notes on its steps, which are events like all others (the
latest on a step counts, and one without text removes it; the view `notes` has what is left, by steps.step_index).

A file is read as input from a stranger: see engine.trace.recording.opening and .checking.
"""

from engine.trace.recording.errors import RecordingError as RecordingError
from engine.trace.recording.preface import preface as preface
from engine.trace.recording.reading import read_metadata as read_metadata
from engine.trace.recording.reading import read_session as read_session
from engine.trace.recording.reading import read_trace as read_trace
from engine.trace.recording.recorded import RecordedSession as RecordedSession
from engine.trace.recording.recorder import Recorder as Recorder
