"""What is wanted of engines outlives each of them."""

from engine.protocol import Generate, GenerationStarted, Load, Prompt, Turn
from gui.wishes import WantedGenerations, WantedModel


def begun(number: int, prompt: str, dropped: int = 0) -> GenerationStarted:
    return GenerationStarted(number, 0, 0, prompt, (1,), 8, dropped)


def test_a_model_is_wanted_with_what_was_asked_for_of_settings_since() -> None:
    wanted = WantedModel()
    assert wanted.load_as_set() is None
    wanted.want(Load("tiny", "cpu", (("precision", "bfloat16"), ("placement", "cpu"))))
    wanted.change((("attention", "eager"), ("engine_place", "thread")))
    assert wanted.settings == (("attention", "eager"), ("precision", "bfloat16"))
    assert wanted.load_as_set() == Load("tiny", "cpu", wanted.settings)


def test_a_load_that_was_given_up_can_be_wanted_again() -> None:
    wanted = WantedModel()
    wanted.want(Load("big"))
    wanted.give_up()
    assert wanted.load is None
    assert wanted.load_as_set() is None
    assert wanted.last == Load("big")


def test_a_generation_is_known_by_its_text_and_what_was_sent_before_came_to_nothing() -> None:
    wanted = WantedGenerations()
    refused, ran = Generate(Prompt("refused")), Generate(Prompt("one\n\ntwo"))
    wanted.sent(refused)
    wanted.sent(ran)
    wanted.begun(begun(4, "one\ntwo"))
    assert wanted.command_of(4) is ran
    wanted.begun(begun(5, "refused"))
    assert wanted.command_of(5) is None
    assert wanted.latest is ran


def test_a_chat_is_known_by_its_last_turn_and_what_was_cut_by_its_order() -> None:
    wanted = WantedGenerations()
    chat, long = Generate(Prompt(turns=(Turn("user", " Hello "),))), Generate(Prompt("very long"))
    wanted.sent(chat)
    wanted.begun(begun(0, "<user>Hello<end>"))
    wanted.sent(long)
    wanted.begun(begun(1, "long", dropped=7))
    assert (wanted.command_of(0), wanted.command_of(1)) == (chat, long)


def test_another_engine_counts_anew_unless_the_trace_goes_on() -> None:
    wanted = WantedGenerations()
    command = Generate(Prompt("a"))
    wanted.sent(command)
    wanted.begun(begun(0, "a"))
    wanted.begin_anew(goes_on=True)
    assert wanted.command_of(0) is command
    wanted.begin_anew(goes_on=False)
    assert wanted.command_of(0) is None
    assert wanted.latest is command
