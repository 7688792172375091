"""Labels find a place of their own."""
from convnext_mm.drawing.labels import covered_area, place_label


def test_labels_keep_off_each_other():
    """Five instances at nearly the same place, as a detector's duplicates are."""
    canvas, taken = (640, 533), []
    for i in range(5):
        box = (200 + 3 * i, 200 + 3 * i, 330 + 3 * i, 300 + 3 * i)
        place = place_label((95, 19), box, taken, canvas)
        assert place[0] >= 0 and place[2] <= canvas[0] and place[1] >= 0 and place[3] <= canvas[1]
        assert not any(covered_area(place, other) for other in taken), i
        taken.append(place)
    crowded = [place_label((95, 19), (0, 0, 20, 20), taken, (100, 20)) for _ in range(2)]
    assert crowded[0] == crowded[1], 'where there is no room, the least bad place'


def test_first_choice_is_above_the_upper_left_corner():
    assert place_label((50, 20), (100, 100, 200, 200), [], (640, 640)) == (100, 80, 150, 100)
    assert place_label((50, 20), (100, 5, 200, 200), [], (640, 640)) == (100, 0, 150, 20)
    assert place_label((50, 20), (600, 100, 640, 200), [], (640, 640)) == (590, 80, 640, 100)
