"""Few at a time, in order, and a full line is refused."""

import threading
import time

import pytest

from app import gate
from app.gate import Gate
from rdi_keras.errors import InputError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gate, "LOOK_SECONDS", 0.01)


def test_never_more_inside_than_there_are_places_and_first_come_first_served():
    door, inside, most, order, came = Gate(places=2, line=20), 0, 0, [], []
    lock = threading.Lock()

    def visit(number):
        nonlocal inside, most
        with door.entered():
            with lock:
                inside += 1
                most = max(most, inside)
                order.append(number)
            time.sleep(0.02)
            with lock:
                inside -= 1

    threads = []
    for number in range(10):
        threads.append(threading.Thread(target=visit, args=(number,)))
        threads[-1].start()
        came.append(number)
        time.sleep(0.005)
    for each in threads:
        each.join(10)
    assert most == 2
    assert sorted(order) == came
    assert max(abs(place - number) for place, number in enumerate(order)) <= 1


def test_who_waits_is_told_how_many_are_ahead_and_may_leave():
    door, told = Gate(places=1, line=5), []

    class LeftError(Exception):
        pass

    def leave(ahead):
        told.append(ahead)
        raise LeftError

    with door.entered():
        with pytest.raises(LeftError), door.entered(leave):
            pass
        assert told == [1]
    with door.entered(leave):  # Nobody is ahead now, and the line is empty.
        pass


def test_a_full_line_is_refused_in_words():
    door, done = Gate(places=1, line=1), threading.Event()

    def wait():
        with door.entered():
            pass
        done.set()

    with door.entered():
        thread = threading.Thread(target=wait)
        thread.start()
        while not door._waiting:
            time.sleep(0.005)
        with pytest.raises(InputError, match="2 other visitors"), door.entered():
            pass
    assert done.wait(10)


def test_an_error_inside_gives_the_place_back():
    door = Gate(places=1, line=1)
    with pytest.raises(ZeroDivisionError), door.entered():
        raise ZeroDivisionError
    with door.entered():
        pass
