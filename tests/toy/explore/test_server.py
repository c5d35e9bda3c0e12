"""The server as a page speaks to it, and as others may try to."""

import http.client
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from toy.explore.server import MOST_SESSIONS


def get(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"host": f"127.0.0.1:{port}", **headers})
    answer = connection.getresponse()
    return answer, answer.read().decode()


def trainings():
    return sum(thread.name.startswith(("train ", "session")) for thread in threading.enumerate())


def wait_until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    assert holds()


def test_the_page_and_its_files_name_no_other_address(server):
    for path in ("/", "/static/main.js", "/static/style.css", "/static/drawing.css", "/replay", "/catalogue"):
        answer, text = get(server, path)
        assert answer.status == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        for word in ("https://", "http://", "//cdn"):
            assert word not in text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    "headers", [{"host": "lake.example"}, {"host": "127.0.0.1:1"}, {"origin": "http://lake.example"}]
)
def test_other_hosts_and_origins_get_nothing(server, headers):
    answer, text = get(server, "/catalogue", **headers)
    assert answer.status == 403
    assert "methods" not in text


@pytest.mark.parametrize("origin", ["http://lake.example", "null", None])
def test_a_page_from_elsewhere_cannot_open_a_socket(open_page, origin):
    with pytest.raises(InvalidStatus), open_page(origin=origin):
        pass


@pytest.mark.parametrize("path", ["/static/../server.py", "/static/%2e%2e/server.py", "/../../etc/passwd"])
def test_no_other_file_can_be_read(server, path):
    assert get(server, path)[0].status == 404


def test_a_page_trains_and_pauses_at_its_number_of_updates(open_page):
    with open_page() as page:
        page.ask()
        run, first = page.hear("run"), page.frame(0)
        assert [method["name"] for method in run["methods"]] == ["sft", "ift"]
        page.send("play")
        page.hear("state", until=lambda message: message["state"] == "paused" and message["update"] == 6)
        page.send("step")
        last = page.frame(7)
        for name in ("sft", "ift"):
            curves = [frame["methods"][name]["curves"] for frame in (first, last)]
            assert curves[1]["travelled"][0] > curves[0]["travelled"][0] == 0
            assert curves[1]["policy_mse"][0] < curves[0]["policy_mse"][0]
        page.send("reset")
        assert page.frame(0)["methods"] == first["methods"]


def test_a_bad_message_is_answered_by_name_and_the_run_goes_on(open_page):
    with open_page() as page, open_page() as other:
        for each in (page, other):
            each.ask()
            each.frame(0)
        for text in ("", "{", '{"type": "format"}', b"\x00\xff"):
            page.connection.send(text)
            assert "message must be" in page.hear("refused")["message"]
        page.ask(map="SHF/HHF/FFG")
        assert "no goal can be reached" in page.hear("refused")["message"]
        page.ask(settings={"seeds": 10**9})
        assert "seeds must be at most 64" in page.hear("refused")["message"]
        for each in (page, other):
            each.send("step")
            each.frame(1)


def test_answers_come_in_the_order_of_the_messages(open_page):
    with open_page() as page:
        page.ask()
        page.ask(map="SHF/HHF/FFG")
        kinds = [page.hear("run", "refused")["type"] for _ in range(2)]
        assert kinds == ["run", "refused"]


def test_a_message_before_any_lake_is_answered(open_page):
    with open_page() as page:
        page.send("play")
        assert "there is no lake yet" in page.hear("refused")["message"]


def test_a_message_that_is_too_long_ends_its_page_only(open_page):
    with open_page() as page, open_page() as other:
        page.send("x" * 100_000)
        with pytest.raises(ConnectionClosed):
            page.hear("never")
        other.ask()
        other.frame(0)


def test_a_flood_of_messages_is_answered(open_page):
    with open_page() as page:
        for _ in range(150):
            page.send("pause")
        page.hear("refused", until=lambda message: "more slowly" in message["message"])


def test_a_closed_page_stops_its_training(open_page):
    wait_until(lambda: trainings() == 0)
    with open_page() as page:
        page.ask(settings={"seeds": 2, "steps": 20_000})
        page.send("play")
        page.frame(3)
        assert trainings() == 3  # the session and its two methods
    wait_until(lambda: trainings() == 0)


def test_one_page_too_many_is_told_so(open_page):
    wait_until(lambda: trainings() == 0)
    pages = [open_page() for _ in range(MOST_SESSIONS)]
    try:
        for page in pages:
            page.__enter__()
        with open_page() as page:
            assert f"{MOST_SESSIONS} pages are open" in page.hear("refused")["message"]
    finally:
        for page in pages:
            page.__exit__(None, None, None)
    wait_until(lambda: trainings() == 0)


def test_the_lake_and_the_numbers_may_change_on_the_way(open_page):
    with open_page() as page:
        page.ask()
        page.send("step")
        before = page.frame(1)
        page.ask(numbers={"ift.lam": 0.9}, settings={"seeds": 3, "steps": 6, "lr": 0.2})
        run = page.hear("run", until=lambda message: not message["anew"])
        assert run["methods"][1]["numbers"]["lam"] == 0.9
        assert run["changed"] == ["a number changed at update 1"]
        page.send("step")
        quick = page.frame(2)
        page.ask(map="SFF/FFF/FFG")
        run = page.hear("run", until=lambda message: not message["anew"])
        assert run["changed"][-1] == "the lake changed at update 2"
        after = page.frame(2)
        assert after["methods"]["sft"]["policy"][0] == quick["methods"]["sft"]["policy"][0]  # as they were
        assert after["methods"]["sft"]["curves"]["policy_mse"] != quick["methods"]["sft"]["curves"]["policy_mse"]
        travelled = [frame["methods"]["sft"]["curves"]["travelled"][0] for frame in (before, quick)]
        assert travelled[1] > 3 * travelled[0]  # the new step size counts
        page.ask(settings={"seeds": 2})
        assert page.hear("run")["anew"]


def test_a_training_that_fails_is_told_and_does_not_end_the_page(open_page, monkeypatch):
    with open_page() as page:
        page.ask()
        page.frame(0)

        def fail(self):
            raise RuntimeError("out of ice")

        monkeypatch.setattr("toy.explore.training.Run.advance", fail)
        page.send("step")
        assert "out of ice" in page.hear("refused")["message"]
        monkeypatch.undo()
        page.send("reset")
        page.frame(0)


def test_a_step_that_is_too_long_says_how_many_runs_broke(open_page):
    with open_page() as page:
        page.ask(settings={"seeds": 3, "lr": 100.0, "optimizer": "sgd"}, methods=["sft", "ipo"])
        page.send("play")
        page.hear("frame", until=lambda frame: frame["methods"]["ipo"]["stopped"] == 3)


def test_frames_give_way_when_nobody_takes_them():
    import asyncio

    from toy.explore.server import Outbox

    async def fill():
        outbox = Outbox()
        for update in range(50):
            outbox._put({"type": "frame", "update": update})
        outbox._put({"type": "saved"})
        return list(outbox._waiting)

    waiting = asyncio.run(fill())
    assert [message.get("update", message["type"]) for message in waiting] == [48, 49, "saved"]
