"""What tests of pages do on them, and read off them."""

from streamlit.testing.v1 import AppTest


def texts(page: AppTest) -> str:
    """All that the page says in words."""
    kinds = (page.markdown, page.caption, page.info, page.error, page.warning, page.success, page.subheader)
    boxes = [each.proto.body for each in page.get("html")]
    return "\n".join([*(element.value for kind in kinds for element in kind), *boxes]).replace("\\", "")


def metrics(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def press(page: AppTest, label: str) -> AppTest:
    page = next(each for each in page.button if each.label == label).click().run()
    assert not page.exception
    return page


def upload(page: AppTest, *files: tuple[str, bytes]) -> AppTest:
    page.segmented_control(key="image_source").set_value("My images").run()
    page.file_uploader(key="upload").set_value([(name, data, "image/png") for name, data in files]).run()
    assert not page.exception
    return page


def attacked(page: AppTest, **settings) -> AppTest:
    for key, value in settings.items():
        kind = page.slider if isinstance(value, int) else page.selectbox
        kind(key=key).set_value(value).run()
    return press(page, "Attack")
